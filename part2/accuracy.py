"""Question 2.1: a network of convolution, BatchNorm, ReLU, pooling and softmax only; how accurate can it be?

Trains it with the procedure of Part 1, unchanged, on images flipped, normalised and cropped as in
question 1.4, and with a square of 8×8 pixels cut out of each. Writes the table of the architecture,
as it is read off the built network.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from common import experiment, options, plots, unaugmented
from common.networks import describe
from common.preprocess import normalize, random_crop, random_cutout, random_flip
from common.records import write_rows
from part2.networks import designed_network


def prepare(images, statistics, generator=None, cutout=8):
    if generator is not None:  # in training only
        images = random_flip(images, generator)
    images = normalize(images, statistics)
    if generator is not None:
        images = random_cutout(random_crop(images, generator), generator, cutout)
    return images


ASKED = 0.68  # test accuracy
UNAUGMENTED = 2000  # training images on which networks are evaluated as they are
EXPERIMENT = experiment.Experiment("2.1", "accuracy", designed_network, prepare, log_gradients=True)


def draw(out):
    plots.accuracy_curves(out, "2.1", "accuracy", "The designed network")


def answer(out):
    """How well it classifies training images as they are, as text."""
    return unaugmented.answer(out, "2.1", [EXPERIMENT])[EXPERIMENT.name]


def main():
    arguments = options.parse(options.parser(__doc__))
    experiment.run(EXPERIMENT, arguments)
    unaugmented.measure("2.1", [EXPERIMENT], arguments, UNAUGMENTED)
    layers = describe(designed_network())
    write_rows(experiment.log_path(arguments.out, "2.1", "architecture"), layers)
    for row in [layers[0].keys(), *(layer.values() for layer in layers)]:
        print("".join(f"{cell:<12}" for cell in row))
    draw(arguments.out)
    print(unaugmented.SUMMARY.format(name="2.1's network", **answer(arguments.out)))


if __name__ == "__main__":
    options.run_script(main)
