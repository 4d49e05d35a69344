"""Logs to numbers: what is read, over how many iterations it is averaged, and what two experiments differ in."""

import json

import numpy as np
import pytest

from common import results
from common.plots import running_mean
from common.records import merge_rows, write_rows
from common.results import DEPARTURES, RESULT_COLUMNS, log_path


def write_log(out, name, accuracies):
    rows = [
        {"seed": 0, "iteration": iteration, "train_accuracy": accuracy}
        for iteration, accuracy in enumerate(accuracies, start=1)
    ]
    write_rows(log_path(out, "1.1", name), rows)


def write_results(out, name, accuracies):
    for seed, accuracy in enumerate(accuracies):
        row = dict.fromkeys(RESULT_COLUMNS, "") | {"question": "1.1", "name": name, "seed": seed}
        merge_rows(out / "logs/results.csv", [row | {"test_accuracy": accuracy}], key=["question", "name", "seed"])


def test_a_log_is_read_again_when_it_has_been_replaced(tmp_path):
    for accuracy in (0.25, 0.5):
        write_log(tmp_path, "raw", [accuracy] * 3)
        assert results.last_epoch(log_path(tmp_path, "1.1", "raw"), "train_accuracy") == accuracy


def test_an_epoch_is_the_training_batch_whatever_the_size_of_a_step(tmp_path):
    write_log(tmp_path, "raw", np.arange(1000.0))
    log = log_path(tmp_path, "1.1", "raw")
    assert results.epoch_of(tmp_path) == 100
    assert results.last_epoch(log, "train_accuracy") == np.mean(np.arange(900, 1000))
    (tmp_path / DEPARTURES).write_text(json.dumps({"batch_size": 20}))
    assert results.epoch_of(tmp_path) == 500
    assert results.last_epoch(log, "train_accuracy") == np.mean(np.arange(500, 1000))


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
    assert str(results.paired_difference(raw, flip)).startswith("-12.50 ± 12.50 points")
    assert results.paired_difference(raw, log_path(tmp_path, "1.1", "crop")) is None
