"""Questions 1.3 and 1.4: do flips and crops act against overfitting, or are augmented images merely harder?

Augmentation lowers the training accuracy, but that is taken on augmented images. So the networks that 1.1 to
1.4 ended with are shown the training images once more, as they show test images: neither flipped nor cropped.
How much better they classify these than images they have not seen is overfitting, and nothing else. What has
not been trained is trained first.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from common import experiment, options, plots, unaugmented
from part1 import crop, flip, normalize, raw

EXPERIMENTS = [script.EXPERIMENT for script in (raw, normalize, flip, crop)]


def draw(out):
    plots.part1_comparison(out)


def answer(out):
    return unaugmented.answer(out, "1.4", EXPERIMENTS)


def main():
    arguments = options.parse(options.parser(__doc__))
    for each in EXPERIMENTS:
        experiment.run(each, arguments)
    unaugmented.measure("1.4", EXPERIMENTS, arguments)
    draw(arguments.out)
    for name, found in answer(arguments.out).items():
        print(unaugmented.SUMMARY.format(name=name, **found))


if __name__ == "__main__":
    options.run_script(main)
