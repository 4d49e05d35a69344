"""What is committed: the real runs, and a README that says what their logs say."""

import re
from functools import partial
from statistics import mean

import matplotlib.pyplot as plt
import pytest
import torch

from common import data
from common.choice import held_out_means
from common.data import CLASSES
from common.experiment import (
    final_accuracies,
    log_path,
    mean_and_deviation,
    median_seconds,
    results,
)
from common.networks import table1_network
from common.options import ITERATIONS
from common.preprocess import channel_statistics
from common.records import ROOT, load_checkpoint, read_csv, read_log
from common.training import PLAIN_SGD, Settings, evaluate
from part1 import crop, procedure
from part2 import accuracy, gradients, solution, vanishing
from part2.cures import scaled
from part2.networks import designed_network
from part3 import adversarial, transfer

REPORT = ROOT / "report"


SEEDS = {  # of every experiment that is committed
    **{("1.1", "raw"): 5, ("1.2", "normalize"): 5, ("1.2", "centered"): 5, ("1.3", "flip"): 5, ("1.4", "crop"): 5},
    **{("2.1", "accuracy"): 3, ("2.3", "vanishing"): 3},
    **{("2.3", f"depth{added}"): 1 for added in (0, 2, 5, 10)},
    **{
        ("2.3", "sgd_vanishing"): 1,
        ("2.3", "batchnorm"): 1,
        ("2.4", "scaled"): 3,
        ("2.4", "residual"): 3,
        ("2.4", "scaled_unchanged"): 1,
    },
    **{("2.4", name): 1 for name in ("none", "he", "dirac")},
}
ANSWERS = {"1.1": "raw", "1.2": "normalize", "1.3": "flip", "1.4": "crop", "2.1": "accuracy", "2.3": "vanishing"}
ANSWERS |= {"2.4": solution.SOLUTION}
FIGURES = ANSWERS | {"2.4": "cures"}


@pytest.mark.parametrize("question, name", SEEDS)
def test_the_committed_runs_are_real_and_full(question, name):
    log = log_path(REPORT, question, name)
    assert sorted(results(log)) == sorted(read_log(log)) == list(range(SEEDS[question, name]))
    assert all(int(row["iterations"]) == ITERATIONS and "+" not in row["commit"] for row in results(log).values())
    for columns in read_log(log).values():
        assert columns["iteration"].tolist() == list(range(1, ITERATIONS + 1))


@pytest.mark.parametrize("question", ANSWERS)
def test_the_readme_has_the_answer_of_each_question(question):
    name = ANSWERS[question]
    lines = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()
    (line,) = [line for line in lines if line.startswith(f"| {question} ")]
    assert mean_and_deviation(final_accuracies(log_path(REPORT, question, name))) in line
    figures = re.findall(r"report/figures/\S+?\.png", line)
    assert f"report/figures/{question}_{FIGURES[question]}.png" in figures
    assert all((ROOT / figure).exists() for figure in figures)


def test_the_procedures_are_those_that_won_on_held_out_images():
    log = REPORT / "logs" / "1.0_procedure.csv"
    means = held_out_means(log)
    assert set(means) == set(procedure.CANDIDATES)
    assert procedure.CANDIDATES[max(means, key=means.get)] == Settings()
    best_sgd = procedure.CANDIDATES[max((name for name in means if name.startswith("SGD")), key=means.get)]
    for setting in ("optimizer", "learning_rate", "momentum", "weight_decay"):
        assert getattr(PLAIN_SGD, setting) == getattr(best_sgd, setting)
    for row in read_csv(log):  # a name means what it meant when it was logged
        for name, value in vars(procedure.CANDIDATES[row["candidate"]]).items():
            assert row[name] == str(value) or float(row[name]) == value


def test_the_readme_says_what_the_logs_say():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    one_digit = {
        name: f"{100 * mean(final_accuracies(log_path(REPORT, *name))):.1f} %"
        for name in [("2.1", "accuracy"), ("2.3", "vanishing"), ("2.4", "scaled")]
    }
    assert all(claim in readme.partition("## ")[0] for claim in one_digit.values())
    found = vanishing.answer(REPORT)
    assert f"leaves {found['left']} of the gradient's scale, by theory √(1/6) = {found['theory']}" in readme
    (_, first), (_, last) = gradients.answer(REPORT).values()
    assert f"G = {first} in the first convolution, {last} in the last" in readme
    attacks = adversarial.answer(REPORT)
    assert f"{attacks['succeeded']} of {attacks['attacked']} test images" in readme
    shown = {row["inputs"]: row for row in transfer.answer(REPORT)["transfer"] if row["images"] == "shown"}
    assert f"{shown['adversarial']['accuracy']} % of the 20 (originals: {shown['original']['accuracy']} %)" in readme
    trained = re.findall(r"^\| `part\d/(\w+)\.py`, a seed \| (\d+) s \|$", readme, re.MULTILINE)
    logs = {"crop": ("1.4", "crop"), "solution": ("2.4", "scaled")}
    logs |= {name: (question, name) for question, name in [("2.1", "accuracy"), ("2.3", "vanishing")]}
    assert all((ROOT / path).exists() for path in re.findall(r"\]\((\S+?)\)", readme))
    assert {name: f"{median_seconds(log_path(REPORT, *log)):.0f}" for name, log in logs.items()} == dict(trained)


@pytest.mark.parametrize(
    "question, script, make_network",
    [("1.4", crop, table1_network), ("2.1", accuracy, designed_network), ("2.4", accuracy, scaled)],
)
def test_the_committed_weights_are_those_of_the_log(question, script, make_network, cifar):
    """Part 3 rests on them."""
    log = log_path(REPORT, question, ANSWERS[question])
    network = make_network()
    network.load_state_dict(load_checkpoint(REPORT / "weights" / f"{log.stem}_seed0.pt"))
    prepare = partial(script.prepare, statistics=channel_statistics(cifar.train_images))
    test_accuracy, loss = evaluate(network, cifar.test_images, cifar.test_labels, prepare)
    assert test_accuracy == pytest.approx(float(results(log)[0]["test_accuracy"]), abs=5e-4)
    assert loss == pytest.approx(float(results(log)[0]["test_loss"]), rel=1e-3)


def test_the_procedure_answers_from_its_log_without_data(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["procedure.py", "--seeds", "0", "1"])
    monkeypatch.setattr(data, "load", None)
    procedure.main()
    assert "Muon" in capsys.readouterr().out.splitlines()[1]


def test_whoever_loads_the_committed_weights_and_images_finds_the_confidences_again(cifar):
    """An independent check of question 3.1: files in, wrong category with at least 99 % out."""
    network = table1_network().eval()
    network.load_state_dict(load_checkpoint(REPORT / "weights" / "1.4_crop_seed0.pt"))
    statistics = channel_statistics(cifar.train_images)
    rows = read_csv(REPORT / "logs" / "3.1_adversarial.csv")
    assert [row["category"] for row in rows] == [str(category) for category in range(10) for _ in range(2)]
    for row in rows:
        index, true, wrong = (int(row[name]) for name in ("index", "category", "category_after"))
        assert cifar.test_labels[index] == true != wrong
        original, attacked = (
            torch.from_numpy(255 * plt.imread(REPORT / "figures" / "adversarial" / name)).round().permute(2, 0, 1)
            for name in (f"{index:04d}_{CLASSES[true]}.png", f"{index:04d}_{CLASSES[true]}_as_{CLASSES[wrong]}.png")
        )
        assert torch.equal(original, cifar.test_images[index].float())
        with torch.no_grad():
            before, after = network(crop.prepare(torch.stack([original, attacked]), statistics)).softmax(1)
        assert before.argmax() == true and after.argmax() == wrong
        assert before[true].item() == pytest.approx(float(row["confidence_before"]), abs=1e-3)
        assert after[wrong].item() == pytest.approx(float(row["confidence_after"]), abs=1e-3) and after[wrong] > 0.9899
        distance = (attacked - original).abs().max()
        assert distance == float(row["linf"]) <= int(row["iterations"])


def test_every_attack_is_in_the_table_and_says_whether_it_succeeded():
    rows = read_csv(REPORT / "logs" / "3.1_attacks.csv")
    assert [int(row["index"]) for row in rows] == list(range(10_000))
    for row in rows:
        wrong_and_sure = row["category_after"] != row["category"] and float(row["confidence_after"]) >= 0.99
        assert row["succeeded"] == str(int(wrong_and_sure))
        assert float(row["linf"]) <= int(row["iterations"])
