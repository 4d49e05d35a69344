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


def main():
    arguments = options.parse(options.parser(__doc__))
    log = accuracy.run(arguments)
    start, end = experiment.start_and_end(log)
    for place, layer in [("first", 0), ("last", -1)]:
        print(
            f"G of the {place} convolution: {start[layer]:.2g} at the first step, "
            f"{end[layer]:.2g} in the last epoch (median)"
        )
    plots.gradient_curves(arguments.out, "2.2", {"": log}, "Magnitude of gradients in the designed network")
    plots.heat_map(arguments.out, "2.2", log, "Magnitude of gradients in the designed network")


if __name__ == "__main__":
    options.run_script(main)
