"""Where a number of the report comes from: the function that computes it, and the logs that this function reads."""

import math
from pathlib import Path

from common import results
from common.records import RecordError, read_rows
from report import build


def trace(out: Path, text: str) -> list[str]:
    """Lines about each number that the report may show as `text`, such as "85.06", "−0.35" or "7.6e-13".

    They list the tables and rows that hold the number itself and, for a mean over seeds, the rows of results.csv
    that it averages; if there are none, all tables that the function reads. Raises `RecordError` if no number is
    shown as `text`.
    """
    wanted = text.replace("−", "-").strip(" %+")
    lines = []
    for name, source in build.sources(out).items():
        results.READ.clear()
        value = build.in_json(source())
        tables = {table: read_rows(table) for table in results.READ if table.exists()}
        for path, number in leaves(value, (name,)):
            if wanted not in texts(number):
                continue
            lines += [f"{' > '.join(path)} = {number:.6g}", f"  {function_of(source)}"]
            origins = {table: [row for row in rows if belongs(row, path, number)] for table, rows in tables.items()}
            for table, rows in origins.items():
                if rows or not any(origins.values()):
                    lines += [f"  {table}", *("    " + ",".join(row.values()) for row in rows)]
    if not lines:
        raise RecordError(f"no number of the report is shown as {text!r}")
    return lines


def leaves(value, path: tuple[str, ...]):
    """The numbers in nested lists and dicts, each with the path of names to it."""
    if isinstance(value, dict):
        for name, each in value.items():
            yield from leaves(each, (*path, str(name)))
    elif isinstance(value, list):
        for number, each in enumerate(value):
            yield from leaves(each, (*path, str(number)))
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield path, value


def texts(number: float) -> set[str]:
    """The ways to write a number: with up to four decimals, as a percentage, or with a power of ten."""
    shown = {f"{scale * number:+.{digits}f}".lstrip("+") for scale in (1, 100) for digits in range(5)}
    if number and math.isfinite(number):
        mantissa, exponent = f"{number:.1e}".split("e")
        shown |= {f"{mantissa}e{int(exponent)}", f"{number:.2g}"}
    return shown


def belongs(row: dict[str, str], path: tuple[str, ...], number: float) -> bool:
    if "test_accuracy" in row and f"{row['question']}_{row['name']}" in path:
        return True
    return f"{number:.6g}" in row.values()


def function_of(source) -> str:
    function = getattr(source, "func", source)
    return f"{function.__module__.replace('.', '/')}.py, {function.__name__}()"
