"""Question 2.1: how accurate can a network of only convolution, BatchNorm, ReLU, pooling and softmax be?

Trains such a network with Part 1's procedure on images that are flipped, normalized and cropped as in
question 1.4, with a square of 8×8 pixels cut out of each. Prints the table of the architecture, read from the network
as built.

Predict before you run: which layers have most of the parameters?
"""

import sys
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from common import experiment, options, overfitting, plots, results
from common.preprocess import normalize, random_crop, random_cutout, random_flip
from common.results import TRAIN_IMAGES
from part2.networks import GhostBatchNorm2d, describe, designed_network

ASKED = 0.68  # test accuracy
OVERFITTING_IMAGES = 2000  # unaugmented training images for evaluation


def prepare(images, statistics, generator=None, cutout=8):
    if generator is not None:  # in training only
        images = random_flip(images, generator)
    images = normalize(images, statistics)
    if generator is not None:
        images = random_cutout(random_crop(images, generator), generator, cutout)
    return images


def with_ghost_batches(images):
    """The designed network with BatchNorm's statistics over `images` images, or the whole batch if it is smaller."""
    network = designed_network()
    for layer in network:
        if isinstance(layer, GhostBatchNorm2d):
            layer.ghost = images
    return network


EXPERIMENT = experiment.Experiment("2.1", "accuracy", designed_network, prepare, log_gradients=True)
ORDINARY = EXPERIMENT._replace(name="ordinary_batchnorm", make_network=partial(with_ghost_batches, TRAIN_IMAGES))
CURVE = plots.Curve("2.1", "accuracy", "designed", plots.BLACK, "-", tick="2.1")


def draw(out):
    plots.accuracy_curves(out, CURVE, "The designed network")


def answer(out):
    """Test accuracy over the seeds, and overfitting, measured on unaugmented training images."""
    log = CURVE.log(out)
    ordinary = results.log_path(out, "2.1", ORDINARY.name)
    return {
        "test": results.final_accuracy(log),
        "ordinary": results.final_accuracy(ordinary) if results.finished(ordinary) else None,
        "overfitting": overfitting.of(out, "2.1", log),
    }


def main():
    parser = options.parser(__doc__)
    text = "control: compute BatchNorm's statistics over the whole batch"
    parser.add_argument("--ordinary-batchnorm", action="store_true", help=text)
    arguments = options.parse(parser)
    if arguments.ordinary_batchnorm:
        experiment.run(ORDINARY, arguments)
        return
    experiment.run(EXPERIMENT, arguments)
    measure = partial(overfitting.measure, prepare=prepare, images=OVERFITTING_IMAGES)
    experiment.measure_trained(EXPERIMENT, results.log_path(arguments.out, "2.1", "overfitting"), measure, arguments)
    layers = describe(designed_network())
    for row in [layers[0].keys(), *(layer.values() for layer in layers)]:
        print("".join(f"{cell:<12}" for cell in row))
    draw(arguments.out)
    print(f"2.1's network: {answer(arguments.out)['overfitting']}")
    print(plots.drawn(arguments.out))


if __name__ == "__main__":
    options.run_script(main)
