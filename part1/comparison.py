"""Questions 1.1 to 1.4 side by side: do flips and crops reduce overfitting, or are augmented images merely harder?

Augmentation lowers training accuracy, but training accuracy is measured on augmented images. So the final networks of
1.1 to 1.4 are evaluated again on unaugmented training images. The difference from test accuracy is due to overfitting
alone. Networks that have not been trained yet are trained first.

Predict before you run: which reduces overfitting more, flips or crops?
"""

import sys
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from common import experiment, options, overfitting, plots, results
from part1 import crop, flip, normalize, raw

SCRIPTS = {script.EXPERIMENT.name: script for script in (raw, normalize, flip, crop)}


def draw(out):
    curves = [script.CURVE for script in SCRIPTS.values()]
    measured = {name: list(overfitting.accuracies(out, "1.4", name).values()) for name in SCRIPTS}
    unaugmented = {name: accuracies for name, accuracies in measured.items() if accuracies}
    plots.comparison(out, "1_comparison", curves, lowest=40, unaugmented=unaugmented)


def answer(out):
    """Overfitting by experiment; None where it is not measured."""
    return {name: overfitting.of(out, "1.4", script.CURVE.log(out)) for name, script in SCRIPTS.items()}


def main():
    arguments = options.parse(options.parser(__doc__))
    table = results.log_path(arguments.out, "1.4", "overfitting")
    for script in SCRIPTS.values():
        experiment.run(script.EXPERIMENT, arguments)
        measure = partial(overfitting.measure, prepare=script.prepare)
        experiment.measure_trained(script.EXPERIMENT, table, measure, arguments)
    draw(arguments.out)
    for name, found in answer(arguments.out).items():
        print(f"{name}: {found}")
    print(plots.drawn(arguments.out))


if __name__ == "__main__":
    options.run_script(main)
