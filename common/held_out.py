"""Choosing among networks, pre-processings and settings on held-out training images, never on the test batch."""

import argparse
import re
from dataclasses import asdict
from pathlib import Path
from statistics import mean

from common import data
from common.data import Cifar
from common.experiment import Experiment, alone, is_measured, settings_of, train_seed
from common.networks import evaluate
from common.records import merge_rows
from common.results import epoch_of, log_path, read_rows, refuse_mixture

HELD_OUT = 2000  # the last images of train batch 1


def compare(question: str, table_name: str, candidates: list[Experiment], arguments: argparse.Namespace) -> Path:
    """Train each candidate on the images that are not held out, and evaluate it on those that are; return the table.

    Prints the mean accuracy of each over the seeds of the table, best first. What the table has is not
    trained again, except with `--retrain`. A comparison that was stopped goes on from its last epoch.
    """
    table = log_path(arguments.out, question, table_name)
    wanted = [
        (candidate, seed)
        for seed in arguments.seeds
        for candidate in candidates
        if arguments.retrain or not is_measured(table, {"candidate": candidate.name, "seed": seed})
    ]
    if wanted:
        machine = {"device": arguments.device.type, "precision": arguments.precision}
        refuse_mixture(table, [*read_rows(table), machine])
        cifar = split(data.load(arguments.data_dir, arguments.device))
        if arguments.batch_size > len(cifar.train_images):
            raise data.DataError(f"only {len(cifar.train_images)} images are not held out: too few for --batch-size")
    for candidate, seed in wanted:
        key = {"candidate": candidate.name, "seed": seed}
        name = re.sub(r"[^A-Za-z0-9.]+", "-", candidate.name)  # fit for a file's
        checkpoint = arguments.out / "checkpoints" / f"{table.stem}_{name}_seed{seed}.pt"
        with alone(checkpoint):
            if not arguments.retrain and is_measured(table, key):
                continue  # by another process, meanwhile
            network, columns, _ = train_seed(candidate, seed, cifar, arguments, checkpoint)
            accuracy, _ = evaluate(network, candidate.prepare, cifar.test_images, cifar.test_labels, cifar.statistics)
            training_accuracy = mean(columns["train_accuracy"][-epoch_of(arguments.out) :])
            row = key | {"held_out_accuracy": accuracy, "train_accuracy": training_accuracy}
            row |= asdict(settings_of(candidate, arguments)) | machine
            merge_rows(table, [row], key=list(key))
            checkpoint.unlink()
        print(f"{candidate.name}, seed {seed}: held out {accuracy:.2%}, training {training_accuracy:.2%}", flush=True)
    print("mean accuracy on the held-out images")
    for name, accuracy in sorted(held_out_means(table).items(), key=lambda item: -item[1]):
        print(f"{accuracy:.2%}  {name}")
    return table


def split(cifar: Cifar) -> Cifar:
    """Train batch 1 alone, its last `HELD_OUT` images in the place of the test batch."""
    images, held_out_images = cifar.train_images.tensor_split([-HELD_OUT])
    labels, held_out_labels = cifar.train_labels.tensor_split([-HELD_OUT])
    return Cifar(images, labels, held_out_images, held_out_labels)


def held_out_means(table: Path) -> dict[str, float]:
    """Mean accuracy of each candidate in the table over its seeds, on the held-out images."""
    accuracies: dict[str, list[float]] = {}
    for row in read_rows(table):
        accuracies.setdefault(row["candidate"], []).append(row["held_out_accuracy"])
    return {name: mean(values) for name, values in accuracies.items()}
