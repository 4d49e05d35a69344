"""Question 1.1: how well does Table 1's network learn from raw images?

Trains it on pixels as they are stored, intensity levels 0 to 255, changed to floating point and
nothing else. Be mindful of what is fed into the network: uint8 has to become float, and not even a
division by 255 is done, for that would already be a normalization.

The training accuracy drops within each epoch and leaps at its end, once the network learns images by
heart: early in an epoch a batch's images were last seen 50 iterations ago on average, late in it 150.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from common import experiment, options, plots, preprocess, results
from common.networks import table1_network


def prepare(images, statistics, generator=None):
    return preprocess.raw(images)


EXPERIMENT = experiment.Experiment("1.1", "raw", table1_network, prepare)
CURVE = plots.Curve("1.1", "raw", "raw pixels", plots.BLACK, ":", tick="1.1")


def draw(out):
    plots.accuracy_curves(out, CURVE, "Raw pixels")


def answer(out):
    """Test accuracy over the seeds."""
    return results.final_accuracy(CURVE.log(out))


def main():
    arguments = options.parse(options.parser(__doc__))
    experiment.run(EXPERIMENT, arguments)
    draw(arguments.out)
    print(plots.drawn(arguments.out))


if __name__ == "__main__":
    options.run_script(main)
