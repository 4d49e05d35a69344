"""CSV logs, the results table and checkpoints: written whole or not at all, by one process at a time."""

import contextlib
import csv
import hashlib
import os
import sqlite3
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

ROOT = Path(__file__).resolve().parents[1]


class RecordError(Exception):
    """A file is not what this program writes under its name. The message fits on one line."""


RESULT_COLUMNS = [
    *("question", "name", "seed", "test_accuracy", "test_loss", "iterations", "parameters"),
    *("seconds", "device", "precision", "torch", "commit"),
]


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; it becomes `path` in one step when the block ends well."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def lock(path: Path, waiting: str | None = None) -> Iterator[None]:
    """Hold `path` as a lock among processes, waiting (and printing `waiting`) while another holds it.

    An exclusive transaction of SQLite: the standard library's one lock that works on every system
    and ends with its process, however that ends.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        connection = sqlite3.connect(path, timeout=0.2, isolation_level=None)  # seconds; Ctrl-C works in between
    except sqlite3.Error as error:
        raise OSError(f"cannot lock {path} ({error})") from error
    try:
        while True:
            try:
                connection.execute("BEGIN EXCLUSIVE")
                break
            except sqlite3.Error as error:
                if "locked" not in str(error):
                    raise OSError(f"cannot lock {path} ({error})") from error
                if waiting:
                    print(waiting, flush=True)
                    waiting = None
        yield
    finally:
        connection.close()


def write_csv(path: Path, columns: list[str], rows: list[list]) -> None:
    """Write a table, floats with 6 significant digits (a vanished gradient is 1e-13: no fixed point)."""
    with replacing(path) as temporary, temporary.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows([f"{cell:.6g}" if isinstance(cell, float) else cell for cell in row] for row in rows)


def write_rows(path: Path, rows: list[dict]) -> None:
    """Write a table of rows that all have the same columns."""
    write_csv(path, list(rows[0]), [list(row.values()) for row in rows])


def read_csv(path: Path) -> list[dict[str, str]]:
    """The rows of a table as text by column; none if there is no such file."""
    if not path.exists():
        return []
    try:
        with path.open(newline="") as file:
            rows = list(csv.DictReader(file, strict=True))
    except (ValueError, csv.Error) as error:
        raise RecordError(f"{path} is not a table; remove it") from error
    if any(None in row or None in row.values() for row in rows):  # cells too many or too few
        raise RecordError(f"{path} is not a table; remove it")
    return rows


def read_log(path: Path) -> dict[int, dict[str, np.ndarray]]:
    """A training log as `{seed: {column: values over iterations}}`, empty if there is no such file."""
    rows = read_csv(path)
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


def read_results(path: Path) -> list[dict[str, str]]:
    """The rows of the results table, a finished run each."""
    rows = read_csv(path)
    if any(list(row) != RESULT_COLUMNS or not row["seed"].isdigit() for row in rows):
        raise RecordError(f"{path} is not a results table; remove it")
    return rows


def merge_rows(path: Path, columns: list[str], rows: list[list], key: int) -> None:
    """Put `rows` into the table at `path` in place of those that begin with the same `key` cells.

    Rows are ordered by their key, and stay in the given order within it. Safe against a second
    process that does the same.
    """
    with lock(path.parents[1] / "checkpoints" / f"{path.name}.lock"):
        replaced = {tuple(map(str, row[:key])) for row in rows}
        present = read_csv(path)
        if present and list(present[0]) != columns:
            raise RecordError(f"{path} has other columns than this run; remove it")
        kept = [row for row in map(list, map(dict.values, present)) if tuple(row[:key]) not in replaced]
        write_csv(path, columns, sorted(kept + rows, key=lambda row: [natural(str(cell)) for cell in row[:key]]))


def natural(cell: str) -> tuple[int, str]:
    """A sort key that puts seed 2 before seed 10."""
    return (int(cell), "") if cell.isdigit() else (0, cell)


def save_checkpoint(path: Path, state: dict) -> None:
    with replacing(path) as temporary:
        try:
            torch.save(state, temporary)
        except RuntimeError as error:  # torch's way to say that the disk is full
            raise OSError(f"cannot write {path} ({str(error).splitlines()[0]})") from error


def load_checkpoint(path: Path) -> dict | None:
    """A checkpoint's tensors and numbers on the CPU, or None where there is none. Runs no code from the file."""
    if not path.exists():
        return None
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file can break unpickling anywhere
        raise RecordError(f"{path} is not a checkpoint; remove it") from error


def fingerprint() -> str:
    """A hash of the scripts' source: a run may only go on under the very code that began it."""
    code = hashlib.sha256()
    for path in sorted([*ROOT.glob("common/*.py"), *ROOT.glob("part*/*.py")]):
        code.update(path.name.encode() + path.read_bytes())
    return code.hexdigest()


def commit() -> str:
    """The commit of the code that runs, with "+" behind it if the code was changed since, or "unknown"."""

    def git(*arguments: str) -> str:
        return subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()

    try:
        changed = git("status", "--porcelain", "--", "common", "part1", "part2", "part3")
        return git("rev-parse", "--short", "HEAD") + ("+" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
