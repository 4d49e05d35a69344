"""CSV tables and checkpoints: written whole or not at all, by one process at a time. A table's rows are dicts."""

import contextlib
import csv
import functools
import hashlib
import os
import sqlite3
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parents[1]


class RecordError(Exception):
    """A file is not what this program writes under its name. The message fits on one line."""


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


def write_rows(path: Path, rows: list[dict]) -> None:
    """Write a table of rows that all have the columns of the first one.

    Floats get 6 significant digits (a vanished gradient is 1e-13: no fixed point).
    """
    with replacing(path) as temporary, temporary.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0], lineterminator="\n")
        writer.writeheader()
        for row in rows:
            writer.writerow({name: f"{cell:.6g}" if isinstance(cell, float) else cell for name, cell in row.items()})


def read_rows(path: Path) -> list[dict[str, str]]:
    """The rows of a table as text by column; none if there is no such file."""
    if not path.exists():
        return []
    try:
        with path.open(newline="") as file:
            rows = list(csv.DictReader(file, strict=True))
        if any(None in row or None in row.values() for row in rows):
            raise ValueError("cells too many or too few")
        return rows
    except (ValueError, csv.Error) as error:
        raise RecordError(f"{path} is not a table; remove it") from error


def merge_rows(path: Path, rows: list[dict], key: Sequence[str]) -> None:
    """Put `rows` into the table at `path` in place of those that agree with one of them in the columns `key`.

    Rows are ordered by their key, and stay in the given order within it. Safe against a second
    process that does the same.
    """

    def key_of(row: dict) -> tuple[str, ...]:
        return tuple(str(row[name]) for name in key)

    with lock(path.parents[1] / "checkpoints" / f"{path.name}.lock"):
        present = read_rows(path)
        if present and list(present[0]) != list(rows[0]):
            raise RecordError(f"{path} has other columns than this run; remove it")
        replaced = {key_of(row) for row in rows}
        kept = [row for row in present if key_of(row) not in replaced]
        write_rows(path, sorted(kept + rows, key=lambda row: [natural(cell) for cell in key_of(row)]))


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


def hash_of_tensors(tensors: dict[str, torch.Tensor]) -> str:
    """A hash of a network's weights, or of whatever a `state_dict` holds, whatever its entries are called."""
    content = hashlib.sha256()
    for tensor in tensors.values():
        content.update(f"{tensor.dtype} {tuple(tensor.shape)}".encode() + tensor.cpu().contiguous().numpy().tobytes())
    return content.hexdigest()


def commit() -> str:
    """The commit of the code that runs, with "+" behind it if the code was changed since, or "unknown"."""
    git = functools.partial(subprocess.check_output, cwd=ROOT, stderr=subprocess.DEVNULL, text=True)
    try:
        changed = git(["git", "status", "--porcelain", "--", "common", "part1", "part2", "part3"])
        return git(["git", "rev-parse", "--short", "HEAD"]).strip() + ("+" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
