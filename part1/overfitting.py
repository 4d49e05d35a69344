"""Questions 1.3 and 1.4: do flips and crops act against overfitting, or are augmented images merely harder?

Augmentation lowers the training accuracy, but that is taken on augmented images. So the networks that 1.1 to
1.4 ended with are shown the training images once more, as they show test images: neither flipped nor cropped.
How much better they classify these than images they have not seen is overfitting, and nothing else. What has
not been trained is trained first.
"""

import statistics
import sys
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from common import data, options, plots
from common.experiment import log_path, run, trained_network
from common.preprocess import channel_statistics
from common.records import merge_rows, read_csv
from common.training import evaluate
from part1 import crop, flip, normalize, raw

EXPERIMENTS = [script.EXPERIMENT for script in (raw, normalize, flip, crop)]


def draw(out):
    plots.part1_comparison(out)


def answer(out):
    """Accuracy on the training images as they are, and how far above test accuracy it is; mean ± s.d., as text."""
    found = {}
    for experiment in EXPERIMENTS:
        rows = [row for row in read_csv(log_path(out, "1.4", "overfitting")) if row["name"] == experiment.name]
        training, test = ([100 * float(row[name]) for row in rows] for name in ("train_accuracy", "test_accuracy"))
        gaps = [trained - tested for trained, tested in zip(training, test)]
        spread = f" ± {statistics.stdev(gaps):.1f}" if len(gaps) > 1 else ""
        found[experiment.name] = {
            "training": f"{statistics.mean(training):.1f} %",
            "gap": f"{statistics.mean(gaps):.1f}{spread} points (n = {len(gaps)})",
        }
    return found


def main():
    arguments = options.parse(options.parser(__doc__))
    for experiment in EXPERIMENTS:
        run(experiment, arguments)
    log = log_path(arguments.out, "1.4", "overfitting")
    done = set() if arguments.retrain else {(row["name"], int(row["seed"])) for row in read_csv(log)}
    wanted = [(each, seed) for each in EXPERIMENTS for seed in arguments.seeds if (each.name, seed) not in done]
    if wanted:
        cifar = data.load(arguments.data_dir, arguments.device)
    rows = []
    for experiment, seed in wanted:
        network = trained_network(experiment, seed, cifar, arguments)
        prepare = partial(experiment.prepare, statistics=channel_statistics(cifar.train_images))
        training, _ = evaluate(network, cifar.train_images, cifar.train_labels, prepare)
        test, _ = evaluate(network, cifar.test_images, cifar.test_labels, prepare)
        rows.append([experiment.name, seed, training, test])
    if rows:
        merge_rows(log, ["name", "seed", "train_accuracy", "test_accuracy"], rows, key=2)
    draw(arguments.out)
    for name, found in answer(arguments.out).items():
        print("{}: {training} of the training images as they are, {gap} above test accuracy".format(name, **found))


if __name__ == "__main__":
    options.run_script(main)
