"""Overfitting: how much better networks classify unaugmented training images than unseen images."""

import statistics
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from torch import nn

from common.data import Cifar
from common.networks import evaluate
from common.results import Accuracy, log_path, mean_of, read_rows, runs


class Overfitting(NamedTuple):
    """Mean accuracy on unaugmented training images, and its gap to test accuracy, over seeds."""

    training: float
    gap: Accuracy

    def __str__(self) -> str:
        spread = "" if self.gap.deviation is None else f" ± {100 * self.gap.deviation:.1f}"
        gap = f"{100 * self.gap.mean:.1f}{spread} points above test accuracy (n = {self.gap.seeds})"
        return f"accuracy on unaugmented training images {100 * self.training:.1f} %, {gap}"


def measure(network: nn.Module, cifar: Cifar, prepare: Callable, images: int | None = None) -> list[dict]:
    """One row: the accuracy on the first `images` training images (None: all), prepared like test images."""
    shown, labels = cifar.train_images[:images], cifar.train_labels[:images]
    accuracy, _ = evaluate(network, prepare, shown, labels, cifar.statistics)
    return [{"images": len(shown), "train_accuracy": accuracy}]


def accuracies(out: Path, question: str, name: str) -> dict[int, float]:
    """The accuracy of each seed of the experiment `name`, from the table of `question`."""
    rows = read_rows(log_path(out, question, "overfitting"))
    return {row["seed"]: row["train_accuracy"] for row in rows if row["name"] == name}


def of(out: Path, question: str, log: Path) -> Overfitting | None:
    """The overfitting of the experiment with this log, from the table of `question`; None if not measured."""
    training, test = accuracies(out, question, log.stem.partition("_")[2]), runs(log)
    seeds = sorted(training.keys() & test.keys())
    if not seeds:
        return None
    gaps = [training[seed] - test[seed]["test_accuracy"] for seed in seeds]
    return Overfitting(statistics.mean(training[seed] for seed in seeds), mean_of(gaps))
