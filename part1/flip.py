"""Question 1.3: in addition to normalization, flip images at random; what is gained?

Each training image is mirrored left to right with probability 1/2, independently each time it is drawn, before it is
normalized. Test images are not flipped. Flips keep the category. The network sees two versions of every image
and memorizes less.

Predict before you run: does the accuracy on training images rise or fall?
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from common import experiment, options, plots, results
from common.networks import table1_network
from common.preprocess import normalize, random_flip


def prepare(images, statistics, generator=None):
    if generator is not None:  # in training only
        images = random_flip(images, generator)
    return normalize(images, statistics)


EXPERIMENT = experiment.Experiment("1.3", "flip", table1_network, prepare)
CURVE = plots.Curve("1.3", "flip", "+ random flip", plots.GREEN, "-.", tick="1.3")


def draw(out):
    plots.accuracy_curves(out, CURVE, "Normalized and flipped")


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
