"""What is committed: the real runs, and a README that says what their logs say."""

import re
from functools import partial

import pytest

from common import data
from common.choice import held_out_means
from common.experiment import final_accuracies, log_path, mean_and_deviation, paired_difference, results
from common.networks import table1_network
from common.options import ITERATIONS
from common.plots import PART1
from common.preprocess import channel_statistics
from common.records import ROOT, load_checkpoint, read_csv, read_log
from common.training import Settings, evaluate
from part1 import crop, procedure

REPORT = ROOT / "report"


@pytest.mark.parametrize("name", PART1)
def test_part_1_has_five_full_real_runs_and_the_readme_has_their_answer(name):
    question, _ = PART1[name]
    log = log_path(REPORT, question, name)
    assert sorted(results(log)) == sorted(read_log(log)) == [0, 1, 2, 3, 4]
    assert all(int(row["iterations"]) == ITERATIONS for row in results(log).values())
    for columns in read_log(log).values():
        assert columns["iteration"].tolist() == list(range(1, ITERATIONS + 1))
    lines = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()
    (line,) = [line for line in lines if line.startswith(f"| {question} ")]
    assert mean_and_deviation(final_accuracies(log)) in line
    assert (REPORT / "figures" / f"{question}_{name}.png").exists() and f"{question}_{name}.png" in line


def test_the_default_procedure_is_the_one_that_won_on_held_out_images():
    log = REPORT / "logs" / "1.0_procedure.csv"
    means = held_out_means(log)
    assert set(means) == set(procedure.CANDIDATES)
    assert procedure.CANDIDATES[max(means, key=means.get)] == Settings()
    for row in read_csv(log):  # a name means what it meant when it was logged
        for name, value in vars(procedure.CANDIDATES[row["candidate"]]).items():
            assert row[name] == str(value) or float(row[name]) == value


def test_the_readme_says_what_the_logs_say():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    means = held_out_means(REPORT / "logs" / "1.0_procedure.csv")
    quoted = re.findall(r"^\| (.+?) \| (\d+\.\d) % \|$", readme, re.MULTILINE)
    assert len(quoted) >= 5
    for candidate, percent in quoted:
        assert percent == f"{100 * means[candidate]:.1f}"
    fp32 = REPORT / "trials" / "fp32"
    raw, normalized, centered = ("1.1", "raw"), ("1.2", "normalize"), ("1.2", "centered")
    flipped, cropped = ("1.3", "flip"), ("1.4", "crop")
    across = [(out, normalized, out, raw) for out in (REPORT, fp32)]
    across += [(out, centered, out, raw) for out in (REPORT, fp32)]
    across += [(out, normalized, out, centered) for out in (REPORT, fp32)]
    across += [(REPORT, experiment, fp32, experiment) for experiment in (raw, normalized, flipped, cropped)]
    for out, experiment, other_out, other in across:
        difference = paired_difference(log_path(out, *experiment), log_path(other_out, *other))
        assert difference.partition(" points")[0] in readme


def test_the_committed_weights_are_those_of_the_log(cifar):
    """Part 3 rests on them."""
    log = log_path(REPORT, "1.4", "crop")
    network = table1_network()
    network.load_state_dict(load_checkpoint(REPORT / "weights" / f"{log.stem}_seed0.pt"))
    question_1_4 = partial(crop.prepare, statistics=channel_statistics(cifar.train_images))
    accuracy, loss = evaluate(network, cifar.test_images, cifar.test_labels, question_1_4)
    assert accuracy == pytest.approx(float(results(log)[0]["test_accuracy"]), abs=5e-4)
    assert loss == pytest.approx(float(results(log)[0]["test_loss"]), rel=1e-3)


def test_the_procedure_answers_from_its_log_without_data(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["procedure.py", "--seeds", "0", "1"])
    monkeypatch.setattr(data, "load", None)
    procedure.main()
    assert "Muon" in capsys.readouterr().out.splitlines()[1]
