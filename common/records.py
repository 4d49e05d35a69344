"""CSV tables and checkpoints: written whole or not at all, by one process at a time. A table's rows are dicts."""

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
READ_ONLY = (errno.EACCES, errno.EPERM, errno.EROFS)  # errors of a file or folder that may only be read


class RecordError(Exception):
    """A file is not what this program writes under its name. The message fits on one line."""


def within(kind: type, smallest: float, largest: float) -> Callable[[str], int | float]:
    """The type of a flag or of a table's cell: an int or a float in this range."""

    def parse(text: str) -> int | float:
        try:
            if kind is int and not re.fullmatch("[+-]?[0-9]+", text):  # int() takes 1_0 and digits of other scripts
                raise ValueError
            value = kind(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"{text!r} is not a {'whole ' * (kind is int)}number") from None
        if not smallest <= value <= largest:  # NaN neither
            raise argparse.ArgumentTypeError(f"{text} is not in {smallest:g} … {largest:g}")
        return value

    return parse


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path in the same folder as `path`; it becomes `path` in one step when the block ends well.

    What a process left that was killed at it is removed.
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
    """Whether there is such a process; on Windows, where asking would end it, yes."""
    if os.name == "nt":
        return True
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:  # somebody else's
        pass
    return True


@contextlib.contextmanager
def lock(path: Path, busy: str, seconds: float = 0) -> Iterator[None]:
    """Hold `path` as a lock among processes; `RecordError` with the message `busy` if another holds it for so long.

    An exclusive transaction of SQLite: the standard library's one lock that works on every system
    and ends with its process, however that ends.
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

    Floats get 6 significant digits (a vanished gradient is 1e-13: no fixed point).
    """
    with replacing(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, rows[0], lineterminator="\n")
        writer.writeheader()
        for row in rows:
            writer.writerow({name: f"{cell:.6g}" if isinstance(cell, float) else cell for name, cell in row.items()})


def read_rows(path: Path) -> list[dict[str, str]]:
    """The rows of a table as text by column; none if there is no such file."""
    if not path.exists():
        return []
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file, strict=True))
        if any(None in row or None in row.values() for row in rows):
            raise ValueError("cells too many or too few")
        return rows
    except (ValueError, csv.Error) as error:
        raise RecordError(f"{path} is not a table in UTF-8 with commas between cells: mend it") from error


def merge_rows(path: Path, rows: list[dict], key: Sequence[str]) -> None:
    """Put `rows` into the table at `path` in place of those that agree with one of them in the columns `key`.

    Rows are ordered by their key, and stay in the given order within it. Safe against a second
    process that does the same.
    """

    def key_of(row: dict) -> tuple[str, ...]:
        return tuple(str(row[name]) for name in key)

    guard = path.parents[1] / "checkpoints" / f"{path.name}.lock"
    with lock(guard, f"{path} has been locked for a minute by another process, or its disk has no locks", seconds=60):
        replaced = {key_of(row) for row in rows}
        kept = [row for row in read_rows(path) if not set(key) <= row.keys() or key_of(row) not in replaced]
        if kept and list(kept[0]) != list(rows[0]):
            raise RecordError(f"{path} has other columns than this run: mend it, or name another folder with --out")
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
    """A checkpoint's tensors and numbers on the CPU, or None where there is none. Runs no code from the file.

    Raises `RecordError` if a byte of it has changed since it was written.
    """
    if not path.exists():
        return None
    file = path.read_bytes()
    try:
        if zipfile.ZipFile(io.BytesIO(file)).testzip():  # compares checksums, which torch writes and does not read
            raise ValueError
        content = torch.load(io.BytesIO(file), map_location="cpu", weights_only=True)
        if not isinstance(content, dict):
            raise TypeError
        return content
    except Exception as error:  # a damaged file can break unpickling anywhere
        raise RecordError(f"{path} is damaged: remove it, and it will be made again") from error


def load_weights(path: Path) -> dict[str, torch.Tensor]:
    """A network's `state_dict` from a file that is there; raises `RecordError` if it is none."""
    weights = load_checkpoint(path)
    if not all(isinstance(name, str) and isinstance(value, torch.Tensor) for name, value in weights.items()):
        raise RecordError(f"{path} is damaged: remove it, and it will be made again")
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
    kept, starts = [], True  # a line
    source = io.StringIO(textwrap.dedent(inspect.getsource(part)))
    with contextlib.suppress(tokenize.TokenError):  # of a lambda, whose source is the line that it stands in
        for token in tokenize.generate_tokens(source.readline):
            if token.type not in LAYOUT:
                if not (starts and token.type == tokenize.STRING):
                    kept.append(token.string)
                starts = False
            elif token.type != tokenize.COMMENT and token.type != tokenize.NL:
                starts = True
    return "".join(kept)


def processor(device: torch.device) -> str:
    """The processor model of `device`; only its architecture where the system does not name the model."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    info = Path("/proc/cpuinfo")  # Linux's
    models = re.findall(r"model name\s*: (.+)", info.read_text()) if info.exists() else []
    return (models or [platform.processor() or platform.machine()])[0]


def commit() -> str:
    """The commit of the code that runs, with "+" after it if the code was changed since, or "unknown"."""
    git = functools.partial(subprocess.check_output, cwd=ROOT, stderr=subprocess.DEVNULL, text=True)
    try:
        changed = git(["git", "status", "--porcelain", "--", "common", "part1", "part2", "part3"])
        return git(["git", "rev-parse", "--short", "HEAD"]).strip() + ("+" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
