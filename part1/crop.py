"""Question 1.4: flip and normalize as before, then zero-pad by 4 pixels and crop to 32×32 at random.

Trains Table 1's network with all steps of Part 1. Each image is drawn 20 times, in about 19 of its 2 · 81
versions. So many versions are hard to memorize: training accuracy falls, and test accuracy rises.

Predict before you run: which falls more with each step of Part 1, training accuracy or its gap to test accuracy?
(part1/comparison.py answers it for all four questions.)
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from common import experiment, options, plots, results
from common.networks import table1_network
from common.preprocess import normalize, random_crop, random_flip


def prepare(images, statistics, generator=None):
    if generator is not None:  # in training only
        images = random_flip(images, generator)
    images = normalize(images, statistics)
    if generator is not None:
        images = random_crop(images, generator)
    return images


EXPERIMENT = experiment.Experiment("1.4", "crop", table1_network, prepare)
CURVE = plots.Curve("1.4", "crop", "+ random crop", plots.BLUE, "-", tick="1.4")


def draw(out):
    plots.accuracy_curves(out, CURVE, "Normalized, flipped and cropped")


def answer(out):
    """Test accuracy over the seeds."""
    return results.final_accuracy(CURVE.log(out))


def main():
    arguments = options.parse(options.parser(__doc__))
    experiment.run(EXPERIMENT, arguments)
    draw(arguments.out)
    training = results.last_epoch(CURVE.log(arguments.out), "train_accuracy")
    print(f"training accuracy in the last epoch, on augmented images: {training:.1%}")
    print(plots.drawn(arguments.out))


if __name__ == "__main__":
    options.run_script(main)
