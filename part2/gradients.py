"""Question 2.2: how large are the gradients in the first and the last convolution while 2.1's network trains?

G = max |∂L/∂w| over a convolution's weights, L the cross-entropy, is logged for every convolution at
every iteration of question 2.1's own run (`magnitudes` in common/gradients.py). This script draws it;
where that run is missing, it is trained first.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from common import experiment, options, plots
from part2 import accuracy


def draw(out):
    log, title = experiment.log_path(out, "2.1", "accuracy"), "The designed network"
    plots.gradient_curves(out, "2.2", {title: log})
    plots.heat_map(out, "2.2", log, title)


def answer(out):
    """G at the first step, and its median over the last epoch, of the first and the last convolution, as text."""
    start, end = experiment.start_and_end(experiment.log_path(out, "2.1", "accuracy"))
    return {place: (f"{start[layer]:.2g}", f"{end[layer]:.2g}") for place, layer in [("first", 0), ("last", -1)]}


def main():
    arguments = options.parse(options.parser(__doc__))
    experiment.run(accuracy.EXPERIMENT, arguments)
    draw(arguments.out)
    for place, (start, end) in answer(arguments.out).items():
        print(f"G of the {place} convolution: {start} at the first step, {end} in the last epoch (median)")


if __name__ == "__main__":
    options.run_script(main)
