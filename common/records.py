"""CSV tables and checkpoints, written atomically and by one process at a time. A table's rows are dicts."""

import argparse
import contextlib
import csv
import errno
import functools
import hashlib
import inspect
import io
import os
import platform
import re
import sqlite3
import subprocess
import textwrap
import tokenize
import zipfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parents[1]
LAYOUT = (tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT)
READ_ONLY = (errno.EACCES, errno.EPERM, errno.EROFS)  # errors on writing to a read-only file or folder


class RecordError(Exception):
    """A file is missing, damaged, inconsistent or in use. The message fits on one line."""


def within(kind: type, smallest: float, largest: float) -> Callable[[str], int | float]:
    """Return a parser for a flag or table cell: an int or float in this range."""
    whole_number = re.compile("[+-]?[0-9]+").fullmatch

    def parse(text: str) -> int | float:
        try:
            if kind is int and not whole_number(text):  # int() accepts 1_0 and non-ASCII digits
                raise ValueError
            value = kind(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"{text!r} is not a {'whole ' * (kind is int)}number") from None
        if not smallest <= value <= largest:  # or is NaN
            raise argparse.ArgumentTypeError(f"{text} is not between {smallest:g} and {largest:g}")
        return value

    return parse


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path in the folder of `path`; rename it to `path` atomically if the block succeeds.

    Temporary files of killed processes are removed.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    for left in path.parent.glob(f".{path.name}.*.tmp"):
        process = left.name.split(".")[-2]
        if process.isdecimal() and not is_running(int(process)):
            left.unlink(missing_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        os.replace(temporary, path)
    except OSError as error:
        error.filename = error.filename or str(path)  # the error of a full disk names no file
        raise
    finally:
        temporary.unlink(missing_ok=True)


def is_running(process: int) -> bool:
    """Whether the process exists; always True on Windows, where os.kill would end it."""
    if os.name == "nt":
        return True
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:  # another user's
        pass
    return True


@contextlib.contextmanager
def lock(path: Path, busy: str, seconds: float = 0) -> Iterator[None]:
    """Hold `path` as a lock between processes; raise `RecordError(busy)` if it is not free within `seconds`.

    It is an exclusive SQLite transaction, the only lock in the standard library that works on every
    system and is released however its process ends.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        connection = sqlite3.connect(path, timeout=seconds, isolation_level=None)
    except sqlite3.Error as error:
        raise OSError(f"cannot lock {path} ({error})") from error
    try:
        connection.execute("BEGIN EXCLUSIVE")
        yield
    except sqlite3.Error as error:
        raise RecordError(busy if "locked" in str(error) else f"cannot lock {path} ({error})") from error
    finally:
        connection.close()


def write_rows(path: Path, rows: list[dict]) -> None:
    """Write a table of rows that all have the columns of the first one.

    Floats get 6 significant digits, not fixed point: a vanished gradient is 1e-13.
    """
    with replacing(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, rows[0], lineterminator="\n")
        writer.writeheader()
        for row in rows:
            writer.writerow({name: f"{cell:.6g}" if isinstance(cell, float) else cell for name, cell in row.items()})


def read_rows(path: Path) -> list[dict[str, str]]:
    """The rows of a table as `{column: text}`; empty if there is no file."""
    if not path.exists():
        return []
    try:
        with path.open(newline="", encoding="utf-8") as file:
            reader = csv.reader(file, strict=True)
            columns = next(reader, [])
            return [dict(zip(columns, cells, strict=True)) for cells in reader if cells]
    except (ValueError, csv.Error) as error:
        raise RecordError(f"{path} is not a table in UTF-8 with comma-separated cells: fix it") from error


def merge_rows(path: Path, rows: list[dict], key: Sequence[str]) -> None:
    """Put `rows` into the table at `path`; they replace rows with the same values in the columns `key`.

    Rows are sorted by key; rows with the same key keep their order. Concurrent calls by several
    processes are safe.
    """

    def key_of(row: dict) -> tuple[str, ...]:
        return tuple(str(row[name]) for name in key)

    guard = path.parents[1] / "checkpoints" / f"{path.name}.lock"
    with lock(guard, f"{path} was locked for a minute by another process, or its file system has no locks", seconds=60):
        replaced = {key_of(row) for row in rows}
        kept = [row for row in read_rows(path) if not set(key) <= row.keys() or key_of(row) not in replaced]
        if kept and list(kept[0]) != list(rows[0]):
            raise RecordError(f"{path} has different columns from this run: fix it, or name another folder with --out")
        write_rows(path, sorted(kept + rows, key=lambda row: [natural(cell) for cell in key_of(row)]))


def natural(cell: str) -> tuple[int, str]:
    """A sort key that puts seed 2 before seed 10."""
    return (int(cell), "") if cell.isdigit() else (0, cell)


def save_checkpoint(path: Path, state: dict) -> None:
    with replacing(path) as temporary:
        try:
            torch.save(state, temporary)
        except RuntimeError as error:  # torch's error for a full disk
            raise OSError(f"cannot write {path} ({str(error).splitlines()[0]})") from error


def load_checkpoint(path: Path) -> dict | None:
    """Load a checkpoint onto the CPU, or return None if it does not exist. Runs no code from the file.

    Raises `RecordError` if the file is damaged.
    """
    if not path.exists():
        return None
    file = path.read_bytes()
    try:
        if zipfile.ZipFile(io.BytesIO(file)).testzip():  # compares checksums, which torch writes but ignores
            raise ValueError
        content = torch.load(io.BytesIO(file), map_location="cpu", weights_only=True)
        if not isinstance(content, dict):
            raise TypeError
        return content
    except Exception as error:  # unpickling a damaged file can raise anything
        raise RecordError(f"{path} is damaged: remove it, and it will be recreated") from error


def load_weights(path: Path) -> dict[str, torch.Tensor]:
    """A network's `state_dict` from an existing file; raises `RecordError` if it is not one."""
    weights = load_checkpoint(path)
    if not all(isinstance(name, str) and isinstance(value, torch.Tensor) for name, value in weights.items()):
        raise RecordError(f"{path} is damaged: remove it, and it will be recreated")
    return weights


def hash_of_tensors(tensors: dict[str, torch.Tensor]) -> str:
    """A hash of a network's weights, or of any `state_dict`."""
    content = hashlib.sha256()
    for tensor in tensors.values():
        content.update(f"{tensor.dtype} {tuple(tensor.shape)}".encode() + tensor.cpu().contiguous().numpy().tobytes())
    return content.hexdigest()


def code_of(part) -> str:
    """The source of a module, class or function without comments, docstrings and layout."""
    if isinstance(part, functools.partial):
        return f"{code_of(part.func)} {part.args} {part.keywords}"
    kept, starts = [], True  # at a line start
    source = io.StringIO(textwrap.dedent(inspect.getsource(part)))
    with contextlib.suppress(tokenize.TokenError):  # a lambda's source is the line that contains it
        for token in tokenize.generate_tokens(source.readline):
            if token.type not in LAYOUT:
                if not (starts and token.type == tokenize.STRING):
                    kept.append(token.string)
                starts = False
            elif token.type != tokenize.COMMENT and token.type != tokenize.NL:
                starts = True
    return "".join(kept)


def processor(device: torch.device) -> str:
    """The processor model of `device`, or its architecture if the system does not name the model."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    info = Path("/proc/cpuinfo")  # Linux
    models = re.findall(r"model name\s*: (.+)", info.read_text()) if info.exists() else []
    return (models or [platform.processor() or platform.machine()])[0]


def commit() -> str:
    """The commit of the running code, followed by "+" if the code has changed since, or "unknown"."""
    git = functools.partial(subprocess.check_output, cwd=ROOT, stderr=subprocess.DEVNULL, text=True)
    try:
        changed = git(["git", "status", "--porcelain", "--", "common", "part1", "part2", "part3"])
        return git(["git", "rev-parse", "--short", "HEAD"]).strip() + ("+" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
