"""Question 1.1: how well does Table 1's network learn from raw images?

Trains the network on pixels as they are stored: intensity levels from 0 to 255, converted from uint8 to floating point
and not otherwise changed. Dividing by 255 would already be a normalization.

Once the network memorizes images, training accuracy falls within each epoch and jumps at the start of the next:
early in an epoch, the images of a batch were last seen 50 iterations ago on average; late in an epoch, 150.

Predict before you run: how far above the test accuracy does the training accuracy end?
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
    print(f"training accuracy in the last epoch: {results.last_epoch(CURVE.log(arguments.out), 'train_accuracy'):.1%}")
    print(plots.drawn(arguments.out))


if __name__ == "__main__":
    options.run_script(main)
