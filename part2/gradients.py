"""Question 2.2: how large are the gradients in the first and the last convolution while 2.1's network trains?

G = max |∂L/∂w| over a convolution's weights, where L is the cross-entropy, is logged for every convolution at every
iteration of question 2.1's own run (`magnitudes` in common/gradients.py). This script draws it; where that run is
missing, it is trained first.

Predict before you run: which of the two has the larger gradient?
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from common import experiment, options
from common.plots import drawn
from part2 import accuracy, plots, signals


def draw(out):
    log, title = accuracy.CURVE.log(out), "The designed network"
    plots.gradient_curves(out, "2.2", {title: log})
    plots.heat_map(out, "2.2", log, title)


def answer(out):
    """G at the first step, and its median over the last epoch, of the first and the last convolution."""
    start, end = signals.start_and_end(accuracy.CURVE.log(out))
    return {
        "first": {"start": start[0], "end": end[0]},
        "last": {"start": start[-1], "end": end[-1]},
    }


def main():
    arguments = options.parse(options.parser(__doc__))
    experiment.run(accuracy.EXPERIMENT, arguments)
    draw(arguments.out)
    for place, g in answer(arguments.out).items():
        print(f"G of the {place} convolution: {g['start']:.2g} at the first step, {g['end']:.2g} in the last epoch")
    print(drawn(arguments.out))


if __name__ == "__main__":
    options.run_script(main)
