"""Choosing among networks, pre-processings and settings on held-out training images, never on the test batch."""

import argparse
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import mean
from typing import NamedTuple

from torch import nn

from common import data
from common.experiment import log_path
from common.preprocess import channel_statistics
from common.records import merge_rows, read_csv
from common.training import Settings, evaluate, train

HELD_OUT = 2000  # the last images of train batch 1


class Candidate(NamedTuple):
    make_network: Callable[[], nn.Module]
    prepare: Callable  # (images, statistics, generator=None), see common.preprocess
    settings: Settings = Settings()


def compare(question: str, name: str, candidates: dict[str, Candidate], arguments: argparse.Namespace) -> Path:
    """Train each candidate on the images that are not held out, and evaluate it on those that are; return the log.

    Prints the mean accuracy of each over the seeds of the log, best first. What the log has is not
    trained again, but with `--retrain`.
    """
    log = log_path(arguments.out, question, name)
    done = set() if arguments.retrain else {(row["candidate"], int(row["seed"])) for row in read_csv(log)}
    wanted = [(name, seed) for seed in arguments.seeds for name in candidates if (name, seed) not in done]
    if wanted:
        cifar = data.load(arguments.data_dir, arguments.device)
        images, held_out_images = cifar.train_images.tensor_split([-HELD_OUT])
        labels, held_out_labels = cifar.train_labels.tensor_split([-HELD_OUT])
        if arguments.batch_size > len(images):
            raise data.DataError(f"only {len(images)} images are not held out: too few for --batch-size")
        statistics = channel_statistics(images)
    for name, seed in wanted:
        candidate = candidates[name]
        prepare = partial(candidate.prepare, statistics=statistics)
        network, columns, _ = train(
            candidate.make_network,
            images,
            labels,
            prepare,
            replace(candidate.settings, iterations=arguments.iterations, batch_size=arguments.batch_size),
            seed,
            arguments.precision,
            description=f"{name}, seed {seed}",
        )
        accuracy, _ = evaluate(network, held_out_images, held_out_labels, prepare)
        training_accuracy = mean(columns["train_accuracy"][-100:])
        row = {"candidate": name, "seed": seed, "held_out_accuracy": accuracy, "train_accuracy": training_accuracy}
        row |= vars(candidate.settings) | {"iterations": arguments.iterations, "batch_size": arguments.batch_size}
        merge_rows(log, list(row), [list(row.values())], key=2)
        print(f"{name}, seed {seed}: held out {accuracy:.2%}, training {training_accuracy:.2%}", flush=True)
    print("mean accuracy on the held-out images")
    for name, accuracy in sorted(held_out_means(log).items(), key=lambda item: -item[1]):
        print(f"{accuracy:.2%}  {name}")
    return log


def held_out_means(log: Path) -> dict[str, float]:
    """Mean accuracy of each logged candidate over its seeds, on the held-out images."""
    accuracies: dict[str, list[float]] = {}
    for row in read_csv(log):
        accuracies.setdefault(row["candidate"], []).append(float(row["held_out_accuracy"]))
    return {name: mean(values) for name, values in accuracies.items()}
