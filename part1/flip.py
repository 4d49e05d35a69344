"""Question 1.3: in addition to normalization, flip images at random; what does it bring?

Each training image is mirrored left to right with a chance of 50 %, anew each time it is drawn and
before it is normalized. Test images are not flipped. A mirrored car is a car: the network sees two
versions of every image and can learn less of them by heart.
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
    print(plots.drawn(arguments.out))


if __name__ == "__main__":
    options.run_script(main)
