"""Choose networks, pre-processing and settings on held-out training images, never on the test set."""

import argparse
import re
import statistics
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional as F

from common import data, experiment, options
from common.data import Cifar
from common.experiment import Experiment
from common.networks import logits_of
from common.records import RecordError, merge_rows, within
from common.results import Difference, log_path, read_rows, refuse_mixture

FOLDS = 5  # parts of train batch 1, each of which is held out once


def parse(description: str, names: list[str], finalists: list[str]) -> argparse.Namespace:
    """Parse the shared flags and those that choose the candidates (or only the finalists) and the folds."""
    parser = options.parser(description)
    add, fold = parser.add_argument, within(int, 0, FOLDS - 1)
    add("--folds", type=fold, nargs="+", default=[0], metavar="K", help="hold out these fifths, 0 to 4 (default: 0)")
    group, text = parser.add_mutually_exclusive_group(), f"{'; '.join(names)} (default: all)"
    group.add_argument("--candidates", choices=names, nargs="+", default=names, metavar="NAME", help=text)
    text = "compare only the finalists and their baselines"
    group.add_argument("--finalists", action="store_const", dest="candidates", const=finalists, help=text)
    if parser.parse_args().optimizer != "procedure":
        parser.error("argument --optimizer: each candidate has its own")
    return options.parse(parser)


def compare(question: str, candidates: list[Experiment], arguments: argparse.Namespace) -> Path:
    """Train each candidate on four fifths of train batch 1, evaluate it on the held-out fifth, and return the table.

    Prints each accuracy and its difference from the first candidate's, paired by image. A candidate that the
    table already has is trained again only with `--retrain` or after a change of its code or settings. A comparison
    that was stopped continues from its last epoch.
    """
    table, machine = log_path(arguments.out, question, "folds"), experiment.machine_of(arguments)
    setups = {candidate.name: {"setup": experiment.hash_of_setup(candidate, arguments)} for candidate in candidates}
    wanted, checkpoints = [], []
    for fold, seed in [(fold, seed) for fold in arguments.folds for seed in arguments.seeds]:
        for candidate in candidates:
            key = {"candidate": candidate.name, "fold": fold, "seed": seed}
            setup = setups[candidate.name]
            name = re.sub(r"[^A-Za-z0-9.]+", "-", candidate.name)  # for a file name
            checkpoint = table.parents[1] / "checkpoints" / f"{table.stem}_{name}_fold{fold}_seed{seed}.pt"
            checkpoints.append((checkpoint, experiment.settings_of(candidate, arguments).iterations))
            if arguments.retrain or not is_logged(table, key, setup):
                wanted.append((candidate, key, setup, checkpoint))
    kept = [row for row in read_rows(table) if not any(key.items() <= row.items() for _, key, *_ in wanted)]
    # All folds of a candidate must come from one machine. Different candidates may come from different processors,
    # where different rounding acts like another seed, but not from different kinds of devices or precisions.
    kept = [row for row in kept if row["candidate"] in setups]
    others = [{each: row[each] for each in ("device", "precision")} for row in kept]
    for name in setups:
        trained = any(key["candidate"] == name for _, key, *_ in wanted)
        new = machine if trained else arguments.asked
        own = [{each: row[each] for each in machine} for row in kept if row["candidate"] == name]
        refuse_mixture(table, [*own, *others, new])
    if wanted:
        cifar = data.load(arguments.data_dir, arguments.device)
    for candidate, key, setup, checkpoint in wanted:
        with experiment.alone(checkpoint):
            if not arguments.retrain and is_logged(table, key, setup):
                continue  # another process trained it
            rest = split(cifar, key["fold"])
            network, columns, seconds = experiment.train_seed(candidate, key["seed"], rest, arguments, checkpoint)
            logits = logits_of(network, candidate.prepare, rest.test_images, rest.statistics)
            correct = (logits.argmax(1) == rest.test_labels).cpu().numpy()
            settings = experiment.settings_of(candidate, arguments)
            epoch = len(rest.train_images) // settings.batch_size
            row = key | {
                "images": len(correct),
                "accuracy": correct.mean().item(),
                "loss": F.cross_entropy(logits, rest.test_labels).item(),
                "train_accuracy": statistics.mean(columns["train_accuracy"][-epoch:]),
                "seconds": seconds,
                **asdict(settings),
                **machine,
                **setup,
                "correct": np.packbits(correct).tobytes().hex(),  # a bit per image
            }
            merge_rows(table, [row], key=list(key))
        print(f"{candidate.name}, fold {key['fold']}: held-out accuracy {row['accuracy']:.2%}", flush=True)
    for checkpoint, iterations in checkpoints:
        experiment.remove_finished(checkpoint, iterations)
    baseline = candidates[0].name
    print(f"accuracy on held-out images, and its difference from that of {baseline}")
    for name, (accuracy, difference) in comparisons(table, baseline).items():
        print(f"{accuracy:.2%}  {name}" + (f": {difference}" if difference else ""))
    return table


def is_logged(table: Path, key: dict[str, str | int], setup: dict[str, str]) -> bool:
    """Whether `table` has a row with this key, whose setup has not changed."""
    rows = [row for row in read_rows(table) if key.items() <= row.items()]
    return any(row["setup"] == setup["setup"] or not experiment.is_comparable(row) for row in rows)


def split(cifar: Cifar, fold: int) -> Cifar:
    """Split train batch 1: one of its `FOLDS` parts replaces the test images.

    The images of each class are dealt to the parts in turn: all parts have the same number of images, and the same
    number of each class to within one.
    """
    held_out = torch.zeros(len(cifar.train_labels), dtype=torch.bool, device=cifar.train_labels.device)
    held_out[cifar.train_labels.argsort(stable=True)[fold::FOLDS]] = True
    train, test = ((cifar.train_images[part], cifar.train_labels[part]) for part in (~held_out, held_out))
    return Cifar(*train, *test)


def comparisons(table: Path, baseline: str) -> dict[str, tuple[float, Difference | None]]:
    """Each candidate's accuracy, and its difference from the baseline's on the folds that both have; best first.

    The difference is a mean over images: +1 where only the candidate is right, -1 where only the baseline is, else 0.
    It is None if they share no fold. Raises `RecordError` for a candidate whose folds cannot be averaged.
    """
    correct: dict[str, dict[tuple[int, int], np.ndarray]] = {}
    rows = read_rows(table)
    for name in {row["candidate"] for row in rows}:
        refuse_mixture(table, [row for row in rows if row["candidate"] == name])
    for row in rows:
        bits = np.unpackbits(np.frombuffer(row["correct"], np.uint8))[: row["images"]]
        if len(bits) < row["images"]:
            raise RecordError(f"{table}: correct has {len(bits)} bits for {row['images']} images of {row['candidate']}")
        correct.setdefault(row["candidate"], {})[row["fold"], row["seed"]] = bits.astype(int)
    found = {}
    for name, folds in correct.items():
        common = set() if name == baseline else folds.keys() & correct.get(baseline, {}).keys()
        images = [folds[fold] - correct[baseline][fold] for fold in sorted(common)]
        difference = Difference.of(np.concatenate(images)) if images else None
        found[name] = np.concatenate(list(folds.values())).mean().item(), difference
    return dict(sorted(found.items(), key=lambda item: -item[1][0]))
