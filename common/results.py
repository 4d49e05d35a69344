"""Logs to numbers: which runs are finished, how they ended, means over seeds and differences between experiments.

Accuracies are fractions. What is returned is numbers; `str()` of an `Accuracy` or a `Difference` is their text.
"""

import functools
import json
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from common import records
from common.records import RecordError
from common.settings import Settings

TRAIN_IMAGES = 10_000  # train batch 1
RESULT_COLUMNS = [
    *("question", "name", "seed", "test_accuracy", "test_loss", "iterations", "parameters"),
    *("seconds", "device", "precision", "torch", "commit"),
]
DEPARTURES = "departures.json"  # in the folder of a trial


class Accuracy(NamedTuple):
    """A mean over seeds; the standard deviation is None for one seed."""

    mean: float
    deviation: float | None
    seeds: int

    def __str__(self) -> str:
        spread = "" if self.deviation is None else f" ± {100 * self.deviation:.2f}"
        return f"{100 * self.mean:.2f}{spread} % (n = {self.seeds})"


class Difference(NamedTuple):
    """The mean difference between two experiments' test accuracies, seed by seed, and its standard error."""

    mean: float
    error: float
    pairs: int

    def __str__(self) -> str:
        mean = round(100 * self.mean, 2) + 0.0  # no "-0.00"
        return f"{mean:+.2f} ± {100 * self.error:.2f} points (standard error, n = {self.pairs} pairs)"


def once_per_version(read: Callable) -> Callable:
    """`read(path)`, done again only when the file has been replaced. What it returns must not be changed."""
    cached = functools.lru_cache(maxsize=256)(lambda path, version: read(path))

    @functools.wraps(read)
    def current(path: Path):
        status = path.stat() if path.exists() else None
        return cached(path, status and (status.st_ino, status.st_mtime_ns, status.st_size))

    return current


def log_path(out: Path, question: str, name: str) -> Path:
    """Where an experiment's log lies, or another table of a question."""
    return out / "logs" / f"{question}_{name}.csv"


read_rows = once_per_version(records.read_rows)


@once_per_version
def read_log(path: Path) -> dict[int, dict[str, np.ndarray]]:
    """A training log as `{seed: {column: values over iterations}}`, empty if there is no such file."""
    rows = read_rows(path)
    if not rows:
        return {}
    try:
        table = {name: np.array([row[name] for row in rows], dtype=float) for name in rows[0]}
        return {
            int(seed): {name: values[table["seed"] == seed] for name, values in table.items()}
            for seed in np.unique(table["seed"])
        }
    except (ValueError, KeyError) as error:
        raise RecordError(f"{path} is not a training log; remove it") from error


@once_per_version
def read_results(path: Path) -> dict[str, dict[int, dict[str, str]]]:
    """The results table as `{experiment's "question_name": {seed: row}}`, empty if there is no such file."""
    found: dict[str, dict[int, dict[str, str]]] = {}
    for row in read_rows(path):
        if list(row) != RESULT_COLUMNS or not row["seed"].isdigit():
            raise RecordError(f"{path} is not a results table; remove it")
        found.setdefault(f"{row['question']}_{row['name']}", {})[int(row["seed"])] = row
    return found


def runs(log: Path) -> dict[int, dict[str, str]]:
    """The rows of the results table beside `log` that belong to it, by seed."""
    return read_results(log.with_name("results.csv")).get(log.stem, {})


def finished(log: Path) -> set[int]:
    """The seeds that both tables have: a run may have been stopped between writing the two."""
    return read_log(log).keys() & runs(log).keys()


def departures(out: Path) -> dict[str, int | float | str]:
    """In what the runs under `out` depart from the report's, e.g. `{"iterations": 200}`; see `common.options.parse`."""
    path = out / DEPARTURES
    try:
        return json.loads(path.read_text()) if path.exists() else {}
    except ValueError as error:
        raise RecordError(f"{path} is damaged; remove it") from error


def departures_in_words(out: Path) -> str:
    return ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in departures(out).items())


def epoch_of(out: Path) -> int:
    """Iterations per epoch of the runs under `out`."""
    return TRAIN_IMAGES // int(departures(out).get("batch_size", Settings().batch_size))


def final_accuracies(log: Path) -> list[float]:
    """Test accuracy of each seed in the results table."""
    return [float(row["test_accuracy"]) for row in runs(log).values()]


def final_accuracy(log: Path) -> Accuracy:
    return mean_of(final_accuracies(log))


def mean_of(accuracies: list[float]) -> Accuracy:
    deviation = statistics.stdev(accuracies) if len(accuracies) > 1 else None
    return Accuracy(statistics.mean(accuracies), deviation, len(accuracies))


def paired_difference(log: Path, baseline: Path) -> Difference | None:
    """Mean difference of test accuracy over the seeds of both logs; None where they have not two seeds in common."""
    first, second = runs(log), runs(baseline)
    differences = [
        float(first[seed]["test_accuracy"]) - float(second[seed]["test_accuracy"])
        for seed in sorted(first.keys() & second.keys())
    ]
    if len(differences) < 2:
        return None
    error = statistics.stdev(differences) / len(differences) ** 0.5
    return Difference(statistics.mean(differences), error, len(differences))


def last_epoch(log: Path, column: str) -> float:
    """Mean of a column over the last epoch of all seeds."""
    epoch = epoch_of(log.parents[1])
    return float(np.mean([columns[column][-epoch:] for columns in read_log(log).values()]))
