"""Results from logs: finished runs, their accuracies, means over seeds and differences between experiments.

Accuracies are fractions. Functions return numbers; `str()` formats an `Accuracy` or a `Difference` as text.
"""

import functools
import json
import math
import statistics
import sys
from argparse import ArgumentTypeError
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from common import records
from common.records import RecordError, within
from common.settings import Settings

TRAIN_IMAGES = 10_000  # train batch 1
DEPARTURES = "departures.json"  # in the folder of a trial
READ: dict[Path, None] = {}  # the tables that this process has read, in order (report/trace.py)


class Accuracy(NamedTuple):
    """A mean over seeds; the standard deviation is None for one seed."""

    mean: float
    deviation: float | None
    seeds: int

    def __str__(self) -> str:
        spread = "" if self.deviation is None else f" ± {100 * self.deviation:.2f}"
        return f"{100 * self.mean:.2f}{spread} % (n = {self.seeds})"


class Difference(NamedTuple):
    """The mean difference of two accuracies over pairs (of seeds or images), and its standard error."""

    mean: float
    error: float
    pairs: int

    @classmethod
    def of(cls, differences: Sequence[float]) -> "Difference":
        error = np.std(differences, ddof=1) / len(differences) ** 0.5
        return cls(float(np.mean(differences)), float(error), len(differences))

    def __str__(self) -> str:
        mean = round(100 * self.mean, 2) + 0.0  # no "-0.00"
        return f"{mean:+.2f} ± {100 * self.error:.2f} points (standard error, n = {self.pairs} pairs)"


def once_per_version(read: Callable) -> Callable:
    """Cache `read(path)` until the file is replaced. The returned value must not be modified."""
    cached = functools.lru_cache(maxsize=256)(lambda path, version: read(path))

    @functools.wraps(read)
    def current(path: Path):
        READ[path] = None
        status = path.stat() if path.exists() else None
        return cached(path, status and (status.st_ino, status.st_mtime_ns, status.st_size))

    return current


def log_path(out: Path, question: str, name: str) -> Path:
    """The path of an experiment's log or of a question's table."""
    return out / "logs" / f"{question}_{name}.csv"


whole = within(int, 0, math.inf)
KINDS = {  # what a cell may hold
    "text": str,
    "whole": whole,
    "count": lambda text: whole(text) if text else None,  # empty where it was not recorded
    "finite": within(float, -sys.float_info.max, sys.float_info.max),
    "float": float,
    "share": within(float, 0, 1),
    "category": within(int, 0, 9),
    "bits": bytes.fromhex,
}
LOG = "seed:whole iteration:whole | loss:float train_accuracy:share learning_rate:finite"
SETTINGS = """iterations:whole batch_size:whole optimizer:text learning_rate:finite momentum:finite weight_decay:finite
    keep_norm:text epsilon:finite plain_learning_rate:finite plain_weight_decay:finite
    label_smoothing:share clip_norm:float"""
MACHINE = "device:text processor:text threads:count precision:text torch:text data_md5:text"
ATTACKS = """index:whole | category:category category_before:category confidence_before:share zero_gradient:share
    category_after:category confidence_after:share iterations:whole succeeded:whole linf:finite l2:finite
    psnr_db:float"""
SIGNALS = "gradient:finite mean_square:finite image_variance:finite active:share live:share"
FED = """accuracy:share low:finite high:finite wrong:whole wrong_like_source:whole wrong_like_runner_up:whole
    source_like_runner_up:whole"""
# The columns of each table, by its name with or without the question. Columns before the bar form the key, which no
# two rows share. A table that is not listed is a training log, which may have further columns of G.
TABLES = {
    "results": f"""question:text name:text seed:whole | test_accuracy:share test_loss:float iterations:whole
        parameters:whole seconds:finite {MACHINE} setup:text commit:text date:text""",
    "measured": "table:text weights:text | sha256:text",
    "folds": f"""candidate:text fold:whole seed:whole | images:whole accuracy:share loss:float train_accuracy:share
        seconds:finite {SETTINGS} {MACHINE} setup:text correct:bits""",
    "gradients": "input:text | cosine:finite norm_ratio:finite",
    "statistics": "channel:text | mean:finite std:finite",
    "norms": "name:text seed:whole convolution:whole | new:finite trained:finite",
    "positions": "network:text seed:whole place:text | all:finite single:finite",
    "overfitting": "name:text seed:whole | images:whole train_accuracy:share",
    "branches": "name:text seed:whole convolutions_off:whole | accuracy:share",
    "shifts": "name:text seed:whole batch:text change:text | accuracy:share",
    "course": f"name:text seed:whole iteration:whole convolution:whole | {SIGNALS.replace('finite', 'float')}",
    "signals": f"network:text seed:whole convolution:whole | {SIGNALS}",
    "adversarial": ATTACKS,
    "attacks": ATTACKS,
    "3.1_epsilon": """epsilon:finite | images:whole succeeded:share succeeded_rounded:share iterations_mean:finite
        iterations_max:whole linf_median:finite l2_median:finite""",
    "transfer": f"images:text number:whole inputs:text victim:text | {FED}",
    "3.2_epsilon": f"epsilon:finite images:text number:whole inputs:text victim:text | {FED}",
    "matrix": "attack:text source:text victim:text | images:whole linf_median:float accuracy:float",
    "pairs": """source:text victim:text | images:whole accuracy:share cosine:finite levels:float own_levels:float
        source_accuracy:share victim_gradient:finite""",
    "torchattacks": """version:text precision:text images:whole steps:whole | same_images:whole same_values:share
        largest:finite""",
    "verdicts": "shown:whole victim:text | category:category confidence:share",
    "steps": "attack:text victim:text | images:whole linf_median:finite l2_median:finite accuracy:share",
    "spectrum": "frequency:whole | natural:finite change:finite random:finite",
    "alignment": """first:text second:text | images:whole cosine_mean:float cosine_deviation:float same_sign:float
        loss_gained:float""",
}


def kinds_of(path: Path, width: int = 0) -> tuple[dict[str, str], int]:
    """The kinds of the table's columns, and how many of these are the key.

    If a training log has `width` columns, those of G are among them.
    """
    key, rest = (TABLES.get(path.stem) or TABLES.get(path.stem.partition("_")[2], LOG)).split("|")
    kinds = dict(column.split(":") for column in f"{key} {rest}".split())
    if "iteration" in kinds:
        kinds |= {f"G_conv{layer}": "float" for layer in range(1, 1 + width - len(kinds))}
    return kinds, len(key.split())


@once_per_version
def read_rows(path: Path) -> list[dict]:
    """The rows of a table, with cells of its columns' types (see `TABLES`); empty if there is no file.

    Raises `RecordError`, which names the file and, where applicable, the line and the column.
    """
    found = records.read_rows(path)
    if not found:
        if path.exists():
            raise RecordError(f"{path} has no rows: fix it")
        return []
    columns, in_key = kinds_of(path, len(found[0]))
    if list(found[0]) != list(columns):
        raise RecordError(f"{path} has the columns {','.join(found[0])}, not {','.join(columns)}: fix it")
    parsed, keys = [], set()
    for name, kind in columns.items():
        parse, values = KINDS[kind], []
        try:
            for cells in found:
                values.append(parse(cells[name]))
        except (ValueError, ArgumentTypeError) as error:
            raise RecordError(f"{path}, line {len(values) + 2}, {name}: {error}") from None
        parsed.append(values)
    for line, key in enumerate(zip(*parsed[:in_key]), start=2):
        if key in keys:
            raise RecordError(f"{path}, line {line}: a second row for {', '.join(map(str, key))}")
        keys.add(key)
    return [dict(zip(columns, values)) for values in zip(*parsed)]


@once_per_version
def read_log(path: Path) -> dict[int, dict[str, np.ndarray]]:
    """A training log as `{seed: {column: values over iterations}}`, empty if there is no such file.

    NumPy reads it 50 times as fast as `read_rows`, which is used only to find and name what is wrong with a log.
    """
    if not path.exists():
        return {}
    try:
        columns, values = numbers_in(path)
    except ValueError:
        read_rows(path)
        raise RecordError(f"{path} is not a table of plain numbers: fix it") from None
    log = {}
    for seed in np.unique(values[:, 0]).astype(int).tolist():
        mine = values[values[:, 0] == seed]
        if not np.array_equal(mine[:, 1], np.arange(1, len(mine) + 1)):
            read_rows(path)  # names a row that occurs twice
            raise RecordError(f"{path}: seed {seed} has missing or unordered iterations: fix it")
        log[seed] = dict(zip(columns, np.ascontiguousarray(mine.T)))
    return log


def numbers_in(path: Path) -> tuple[list[str], np.ndarray]:
    """The names and the float64 values `(rows, columns)` of a training log; raises `ValueError` if it is not one."""
    with path.open(encoding="utf-8") as file:
        columns = file.readline().rstrip("\n").split(",")
        lines = file.readlines()
    if not lines:
        raise ValueError("no rows")
    values = np.loadtxt(lines, delimiter=",", comments=None, ndmin=2)
    kinds, _ = kinds_of(path, len(columns))
    if columns != list(kinds) or "iteration" not in kinds or values.shape[1] != len(columns):
        raise ValueError("other columns")
    for kind, column in zip(kinds.values(), values.T):
        finite, positive = np.isfinite(column), column >= 0
        whole, share = finite & positive & (np.floor(column) == column), positive & (column <= 1)
        checks = {"whole": whole, "share": share, "finite": finite}
        if kind in checks and not checks[kind].all():
            raise ValueError(f"a value is not {kind}")
    return columns, values


@once_per_version
def read_results(path: Path) -> dict[str, dict[int, dict]]:
    """The results table as `{"question_name": {seed: row}}`, empty if there is no such file."""
    found: dict[str, dict[int, dict]] = {}
    for row in read_rows(path):
        found.setdefault(f"{row['question']}_{row['name']}", {})[row["seed"]] = row
    return found


def runs(log: Path) -> dict[int, dict]:
    """The rows for `log` in the results table of its folder, by seed."""
    return read_results(log.with_name("results.csv")).get(log.stem, {})


def finished(log: Path) -> set[int]:
    """The seeds with a row in the results table and a row in the log for each iteration."""
    lengths = {seed: len(columns["iteration"]) for seed, columns in read_log(log).items()}
    return {seed for seed, row in runs(log).items() if lengths.get(seed) == row["iterations"]}


def departures(out: Path) -> dict[str, int | float | str]:
    """How the runs under `out` differ from the report's, e.g. `{"iterations": 200}`; see `common.options.parse`."""
    path = out / DEPARTURES
    try:
        return json.loads(path.read_text()) if path.exists() else {}
    except ValueError as error:
        raise RecordError(f"{path} is damaged: fix it") from error


def departures_in_words(out: Path) -> str:
    return ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in departures(out).items())


def epoch_of(out: Path) -> int:
    """Iterations per epoch of the runs under `out` that train on all of train batch 1."""
    return TRAIN_IMAGES // int(departures(out).get("batch_size", Settings().batch_size))


def refuse_mixture(log: Path, rows: Sequence[dict]) -> None:
    """Raise `RecordError` if the rows cannot be averaged because their machines or settings differ."""
    for name in [column.partition(":")[0] for column in f"{MACHINE} setup:text".split()]:
        if len(found := {str(row[name] or "unknown") for row in rows if name in row}) > 1:
            unlike = f"{name} ({' and '.join(sorted(found))})"
            raise RecordError(
                f"{log} would mix runs with different {unlike}: --retrain all seeds, or name another folder with --out"
            )


def final_accuracies(log: Path) -> list[float]:
    """Test accuracy of each seed in the results; raises `RecordError` if the runs cannot be averaged."""
    refuse_mixture(log, list(runs(log).values()))
    return [row["test_accuracy"] for row in runs(log).values()]


def final_accuracy(log: Path) -> Accuracy:
    """The mean of `final_accuracies`; also raises `RecordError` if no run is finished."""
    if not runs(log):
        raise RecordError(f"{log} has no finished run")
    return mean_of(final_accuracies(log))


def origin(log: Path) -> str:
    """A log's number of seeds, and the dates and machine of its runs."""
    rows = list(runs(log).values())
    days = sorted({row["date"] for row in rows})
    first = rows[0]
    machine = f"{first['processor'] or first['device']}, {first['threads'] or 'unknown'} threads, {first['precision']}"
    seeds = f"{len(rows)} seeds" if len(rows) > 1 else "1 seed"
    return f"{seeds}, {' to '.join(dict.fromkeys((days[0], days[-1])))}, {machine}, PyTorch {first['torch']}"


def mean_of(accuracies: list[float]) -> Accuracy:
    deviation = statistics.stdev(accuracies) if len(accuracies) > 1 else None
    return Accuracy(statistics.mean(accuracies), deviation, len(accuracies))


def paired_difference(log: Path, baseline: Path, of: Path | None = None) -> Difference | None:
    """Mean difference of test accuracy over the seeds of both logs; None if they share fewer than two seeds.

    With `of`, over those seeds that this third log has as well.
    """
    first, second = runs(log), runs(baseline)
    seeds = first.keys() & second.keys() & (runs(of) if of else first).keys()
    differences = [first[seed]["test_accuracy"] - second[seed]["test_accuracy"] for seed in sorted(seeds)]
    return Difference.of(differences) if len(differences) > 1 else None


def last_epoch(log: Path, column: str) -> float:
    """Mean of a column over the last epoch of all seeds."""
    epoch = epoch_of(log.parents[1])
    return float(np.mean([columns[column][-epoch:] for columns in read_log(log).values()]))
