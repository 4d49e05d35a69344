"""What is committed: the real runs, their weights, and a README that says what their logs say."""

import re
from dataclasses import asdict, replace
from statistics import median

import matplotlib.pyplot as plt
import pytest
import torch

from common import data, experiment, options
from common.data import CLASSES
from common.gradients import convolutions
from common.held_out import comparisons
from common.networks import evaluate, table1_network
from common.records import ROOT, hash_of_tensors, load_checkpoint
from common.results import TRAIN_IMAGES, departures, final_accuracy, log_path, read_log, read_results, read_rows, runs
from common.settings import PLAIN_SGD, Settings
from common.training import train
from part1 import controls as part1_controls
from part1 import crop, flip, normalize, procedure, raw
from part2 import accuracy, controls, gradients, solution, vanishing
from part3 import adversarial, transfer
from part3 import controls as transfer_controls
from part3.networks import NETWORKS, weights_of
from report.check import compare_training
from report.runs import RUNS

REPORT = options.REPORT
ANSWERS = {"1.1": "raw", "1.2": "normalize", "1.3": "flip", "1.4": "crop", "2.1": "accuracy", "2.3": "vanishing"}
ANSWERS |= {"2.4": solution.SOLUTION}
FIGURES = ANSWERS | {"2.4": "cures"}
COMMITTED = {(run.folder(REPORT), name): list(run.seeds) for run in RUNS for name in run.experiments}
BESIDE = ("3.1_torchattacks",)  # tests/compare_torchattacks.py writes it, which needs that library
EXPERIMENTS = [raw.EXPERIMENT, normalize.EXPERIMENT, normalize.CONTROL, flip.EXPERIMENT, crop.EXPERIMENT]
EXPERIMENTS += [accuracy.EXPERIMENT, accuracy.ORDINARY, vanishing.EXPERIMENT]
EXPERIMENTS += [*part1_controls.WITHOUT.values(), part1_controls.DIVIDED, *part1_controls.AUGMENTATIONS.values()]
EXPERIMENTS += list(controls.CONTROLS.values())
EXPERIMENTS += [controls.of_depth(added) for added in (0, 2, 5, 10)]
EXPERIMENTS += [solution.experiment_of(name) for name in solution.CURES]
EXPERIMENTS += [solution.experiment_of(name, "clipped") for name in ("he", "residual")]
EXPERIMENTS += [solution.experiment_of(name, "unchanged") for name in solution.PARTS]
EXPERIMENTS += [solution.experiment_of(name, "halved") for name in ("scaled_chain", "scaled")]
EXPERIMENTS += [*transfer_controls.HALVES, *transfer_controls.SOURCES_ONLY.values()]


@pytest.mark.parametrize("folder, name", COMMITTED)
def test_the_committed_runs_are_real_and_full(folder, name):
    log, budget = folder / "logs" / f"{name}.csv", departures(folder).get("iterations", Settings().iterations)
    assert sorted(runs(log)) == sorted(read_log(log)) == COMMITTED[folder, name]
    assert all(int(row["iterations"]) == budget and "+" not in row["commit"] for row in runs(log).values())
    for columns in read_log(log).values():
        assert columns["iteration"].tolist() == list(range(1, budget + 1))


def test_every_committed_log_is_of_a_listed_command():
    for folder in {run.folder(REPORT) for run in RUNS}:
        logs = folder / "logs"
        listed = {name for run in RUNS if run.folder(REPORT) == folder for name in run.experiments + run.tables}
        assert {path.stem for path in logs.glob("*.csv")} - {"results", "measured", *BESIDE} == listed
        assert {(folder, name) for name in read_results(logs / "results.csv")} == {
            (of, name) for of, name in COMMITTED if of == folder
        }
    assert {f"{each.question}_{each.name}" for each in EXPERIMENTS} == {name for _, name in COMMITTED}


@pytest.mark.parametrize("each", EXPERIMENTS, ids=lambda each: each.name)
def test_the_first_step_of_every_committed_run_is_found_again(each, cifar):
    """The weights that a seed stands for, the order of images, the augmentation, the loss and G are as they were.

    On any processor: through 17 convolutions and more, what differently rounded bf16 changes in G is not small. But a
    GPU draws other images from the same seed.
    """
    log = log_path(REPORT, each.question, each.name)
    if runs(log)[0]["device"] != "cpu":
        pytest.skip("trained on a GPU")
    precision = options.fastest_precision(torch.device("cpu"))
    settings = replace(each.settings, iterations=1)
    make_network, prepare, log_gradients = each.make_network, each.prepare, each.log_gradients
    cifar = each.trained_on(cifar)
    _, columns, _ = train(make_network, prepare, cifar, settings, 0, precision, log_gradients=log_gradients)
    logged = read_log(log)[0]
    assert logged.keys() - {"seed", "iteration"} == columns.keys()
    magnitude = {"rel": 0.1 if len(convolutions(make_network())) < 17 else 0.5}
    tolerances = {"loss": {"rel": 0.01}, "train_accuracy": {"abs": 0.03}, "learning_rate": {"rel": 1e-5}}
    for name, (value,) in columns.items():
        assert value == pytest.approx(logged[name][0], **tolerances.get(name, magnitude)), name


def test_the_gpu_agrees_with_the_processor_within_what_seeds_and_machines_vary():
    gpu = REPORT / "checks" / "nvidia-h200"
    found = read_results(gpu / "logs" / "results.csv")
    main = [run for run in RUNS if run.folder(REPORT) == REPORT and found.keys() & set(run.experiments)]
    verdicts = [verdict for run in main for verdict in compare_training(run, gpu, REPORT)]
    assert len(verdicts) == sum(map(len, found.values())) > 0
    assert {verdict.verdict for verdict in verdicts} == {"equal"}


@pytest.mark.parametrize("question", ANSWERS)
def test_the_readme_has_the_answer_of_each_question(question):
    name = ANSWERS[question]
    lines = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()
    (line,) = [line for line in lines if line.startswith(f"| {question} ")]
    assert str(final_accuracy(log_path(REPORT, question, name))) in line
    figures = re.findall(r"report/figures/\S+?\.png", line)
    assert f"report/figures/{question}_{FIGURES[question]}.png" in figures
    assert all((ROOT / figure).exists() for figure in figures)


def test_the_procedures_are_those_that_won_on_held_out_images():
    table = log_path(REPORT, "1.0", "folds")
    found = comparisons(table, procedure.CHOSEN)
    assert set(found) <= set(procedure.CANDIDATES)
    for chosen, settings, kind in [(procedure.CHOSEN, Settings(), "Muon"), (procedure.BEST_SGD, PLAIN_SGD, "SGD")]:
        candidate = procedure.CANDIDATES[chosen]
        names = ("optimizer", "learning_rate", "momentum", "weight_decay", "keep_norm", "clip_norm")
        assert all(getattr(candidate, name) == getattr(settings, name) for name in names)
        rivals = {name: difference for name, (_, difference) in found.items() if name.startswith(kind)}
        on_all_folds = [name for name, other in rivals.items() if other and other.pairs == TRAIN_IMAGES]
        assert len(on_all_folds) > 1 - (kind == "Muon")
        best = max(rivals[name].mean for name in on_all_folds)
        assert best < 0 if kind == "Muon" else rivals[chosen].mean == best
    for row in read_rows(table):  # a name means what it meant when it was logged
        for name, value in asdict(procedure.CANDIDATES[row["candidate"]]).items():
            assert row[name] in (value, str(value))


def test_the_readme_says_what_the_logs_say():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    one_digit = {
        name: f"{100 * final_accuracy(log_path(REPORT, *name)).mean:.1f} %"
        for name in [("2.1", "accuracy"), ("2.3", "vanishing"), ("2.4", "scaled")]
    }
    assert all(claim in readme.partition("## ")[0] for claim in one_digit.values())
    found = vanishing.answer(REPORT)
    factor, theory = f"{found['gradient_factor']:.3f}", f"{found['theory']:.3f}"
    assert f"leaves {factor} of the gradient's scale (theory: √(1/6) = {theory})" in readme
    first, last = (f"{g['end']:.2g}" for g in gradients.answer(REPORT).values())
    assert f"G = {first} in the first convolution, {last} in the last" in readme
    attacks = adversarial.answer(REPORT)
    assert f"{attacks['succeeded']} of {attacks['attacked']} test images" in readme
    shown = {row["inputs"]: row["accuracy"] for row in transfer.answer(REPORT)["transfer"] if row["images"] == "shown"}
    right, before = (f"{100 * shown[name]:.1f} %" for name in ("adversarial", "original"))
    assert f"{right} of the 20 images shown in 3.1 (originals: {before})" in readme
    trained = re.findall(r"^\| `part\d/(\w+)\.py`, per seed \| (\d+) s \|$", readme, re.MULTILINE)
    logs = {"crop": ("1.4", "crop"), "solution": ("2.4", "scaled")}
    logs |= {name: (question, name) for question, name in [("2.1", "accuracy"), ("2.3", "vanishing")]}
    assert all((ROOT / path).exists() for path in re.findall(r"\]\((\S+?)\)", readme))
    for name, log in logs.items():
        seconds = median(float(row["seconds"]) for row in runs(log_path(REPORT, *log)).values())
        assert f"{seconds:.0f}" == dict(trained)[name]
    assert len(trained) == len(logs)


@pytest.mark.parametrize("name", NETWORKS)
def test_the_committed_weights_are_those_of_the_log(name, cifar):
    """Part 3 rests on them. Part 2's are slow: of these, the training images that a table has are classified."""
    trained, seed = NETWORKS[name]
    (weights,) = weights_of(REPORT, name)
    network = trained.make_network()
    network.load_state_dict(load_checkpoint(weights))
    if name in ("2.1", "2.4"):
        (row,) = [row for row in read_rows(log_path(REPORT, name, "overfitting")) if row["seed"] == seed]
        images, labels, expected = cifar.train_images, cifar.train_labels, row["train_accuracy"]
        images, labels = images[: row["images"]], labels[: row["images"]]
    else:
        images, labels = cifar.test_images, cifar.test_labels
        expected = runs(log_path(REPORT, trained.question, trained.name))[seed]["test_accuracy"]
    found, _ = evaluate(network, trained.prepare, images, labels, cifar.statistics)
    assert found == pytest.approx(expected, abs=5e-4)


def test_the_committed_weights_are_small_and_have_the_hashes_that_are_on_record():
    weights = weights_of(REPORT, *NETWORKS)
    assert sum(path.stat().st_size for path in weights) < 25e6
    recorded = {(row["weights"], row["sha256"]) for row in read_rows(REPORT / "logs" / "measured.csv")}
    assert {(path.name, hash_of_tensors(load_checkpoint(path))) for path in weights} <= recorded
    assert len(dict(recorded)) == len(recorded)  # one hash for a file, whatever was measured on it


def test_what_was_measured_on_the_committed_weights_need_not_be_measured_again():
    for script, names in [(adversarial, ["1.4"]), (transfer, NETWORKS)]:
        for table in script.tables_in(REPORT).values():
            assert experiment.is_measured(table, {}, weights_of(REPORT, *names))
    for table, name in [("1.4", "1.4"), ("2.1", "2.1"), ("2.4", "2.4")]:
        trained, seed = NETWORKS[name]
        cells = {"name": trained.name, "seed": seed}
        assert experiment.is_measured(log_path(REPORT, table, "overfitting"), cells, weights_of(REPORT, name))


def test_the_procedure_answers_from_its_log_without_data(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["procedure.py"])
    monkeypatch.setattr(data, "load", None)
    procedure.main()
    assert "Muon" in capsys.readouterr().out.splitlines()[1]


def test_whoever_loads_the_committed_weights_and_images_finds_the_confidences_again(cifar):
    """An independent check of question 3.1: files in, wrong category with at least 99 % out."""
    network = table1_network().eval()
    network.load_state_dict(load_checkpoint(REPORT / "weights" / "1.4_crop_seed0.pt"))
    rows = read_rows(REPORT / "logs" / "3.1_adversarial.csv")
    assert [row["category"] for row in rows] == [category for category in range(10) for _ in range(2)]
    for row in rows:
        index, true, wrong = (row[name] for name in ("index", "category", "category_after"))
        assert cifar.test_labels[index] == true != wrong
        original, attacked = (
            torch.from_numpy(255 * plt.imread(REPORT / "figures" / "adversarial" / name)).round().permute(2, 0, 1)
            for name in (f"{index:04d}_{CLASSES[true]}.png", f"{index:04d}_{CLASSES[true]}_as_{CLASSES[wrong]}.png")
        )
        assert torch.equal(original, cifar.test_images[index].float())
        with torch.no_grad():
            before, after = network(crop.prepare(torch.stack([original, attacked]), cifar.statistics)).softmax(1)
        assert before.argmax() == true and after.argmax() == wrong
        assert before[true].item() == pytest.approx(row["confidence_before"], abs=1e-3)
        assert after[wrong].item() == pytest.approx(row["confidence_after"], abs=1e-3) and after[wrong] > 0.9899
        distance = (attacked - original).abs().max()
        assert distance == row["linf"] <= row["iterations"]


def test_every_attack_is_in_the_table_and_says_whether_it_succeeded():
    rows = read_rows(REPORT / "logs" / "3.1_attacks.csv")
    assert [row["index"] for row in rows] == list(range(10_000))
    for row in rows:
        wrong_and_sure = row["category_after"] != row["category"] and row["confidence_after"] >= 0.99
        assert row["succeeded"] == int(wrong_and_sure)
        assert row["linf"] <= row["iterations"]
