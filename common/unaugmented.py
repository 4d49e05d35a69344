"""Overfitting: how much better networks classify the training images, as they are, than images they have not seen."""

import argparse
import statistics
from functools import partial
from pathlib import Path

from common import data
from common.experiment import Experiment, log_path, results, trained_network, unmeasured
from common.preprocess import channel_statistics
from common.records import merge_rows, read_csv
from common.training import evaluate

SUMMARY = "{name}: {training} of the training images as they are, {gap} above test accuracy"


def table_of(out: Path, question: str) -> Path:
    return log_path(out, question, "overfitting")


def measure(
    question: str, experiments: list[Experiment], arguments: argparse.Namespace, images: int | None = None
) -> None:
    """Evaluate each experiment's finished networks on the first `images` training images (None: on all).

    As test images: without augmentation. What the question's table has is not done again, but after `--retrain`.
    """
    table = table_of(arguments.out, question)
    wanted = [(experiment, seed) for experiment in experiments for seed in unmeasured(table, experiment, arguments)]
    if not wanted:
        return
    cifar = data.load(arguments.data_dir, arguments.device)
    shown, labels = cifar.train_images[:images], cifar.train_labels[:images]
    rows = []
    for experiment, seed in wanted:
        network = trained_network(experiment, seed, cifar, arguments)
        prepare = partial(experiment.prepare, statistics=channel_statistics(cifar.train_images))
        accuracy, _ = evaluate(network, shown, labels, prepare)
        rows.append([experiment.name, seed, len(shown), accuracy])
    merge_rows(table, ["name", "seed", "images", "train_accuracy"], rows, key=2)


def accuracies(out: Path, question: str) -> dict[str, dict[int, float]]:
    """What `measure` wrote, in percent: `{name of the experiment: {seed: accuracy}}`."""
    found: dict[str, dict[int, float]] = {}
    for row in read_csv(table_of(out, question)):
        found.setdefault(row["name"], {})[int(row["seed"])] = 100 * float(row["train_accuracy"])
    return found


def answer(out: Path, question: str, experiments: list[Experiment]) -> dict[str, dict[str, str]]:
    """By experiment, as text: mean accuracy, and how far above test accuracy it is, ± s.d. over the seeds."""
    found = {}
    for experiment in experiments:
        training = accuracies(out, question).get(experiment.name, {})
        test = results(log_path(out, experiment.question, experiment.name))
        gaps = [
            accuracy - 100 * float(test[seed]["test_accuracy"]) for seed, accuracy in training.items() if seed in test
        ]
        if gaps:
            spread = f" ± {statistics.stdev(gaps):.1f}" if len(gaps) > 1 else ""
            found[experiment.name] = {
                "training": f"{statistics.mean(training.values()):.1f} %",
                "gap": f"{statistics.mean(gaps):.1f}{spread} points (n = {len(gaps)})",
            }
    return found
