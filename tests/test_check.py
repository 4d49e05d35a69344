"""The verdicts of `reproduce.py --check`: the committed state passes, what has been altered does not."""

import argparse
import shutil

import pytest
import torch

from common import records, results
from common.options import REPORT
from part3.networks import NETWORKS, weights_of
from report import check
from report.runs import RUNS

RAW = next(run for run in RUNS if run.script == "part1/raw.py")._replace(seeds=[0])


@pytest.fixture
def record(tmp_path):
    for name in ("1.1_raw", "3.1_attacks", "results"):
        (tmp_path / "record" / "logs").mkdir(parents=True, exist_ok=True)
        shutil.copy(REPORT / "logs" / f"{name}.csv", tmp_path / "record" / "logs")
    shutil.copytree(REPORT / "weights", tmp_path / "record" / "weights")
    return tmp_path / "record"


def alter(path, old, new):
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), encoding="utf-8")


def test_an_accuracy_is_equal_within_three_standard_deviations_of_a_difference():
    """By hand: the other seeds, 0.70 and 0.72, have the deviation 0.0141; a difference of two has √2 times that."""
    allowed = 3 * 2**0.5 * 0.0002**0.5
    assert check.judge(0.71 + 0.99 * allowed, 0.71, [0.70, 0.72], identical=False) == "equal"
    assert check.judge(0.71 + 1.01 * allowed, 0.71, [0.70, 0.72], identical=False) == "different"
    assert check.judge(0.90, 0.71, [0.70, 0.72], identical=True) == "identical"


def test_seeds_that_happen_to_agree_do_not_ask_more_of_another_machine():
    """1.1's seed 0 ended 0.6 points elsewhere with another processor and number of threads."""
    assert check.judge(0.746, 0.740, [0.740, 0.740], identical=False) == "equal"
    assert check.judge(0.76, 0.740, [], identical=False) == "different"


def test_a_run_that_ends_as_on_record_is_identical_and_one_that_does_not_is_judged(record, tmp_path):
    here = tmp_path / "here"
    shutil.copytree(record, here)
    assert {each.verdict for each in check.compare_training(RAW, here, record)} == {"identical"}
    _, first, *_ = (record / "logs" / "1.1_raw.csv").read_text().splitlines()
    alter(record / "logs" / "1.1_raw.csv", first, first.replace("0,1,", "0,1,9"))
    verdict, *others = check.compare_training(RAW, here, record)
    assert verdict.verdict == "equal" and {each.verdict for each in others} == {"identical"}
    accuracy = results.runs(record / "logs" / "1.1_raw.csv")[0]["test_accuracy"]
    alter(here / "logs" / "results.csv", f"1.1,raw,0,{accuracy}", "1.1,raw,0,0.5")
    assert check.compare_training(RAW, here, record)[0].verdict == "different"


def test_the_committed_weights_and_attacks_pass_and_altered_ones_fail(record, cifar, monkeypatch):
    monkeypatch.setattr(check, "NETWORKS", {name: NETWORKS[name] for name in ("1.4", "1.4, seed 1")})
    assert {each.verdict for each in check.compare_weights(cifar, REPORT)} <= {"identical", "equal"}
    shutil.copy(weights_of(REPORT, "1.4, seed 1")[0], weights_of(record, "1.4")[0])
    assert check.compare_weights(cifar, record)[0].verdict == "different"
    monkeypatch.setattr(check, "ATTACKED", 20)
    assert check.compare_attacks(cifar, REPORT).verdict in ("identical", "equal")
    assert check.compare_attacks(cifar, record).verdict == "different"  # by the other network's weights


@pytest.mark.parametrize("altered", [False, True])
def test_the_whole_check_trains_apart_and_says_whether_anything_differs(altered, record, cifar, monkeypatch, capsys):
    """A copy of the log stands in for training."""
    commands = []

    def train_again(command, flags):
        commands.append(command)
        shutil.copytree(REPORT / "logs", f"{flags[1]}/logs")

    if altered:
        alter(record / "logs" / "3.1_attacks.csv", "\n0,3,", "\n0,4,")
        alter(record / "logs" / "results.csv", "1.1,raw,0,0.7", "1.1,raw,0,0.5")
        alter(record / "logs" / "1.1_raw.csv", "0,1,", "0,1,9")
    monkeypatch.setattr(check, "REPORT", record)
    monkeypatch.setattr(check, "QUICK", ("part1/raw.py",))
    monkeypatch.setattr(check, "NETWORKS", {"1.4": NETWORKS["1.4"]})
    monkeypatch.setattr(check, "ATTACKED", 5)
    monkeypatch.setattr(check.data, "load", lambda: cifar)
    assert check.check(train_again, argparse.Namespace(full=False)) != altered
    output = capsys.readouterr().out
    assert commands == ["part1/raw.py --seeds 0"]
    assert output.splitlines()[-1].endswith("0 different") != altered


def test_a_processor_is_compared_with_runs_on_processors_alone(tmp_path):
    here = {"processor": records.processor(torch.device("cpu")), "torch": str(torch.__version__)}
    rows = [row | here for row in records.read_rows(REPORT / "logs" / "results.csv") if row["device"] == "cuda"]
    (tmp_path / "logs").mkdir()
    records.write_rows(tmp_path / "logs" / "results.csv", rows[:1])
    assert f"torch {torch.__version__} instead of" in check.differing(tmp_path)
