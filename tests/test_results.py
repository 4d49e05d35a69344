"""Logs to numbers: what is read, over how many iterations it is averaged, and what two experiments differ in."""

import json
import re
from pathlib import Path

import numpy as np
import pytest

from common import options, results
from common.plots import running_mean
from common.records import RecordError, merge_rows, write_rows
from common.results import DEPARTURES, log_path, read_log


def write_log(out, name, accuracies):
    rows = [
        {"seed": 0, "iteration": iteration, "loss": 1.0, "train_accuracy": float(accuracy), "learning_rate": 0.1}
        for iteration, accuracy in enumerate(accuracies, start=1)
    ]
    write_rows(log_path(out, "1.1", name), rows)


def write_result(out, cells):
    row = dict.fromkeys(results.kinds_of(Path("results.csv"))[0], 1) | {"question": "1.1"} | cells
    merge_rows(out / "logs/results.csv", [row], key=["question", "name", "seed"])


def write_results(out, name, accuracies):
    for seed, accuracy in enumerate(accuracies):
        write_result(out, {"name": name, "seed": seed, "test_accuracy": accuracy})


def test_a_log_is_read_again_when_it_has_been_replaced(tmp_path):
    for accuracy in (0.25, 0.5):
        write_log(tmp_path, "raw", [accuracy] * 3)
        assert results.last_epoch(log_path(tmp_path, "1.1", "raw"), "train_accuracy") == accuracy


def test_an_epoch_is_the_training_batch_whatever_the_size_of_a_step(tmp_path):
    write_log(tmp_path, "raw", np.arange(1000) / 1000)
    log = log_path(tmp_path, "1.1", "raw")
    assert results.epoch_of(tmp_path) == 100
    assert results.last_epoch(log, "train_accuracy") == pytest.approx(0.9495)
    (tmp_path / DEPARTURES).write_text(json.dumps({"batch_size": 20}))
    assert results.epoch_of(tmp_path) == 500
    assert results.last_epoch(log, "train_accuracy") == pytest.approx(0.7495)


@pytest.mark.parametrize("window", [100, 5])
def test_the_running_mean_is_over_as_many_values_as_it_says(window):
    impulse = np.zeros(400)
    impulse[200] = window
    smooth = running_mean(impulse, window)
    assert np.flatnonzero(smooth).size == window and smooth.max() == 1
    assert np.array_equal(running_mean(np.full(400, 3.0), window), np.full(400, 3.0))


def test_means_and_differences_by_hand(tmp_path):
    write_results(tmp_path, "raw", [0.5, 0.75])
    write_results(tmp_path, "flip", [0.75, 0.75, 1.0])
    raw, flip = (log_path(tmp_path, "1.1", name) for name in ("raw", "flip"))
    assert results.final_accuracy(raw) == pytest.approx((0.625, 0.125 * 2**0.5, 2))
    assert str(results.final_accuracy(raw)) == "62.50 ± 17.68 % (n = 2)"
    assert results.paired_difference(flip, raw) == pytest.approx((0.125, 0.125, 2))  # over the seeds of both
    assert results.paired_difference(flip, flip, of=raw) == (0, 0, 2) != results.paired_difference(flip, flip)
    assert str(results.paired_difference(raw, flip)).startswith("-12.50 ± 12.50 points")
    assert results.paired_difference(raw, log_path(tmp_path, "1.1", "crop")) is None


LOGS = sorted((options.REPORT / "logs").glob("*.csv"))
NAMES = {name for path in LOGS for name in (path.stem, path.stem.partition("_")[2])} & results.TABLES.keys()
TYPED = [path for path in LOGS if {path.stem, path.stem.partition("_")[2]} & NAMES or path.stem == "2.3_depth0"]


def cell(text, column, value, line=1):
    """The table with another value in a cell; the columns' names are line 0."""
    lines = [row.split(",") for row in text.splitlines()]
    lines[line][lines[0].index(column)] = value
    return "".join(",".join(row) + "\n" for row in lines)


DAMAGES = {
    "empty": lambda text: "",
    "the columns' names only": lambda text: text.splitlines()[0] + "\n",
    "cut in a row": lambda text: text[: text.rindex(",")],
    "binary": lambda text: "\x00\xff\x80" * 50,
    "one column less": lambda text: "".join(line.partition(",")[2] for line in text.splitlines(keepends=True)),
    "other columns": lambda text: "x" + text,
    "a byte order mark": lambda text: "\ufeff" + text,
    "semicolons": lambda text: text.replace(",", ";"),
    "a row twice": lambda text: text + text.splitlines(keepends=True)[-1],
    "all rows twice": lambda text: text + text.partition("\n")[2],
}
VALUES = {"whole": ["-1", "inf", "²", "1.5", "x", ""], "share": ["-3", "7", "nan", "x", ""], "float": ["x", ""]}
VALUES |= {"bits": ["0", "xy"]}
VALUES |= {"category": ["10", "-1", ""], "count": ["-1", "two"], "finite": ["nan", "inf", "x", "", "1,5"], "text": []}


@pytest.mark.parametrize("path", TYPED, ids=lambda path: path.stem)
def test_a_damaged_table_is_one_line_that_names_the_file(path, tmp_path):
    text, copy = path.read_text(), tmp_path / path.name
    read = read_log if "iteration" in text.partition("\n")[0].split(",") else results.read_rows
    copy.write_text(text)
    rows = results.read_rows(copy)
    for name, damage in DAMAGES.items():
        copy.write_text(damage(text), encoding="latin-1" if name == "binary" else "utf-8")
        with pytest.raises(RecordError, match=re.escape(str(copy))) as error:
            read(copy)
        assert "\n" not in str(error.value), name
    plain = text.replace('"', "'").replace("solution, learning", "solution: learning")  # no commas in cells
    for column, kind in results.kinds_of(path)[0].items():
        for value in VALUES[kind]:
            copy.write_text(cell(plain, column, value))
            with pytest.raises(RecordError, match=rf"{re.escape(str(copy))}(, line 2, {column}: | is not a table)"):
                read(copy)
    assert all(row[column] is None or type(row[column]) in (str, int, float, bytes) for row in rows for column in row)


def test_numpy_reads_from_a_log_what_the_csv_reader_reads():
    log = log_path(options.REPORT, "1.1", "raw")
    for seed, columns in read_log(log).items():
        rows = [row for row in results.read_rows(log) if row["seed"] == seed]
        assert {name: values.tolist() for name, values in columns.items()} == {
            name: [row[name] for row in rows] for name in rows[0]
        }


def test_a_log_that_was_cut_is_not_finished_and_one_with_a_hole_is_an_error(tmp_path):
    write_log(tmp_path, "raw", [0.5] * 60)
    write_result(tmp_path, {"name": "raw", "seed": 0, "iterations": 60})
    log = log_path(tmp_path, "1.1", "raw")
    assert results.finished(log) == {0}
    lines = log.read_text().splitlines(keepends=True)
    log.write_text("".join(lines[:31]))
    assert results.finished(log) == set()
    log.write_text("".join(lines[:20] + lines[21:]))
    with pytest.raises(RecordError, match="seed 0 has missing"):
        results.finished(log)
