"""The scripts as a user runs them: bad input, safe re-runs, kill -9, two at once."""

import errno
import importlib
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import mean

import pytest
import torch

from common import data, experiment, options, overfitting, plots, records, training
from common.options import trial_path
from common.records import RecordError, load_checkpoint, read_rows
from common.results import departures, final_accuracies, kinds_of, log_path, runs
from common.settings import Settings
from part1 import comparison, crop, raw
from part2 import accuracy, cures, networks, signals, solution, vanishing
from part2.networks import ADDED
from part3 import adversarial, transfer
from report.runs import trial_beside

TRIAL = ("--data-dir", "synthetic", "--iterations", 40)  # two epochs of `run_main`
FOLDER = trial_path(Path(), {"iterations": 40, "images": "synthetic"})
SHORT = ("--data-dir", "synthetic", "--iterations", "10", "--batch-size", "20")
SHORT_FOLDER = trial_path(Path(), {"iterations": 10, "batch_size": 20, "images": "synthetic"})


def files(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


BAD_INPUT = {
    "--iterations -5": "not between 1",
    "--iterations 0": "not between 1",
    "--iterations many": "whole number",
    "--iterations 1e3": "whole number",
    "--iterations 99999999999999999999": "not between 1",
    "--batch-size 0": "not between 2",
    "--batch-size 1": "not between 2",
    "--batch-size 10001": "not between 2",
    "--batch-size ten": "whole number",
    "--seeds": "expected at least one",
    "--seeds -1": "--seeds",
    "--seeds 0 one": "whole number",
    "--seeds 4294967296": "not between 0",
    "--device abacus": "not one of auto, cpu, cuda, mps",
    "--device cuda:x": "not one of auto, cpu, cuda, mps",
    "--precision fp8": "invalid choice",
    "--data-dir": "expected one argument",
    "--data-dir {tmp}/nowhere": "is not a folder",
    "--data-dir {tmp}": "has no cifar-10-batches-py",
    "--data-dir {tmp}/file": "is not a folder",
    "--data-dir {tmp}/short": "expected md5",
    "--out": "expected one argument",
    "--out {tmp}/file": "cannot write into",
    "--out {tmp}/file/below": "cannot write into",
    "--out {tmp}/folder-is-file": "cannot write into",
    "--out {tmp}/log-is-folder": "1.4_crop.csv",
    "--retrain --out {tmp}/log-is-folder": "1.4_crop.csv",
    "--out {tmp}/log-is-garbage": "has the columns a poem, not seed,iteration",
    "--out {tmp}/results-are-garbage": "has the columns a poem, not question,name",
    "--out {tmp}/log-is-ragged": "is not a table",
    "--out {tmp}/results-are-latin": "is not a table",
    "--out ": "is empty",
    "--seeds 1_0": "whole number",
    "--seeds ٣": "whole number",
    "--out {tmp}/other-precision": "name another folder with --out",
    "--unknown": "unrecognized arguments",
    "--iter 5": "unrecognized arguments",
    "something": "unrecognized arguments",
}


@pytest.mark.parametrize("flags", BAD_INPUT)
def test_bad_input_is_one_line_and_exit_code_2(flags, tmp_path, monkeypatch, capsys):
    def write(path, text):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def write_in(out, name, text):
        write(tmp_path / out / FOLDER / name, text)

    log, results = "logs/1.4_crop.csv", "logs/results.csv"
    row = dict.fromkeys(kinds_of(Path("results.csv"))[0], "1") | {"question": "1.4", "name": "crop", "precision": "fp4"}
    write(tmp_path / "file", "")
    write(tmp_path / "short/cifar-10-batches-py/data_batch_1", "short")
    write(tmp_path / "short/cifar-10-batches-py/test_batch", "short")
    write_in("folder-is-file", "figures", "")
    (tmp_path / "log-is-folder" / FOLDER / log).mkdir(parents=True)
    write_in("log-is-garbage", log, "a poem\nabout a CNN\n")
    write_in("log-is-ragged", log, "seed,loss\n0,1\n0\n")
    write_in("results-are-garbage", results, "a poem\nabout a CNN\n")
    write_in("results-are-latin", results, "")
    (tmp_path / "results-are-latin" / FOLDER / results).write_bytes(b"\xe9\xff")
    write_in("other-precision", results, f"{','.join(row)}\n{','.join(row.values())}\n")

    expected = BAD_INPUT[flags]
    flags = flags.format(tmp=tmp_path).split(" ")
    defaults = ["--out", str(tmp_path / "out"), *map(str, TRIAL)]
    monkeypatch.setattr("sys.argv", ["crop.py", *defaults, *flags])
    with pytest.raises(SystemExit) as stop:
        options.run_script(crop.main)
    output, errors = capsys.readouterr()
    assert stop.value.code == 2 and output == ""
    assert errors.startswith("crop.py: error: ") and errors.count("\n") == 1
    assert expected in errors


def few_images(monkeypatch, test=100):
    """Use fewer images to train on, to evaluate on and to measure on."""
    monkeypatch.setattr(data, "synthetic", partial(data.synthetic, 200, test))
    monkeypatch.setattr(signals, "INITIALIZATIONS", 2)
    monkeypatch.setattr(signals, "IMAGES", 2)


SCRIPTS = {
    "part1.raw": ("1.1_raw", 1),
    "part1.normalize": ("1.2_normalize", 1),
    "part1.flip": ("1.3_flip", 1),
    "part1.crop": ("1.4_crop", 1),
    "part2.accuracy": ("2.1_accuracy", 1),
    "part2.gradients": ("2.1_accuracy", 2),
    "part2.vanishing": ("2.3_vanishing", 5),
    "part2.controls": ("2.3_depth2", 1),
    "part2.solution": ("2.4_scaled", 4),
}


@pytest.mark.parametrize("script", SCRIPTS)
def test_every_script_runs_reruns_and_retrains(script, tmp_path, monkeypatch, capsys):
    module = importlib.import_module(script)
    name, drawn = SCRIPTS[script]
    name += ".csv"
    few_images(monkeypatch)
    trial = [*SHORT, "--out", str(tmp_path), *(["--depth", "2", "1"] if script == "part2.controls" else [])]
    out = tmp_path / SHORT_FOLDER

    def run(*flags):
        monkeypatch.setattr("sys.argv", ["script.py", *trial, *flags])
        options.run_script(module.main)
        return capsys.readouterr().out.splitlines()

    first = run()
    logs, figures = files(out / "logs"), files(out / "figures")
    assert any("test accuracy" in line for line in first) and len(figures) == 2 * drawn  # as PDF and PNG
    rows = read_rows(out / "logs" / name)
    assert [int(row["iteration"]) for row in rows] == list(range(1, 11))
    columns = ["seed", "iteration", "loss", "train_accuracy", "learning_rate"]
    convolutions = {"2.1": 7, "2.3_v": 27, "2.3_d": 9, "2.4": 27}
    convolutions = next((convolutions[start] for start in convolutions if name.startswith(start)), 0)
    assert list(rows[0]) == columns + [f"G_conv{number}" for number in range(1, convolutions + 1)]
    assert not (tmp_path / "logs").exists()  # off the budget: nothing among the report's

    with monkeypatch.context() as patch:
        patch.setattr(experiment, "train_seed", None)  # a finished log needs no training
        again = [line for line in run() if "already" not in line]
    done = [line for line in first if " seed 0: " in line]
    assert again == [line for line in first if line not in done]
    assert files(out / "logs") == logs and files(out / "figures") == figures

    monkeypatch.setattr(module, "draw", lambda out: None)  # done twice already
    assert any(line.startswith(f"{name.removesuffix('.csv')} seed 0: ") for line in run("--retrain"))
    assert (out / "logs" / name).read_bytes() == logs[name]


def test_a_network_is_watched_while_it_trains(tmp_path, monkeypatch, capsys):
    """At the start of the course: after one step and after the last of ten; the weights kept for it are removed."""
    few_images(monkeypatch)
    monkeypatch.setattr("sys.argv", ["vanishing.py", *SHORT, "--out", str(tmp_path), "--seeds", "1"])
    options.run_script(vanishing.main)
    out = tmp_path / SHORT_FOLDER
    course = read_rows(out / "logs" / "2.3_course.csv")
    places = [(row["name"], row["seed"], row["iteration"], row["convolution"]) for row in course]
    assert places == [("vanishing", "1", after, str(layer)) for after in ("1", "10") for layer in range(1, 28)]
    network = vanishing.vanishing_network()
    network.load_state_dict(load_checkpoint(out / "weights" / "2.3_vanishing_seed1.pt"))
    last = vanishing.watch(network.eval(), data.synthetic())
    for row, found in zip(course[27:], last, strict=True):
        assert {name: float(row[name]) for name in found} == pytest.approx(found, rel=1e-5)
    assert course[0]["gradient"] != course[27]["gradient"]
    assert not list((out / "checkpoints").glob("*.pt"))


def test_overfitting_is_measured_on_training_images_as_they_are(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(data, "synthetic", partial(data.synthetic, 100, 60))
    seen = []

    def watch(network, prepare, images, labels, statistics):
        seen.append(prepare(images, statistics))
        assert torch.equal(seen[-1], prepare(images, statistics))  # no augmentation
        return 1.0, 0.0

    monkeypatch.setattr(overfitting, "evaluate", watch)
    trial = ["--data-dir", "synthetic", "--iterations", "2", "--batch-size", "20", "--out", str(tmp_path)]
    monkeypatch.setattr("sys.argv", ["comparison.py", *trial, "--seeds", "0", "1"])
    options.run_script(comparison.main)
    first = capsys.readouterr().out.splitlines()
    assert [len(images) for images in seen] == [100] * 8
    out = tmp_path / trial_path(Path(), {"iterations": 2, "batch_size": 20, "images": "synthetic"})
    gaps = [100 * (1 - test) for test in final_accuracies(log_path(out, "1.4", "crop"))]
    assert first[-2].startswith(f"crop: accuracy on unaugmented training images 100.0 %, {mean(gaps):.1f} ± ")
    options.run_script(comparison.main)
    # The last line lists what this process has drawn, here by earlier tests as well.
    assert len(seen) == 8 and capsys.readouterr().out.splitlines()[-6:-1] == first[-6:-1]


def test_part_3_attacks_networks_that_it_trains_first(tmp_path, monkeypatch, capsys):
    few_images(monkeypatch, test=50)
    monkeypatch.setattr(adversarial, "SWEPT", 20)
    monkeypatch.setattr(adversarial, "EPSILONS", (0.5, 4.0))
    monkeypatch.setattr(adversarial, "SHOWN", 1)
    monkeypatch.setattr(transfer, "FEW", 20)
    budget = [*SHORT, "--out", str(tmp_path)]

    def run(script, *flags):
        monkeypatch.setattr("sys.argv", ["script.py", *budget, "--max-iterations", "5", *flags])
        options.run_script(script.main)
        return capsys.readouterr().out.splitlines()

    departing = {"iterations": 10, "batch_size": 20, "images": "synthetic"}
    trained, out = tmp_path / SHORT_FOLDER, trial_path(tmp_path, departing | {"max_iterations": 5})
    first = run(adversarial)
    assert "training question 1.4's network first" in first[0]
    logs, figures, pairs = files(out / "logs"), files(out / "figures"), files(out / "figures/adversarial")
    assert len(pairs) == 2 * len(read_rows(out / "logs/3.1_adversarial.csv")) and len(figures) == 2 * 7 + 1
    attacks = read_rows(out / "logs/3.1_attacks.csv")
    assert [int(row["index"]) for row in attacks] == list(range(50))
    assert max(float(row["linf"]) for row in attacks) <= 5  # five steps of one level

    monkeypatch.setattr(adversarial, "draw", lambda out: None)  # once is enough
    again = run(adversarial)
    assert again[1:] == first[-len(again) + 1 :]
    assert files(out / "logs") == logs and files(out / "figures/adversarial") == pairs
    second = run(transfer)
    assert {path.name for path in (trained / "weights").iterdir()} == {
        f"{name}_seed{seed}.pt"
        for name, seed in [("1.4_crop", 0), ("1.4_crop", 1), ("2.1_accuracy", 0), ("2.4_scaled", 0)]
    }
    assert sum("% right" in line for line in second) == 8
    assert len(files(out / "figures")) == 2 * 9 + 1
    monkeypatch.setattr(transfer, "draw", lambda out: None)
    assert run(transfer)[-4:] == second[-4:]

    # A table and an image that got lost come back as they were, and what is there stays.
    for lost in ("logs/3.1_attacks.csv", "logs/3.2_matrix.csv", f"figures/adversarial/{next(iter(pairs))}"):
        before = files(out / "logs"), files(out / "figures/adversarial")
        (out / lost).unlink() if lost.endswith(".csv") else (out / lost).write_bytes(b"a poem")
        assert sum("already" in line for line in run(transfer)) == 1
        assert files(out / "figures/adversarial") == before[1]
        assert files(out / "logs") == before[0]
    monkeypatch.setattr(experiment, "lock", lambda path, busy, seconds=0: records.lock(path, busy))  # without waiting
    with records.lock(out / "checkpoints/3.2_transfer.lock", ""), pytest.raises(SystemExit):
        run(transfer, "--retrain")
    assert "is being written by another process" in capsys.readouterr().err

    # Other weights, as another training leaves them: what was measured on the old ones is measured again.
    weights = [trained / f"weights/1.4_crop_seed{seed}.pt" for seed in (0, 1)]
    weights[0].write_bytes(weights[1].read_bytes())
    assert not any("already" in line for line in run(transfer))
    assert files(out / "logs")["3.1_attacks.csv"] != logs["3.1_attacks.csv"]
    assert sum("already" in line for line in run(transfer)) == 2


def test_plain_sgd_has_a_folder_of_its_own(tmp_path, monkeypatch, capsys):
    few_images(monkeypatch)
    seen, make_optimizers = [], training.make_optimizers

    def watch(network, settings):
        seen.append(settings)
        return make_optimizers(network, settings)

    monkeypatch.setattr(training, "make_optimizers", watch)
    for flags in ([], ["--optimizer", "sgd"]):
        monkeypatch.setattr("sys.argv", ["accuracy.py", *SHORT, "--out", str(tmp_path), *flags])
        options.run_script(accuracy.main)
    assert [settings.optimizer for settings in seen] == ["muon", "sgd"]
    assert replace(seen[1], iterations=2000, batch_size=100) == accuracy.EXPERIMENT.sgd
    out = trial_beside(tmp_path / SHORT_FOLDER, {"optimizer": "sgd"})
    assert departures(out) == departures(tmp_path / SHORT_FOLDER) | {"optimizer": "sgd"}
    logs = [read_rows(folder / "logs/2.1_accuracy.csv") for folder in (tmp_path / SHORT_FOLDER, out)]
    assert logs[0] != logs[1] and len(logs[0]) == len(logs[1])


def test_part_3_takes_no_seeds(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["adversarial.py", "--seeds", "1"])
    with pytest.raises(SystemExit) as stop:
        options.run_script(adversarial.main)
    assert stop.value.code == 2 and "unrecognized arguments: --seeds" in capsys.readouterr().err


def test_a_trial_says_in_a_file_what_it_departs_in_and_a_folders_name_says_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr("sys.argv", ["crop.py", *SHORT, "--out", str(tmp_path)])
    out = options.parse(options.parser(None)).out
    assert departures(out) == {"iterations": 10, "batch_size": 20, "images": "synthetic"}
    monkeypatch.setattr("sys.argv", ["crop.py", "--out", str(tmp_path / "trials" / "20x20")])
    out = options.parse(options.parser(None)).out
    assert out == tmp_path / "trials" / "20x20" and departures(out) == {}


def test_seeds_of_two_networks_or_settings_have_no_mean(tmp_path, monkeypatch, capsys):
    few_images(monkeypatch)

    def run(change, *flags):
        monkeypatch.setattr(raw, "EXPERIMENT", EXPERIMENT._replace(**change))
        monkeypatch.setattr("sys.argv", ["raw.py", *SHORT, "--out", str(tmp_path), *flags])
        options.run_script(raw.main)
        return capsys.readouterr().out

    EXPERIMENT = raw.EXPERIMENT
    run({})
    for change in ({"settings": Settings(learning_rate=0.1)}, {"prepare": crop.prepare}, {"make_network": another}):
        for flags in ([], ["--seeds", "1"]):
            with pytest.raises(SystemExit):
                run(change, *flags)
            assert "would mix runs with different setup (" in capsys.readouterr().err
    assert "(n = 2)" in run({}, "--seeds", "0", "1")
    assert "(n = 2)" in run({"make_network": another}, "--seeds", "0", "1", "--retrain")
    assert "already" in run({"make_network": another})


def test_seeds_of_unlike_machines_have_no_mean(tmp_path, monkeypatch, capsys):
    few_images(monkeypatch)

    def run(*flags):
        monkeypatch.setattr("sys.argv", ["raw.py", *SHORT, "--out", str(tmp_path), *flags])
        options.run_script(raw.main)
        return capsys.readouterr().out

    def refused(*flags):
        with pytest.raises(SystemExit):
            run(*flags)
        return capsys.readouterr().err

    threads = torch.get_num_threads()
    run("--threads", "1")
    log = log_path(tmp_path / SHORT_FOLDER, "1.1", "raw")
    (row,) = runs(log).values()
    assert row["threads"] == 1 and row["processor"] and row["data_md5"] == "synthetic" and row["setup"]
    assert "threads (1 and 2)" in refused("--seeds", "1", "--threads", "2")
    assert "already" in run()  # to read what there is takes no such machine,
    assert "threads (1 and 3)" in refused("--threads", "3")  # but what was asked for is not there
    with monkeypatch.context() as patch:
        patch.setattr(torch, "__version__", "2.0")
        assert "torch (2.0 and" in refused("--seeds", "1", "--threads", "1")
        patch.setattr(experiment, "hash_of_setup", lambda *_: "as this version describes the layers")
        assert "already" in run()
    records.merge_rows(log.with_name("results.csv"), [row | {"seed": 1, "precision": "fp8"}], key=["seed"])
    with pytest.raises(RecordError, match=r"precision \(.* and fp8"):
        final_accuracies(log)
    torch.set_num_threads(threads)


def test_a_retrain_that_was_stopped_goes_on(tmp_path, monkeypatch, capsys):
    few_images(monkeypatch)
    trained = []

    def train_seed(experiment, seed, *arguments):
        if stops and stops.pop(0) == seed:
            raise KeyboardInterrupt
        return whole(experiment, seed, *arguments)

    def save(checkpoint, *state):
        trained.append(checkpoint.stem)
        save_checkpoint(checkpoint, *state)

    whole, save_checkpoint, stops = experiment.train_seed, training.save, []
    monkeypatch.setattr(experiment, "train_seed", train_seed)
    monkeypatch.setattr(training, "save", save)
    monkeypatch.setattr("sys.argv", ["raw.py", *SHORT, "--out", str(tmp_path), "--seeds", "0", "1", "--retrain"])
    options.run_script(raw.main)
    assert trained == ["1.1_raw_seed0", "1.1_raw_seed1"]
    trained.clear()
    stops += [None, 1]  # before the second seed
    with pytest.raises(SystemExit):
        options.run_script(raw.main)
    options.run_script(raw.main)
    assert trained == ["1.1_raw_seed0", "1.1_raw_seed1"]
    assert not list((tmp_path / SHORT_FOLDER / "checkpoints").glob("*.pt"))


def test_only_a_finished_or_damaged_checkpoint_is_removed(tmp_path):
    for content, stays in [({"iteration": 7}, True), ({"iteration": 10}, False), ({}, True), ([1], False)]:
        torch.save(content, tmp_path / "run.pt")
        experiment.remove_finished(tmp_path / "run.pt", iterations=10)
        assert (tmp_path / "run.pt").exists() == stays
    experiment.remove_finished(tmp_path / "none.pt", iterations=10)


def test_weights_that_change_while_they_are_measured_are_refused(tmp_path):
    weights, table = tmp_path / "weights" / "a.pt", tmp_path / "logs" / "3.1_epsilon.csv"

    def measure(value=None):
        if value is not None:
            records.save_checkpoint(weights, {"a": torch.full((1,), value)})
        return {"epsilon": [{"seconds": 1.0}]}

    measure(0.0)
    with pytest.raises(RecordError, match="another process replaced weights"):
        experiment.measure_once({"epsilon": table}, [weights], False, lambda: measure(1.0))
    assert not table.exists()
    experiment.measure_once({"epsilon": table}, [weights], False, measure)
    assert experiment.is_measured(table, {}, [weights])


def test_what_may_only_be_read_answers_from_its_logs(tmp_path, monkeypatch, capsys):
    """As on a disk that is mounted for reading only, where nothing can be opened for writing, made or locked."""
    few_images(monkeypatch)
    flags = [*SHORT, "--out", str(tmp_path)]

    def refuse(*_arguments, **_options):
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr("sys.argv", ["raw.py", *flags])
    options.run_script(raw.main)
    answer = capsys.readouterr().out.splitlines()
    for module, name in [(options.tempfile, "TemporaryFile"), (plots, "replacing"), (records.sqlite3, "connect")]:
        monkeypatch.setattr(module, name, refuse)
    options.run_script(raw.main)
    again = capsys.readouterr().out.splitlines()
    assert again[1] == answer[1]
    assert any(line.endswith("1.1_raw.png not updated: Read-only file system") for line in again)
    monkeypatch.setattr("sys.argv", ["raw.py", *flags, "--seeds", "1"])
    with pytest.raises(SystemExit):
        options.run_script(raw.main)
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize(
    "package, script, message",
    [
        ("torch", "part1/raw.py", "torch cannot be used (operator"),
        ("torch", "report/build.py", "torch cannot be used (operator"),
        ("torchvision", "part1/raw.py", "torch and torchvision cannot be used together (operator"),
    ],
)
def test_a_package_that_cannot_be_imported_is_one_line(package, script, message, tmp_path):
    (tmp_path / f"{package}.py").write_text("raise RuntimeError('operator torchvision::nms\\ndoes not exist')")
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}
    command = [sys.executable, options.ROOT / script, *(["--out", tmp_path] if "part" in script else [])]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert ended.returncode == 2 and "answer" not in ended.stdout
    assert ended.stderr.startswith(f"{Path(script).name}: error: {message}")
    assert ended.stderr.count("\n") == 1


def another():
    network = raw.table1_network()
    torch.nn.init.zeros_(network.softmax.bias)
    return network


def test_a_cure_that_breaks_a_rule_is_refused_before_it_is_trained(tmp_path, monkeypatch, capsys):
    def refused(make_network):
        monkeypatch.setitem(solution.CURES, "mine", solution.Cure(make_network, "v", "(v) mine"))
        monkeypatch.setattr("sys.argv", ["solution.py", *SHORT, "--out", str(tmp_path), "--cures", "mine"])
        with pytest.raises(SystemExit) as stop:
            options.run_script(solution.main)
        assert stop.value.code == 2
        return capsys.readouterr().err

    assert "returns NoneType" in refused(lambda: None)
    assert "returns a network with only 26 of 27 convolutions" in refused(lambda: vanishing.vanishing_network(19))
    assert "returns a network with BatchNorm" in refused(networks.batchnorm_network)


def test_a_new_cure_is_a_function_and_a_line(tmp_path, monkeypatch, capsys):
    """It is trained, measured, tabulated and drawn under a name and in a color that nothing else knows."""

    def orthogonal():
        added = []
        for _ in range(ADDED):
            added += [torch.nn.Conv2d(16, 16, kernel_size=5, padding=2), torch.nn.ReLU()]
        network = cures.deep_network(added)
        for layer in cures.convolutions(network):
            torch.nn.init.orthogonal_(layer.weight, gain=2**0.5)
        return network

    monkeypatch.setitem(solution.CURES, "orthogonal", solution.Cure(orthogonal, "v", "(v) orthogonal"))
    few_images(monkeypatch)
    monkeypatch.setattr("sys.argv", ["solution.py", *SHORT, "--out", str(tmp_path), "--cures", "orthogonal"])
    options.run_script(solution.main)
    output = capsys.readouterr().out
    assert "(v) orthogonal" in output and "orthogonal 0.9" in output  # its row, and the scale that it keeps
    figures = files(tmp_path / SHORT_FOLDER / "figures")
    assert {"2.4_cures.png", "2.4_signals.png"} <= set(figures)


def test_the_budget_and_the_report_folder_are_the_defaults(monkeypatch):
    monkeypatch.setattr("sys.argv", ["crop.py"])
    arguments = options.parse(options.parser(None))
    assert (arguments.iterations, arguments.batch_size) == (2000, 100) and arguments.out == options.ROOT / "report"


def test_a_wrong_data_dir_is_an_error_also_where_no_data_is_needed(monkeypatch, capsys):
    """The committed log is finished: without the flag, the script would answer."""
    monkeypatch.setattr("sys.argv", ["crop.py", "--data-dir", "nowhere"])
    with pytest.raises(SystemExit) as stop:
        options.run_script(crop.main)
    assert stop.value.code == 2 and "'nowhere' is not a folder" in capsys.readouterr().err


def test_killed_at_several_moments_ends_in_the_same_bytes(start_main, tmp_path):
    flags = ("--seeds", 0, 1, *TRIAL)
    whole, killed = tmp_path / "whole" / FOLDER, tmp_path / "killed" / FOLDER
    log, weights = "logs/1.4_crop.csv", "weights/1.4_crop_seed{}.pt"

    def finish(out):
        process = start_main("part1.crop", *flags, "--out", tmp_path / out)
        process.join(240)
        assert process.exitcode == 0

    def checkpoint_written_anew(seed):
        """Return a function that is true once the seed's checkpoint has been written after this call."""
        path = killed / f"checkpoints/1.4_crop_seed{seed}.pt"
        before = path.stat().st_mtime_ns if path.exists() else None
        return lambda: path.exists() and path.stat().st_mtime_ns != before

    finish("whole")
    for moment, patience in [
        (lambda: lambda: True, 0.3),  # while it is starting
        (lambda: checkpoint_written_anew(0), 0.2),  # in the middle of the second epoch
        (lambda: checkpoint_written_anew(0), 0.0),  # going on from there, right after the second checkpoint
        (lambda: (killed / weights.format(0)).exists, 0.0),  # the run has ended, the log is not yet written
        (lambda: (killed / log).exists, 0.0),  # the log is written, the results table perhaps not
        (lambda: checkpoint_written_anew(1), 0.2),
    ]:
        reached = moment()
        process = start_main("part1.crop", *flags, "--out", tmp_path / "killed")
        while not reached():
            assert process.is_alive()
            time.sleep(0.005)
        time.sleep(patience)
        process.kill()
        process.join()
        assert process.exitcode == -signal.SIGKILL
    finish("killed")
    assert (killed / log).read_bytes() == (whole / log).read_bytes()
    assert (killed / "figures/1.4_crop.pdf").read_bytes() == (whole / "figures/1.4_crop.pdf").read_bytes()
    for seed in (0, 1):
        first, second = (load_checkpoint(out / weights.format(seed)) for out in (whole, killed))
        assert all(torch.equal(first[name], second[name]) for name in first)
    first, second = (runs(out / log) for out in (whole, killed))
    assert first.keys() == second.keys() == {0, 1}
    assert all(first[seed] | {"seconds": ""} == second[seed] | {"seconds": ""} for seed in first)
    assert not list((killed / "checkpoints").glob("*.pt"))  # no run that is finished leaves one behind


def test_a_second_process_is_refused_what_the_first_is_training(start_main, tmp_path, monkeypatch, capsys):
    flags = ("--data-dir", "synthetic", "--iterations", 2000, "--batch-size", 20, "--out", tmp_path)
    checkpoints = trial_path(tmp_path, {"batch_size": 20, "images": "synthetic"}) / "checkpoints"
    first = start_main("part1.crop", *flags)
    while not (checkpoints / "1.4_crop_seed0.lock").exists():
        assert first.is_alive()
        time.sleep(0.005)
    time.sleep(0.5)  # it has made the file: let it lock it
    monkeypatch.setattr("sys.argv", ["crop.py", *map(str, flags)])
    with pytest.raises(SystemExit) as stop:
        options.run_script(crop.main)
    errors = capsys.readouterr().err
    assert stop.value.code == 2 and errors == "crop.py: error: 1.4_crop_seed0 is being trained by another process\n"
    assert first.is_alive()


def test_a_damaged_checkpoint_is_said_and_trained_anew(tmp_path, monkeypatch, capsys):
    few_images(monkeypatch)
    flags = [*SHORT, "--out", str(tmp_path)]
    out = tmp_path / SHORT_FOLDER
    log, checkpoint = out / "logs/1.1_raw.csv", out / "checkpoints/1.1_raw_seed0.pt"
    states = []
    with monkeypatch.context() as patch:
        patch.setattr("sys.argv", ["raw.py", *flags])
        save = training.save
        patch.setattr(training, "save", lambda path, *state: states.append(path) or save(path, *state))
        options.run_script(raw.main)
    whole = log.read_bytes()
    assert states == [checkpoint] and not checkpoint.exists()

    monkeypatch.setattr("sys.argv", ["raw.py", *flags, "--retrain"])
    weights = load_checkpoint(out / "weights/1.1_raw_seed0.pt")
    run = {"run": None, "network": weights, "optimizers": [], "iteration": 10, "seconds": 1.0}
    damages = [{"a": "poem"}, {1: 2}, weights, run]
    for damage in [b"", b"a poem", *damages, [1, 2], 7, None]:
        checkpoint.parent.mkdir(exist_ok=True)
        checkpoint.write_bytes(damage) if isinstance(damage, bytes) else torch.save(damage, checkpoint)
        options.run_script(raw.main)
        output = capsys.readouterr().out
        assert "starting again" in output and log.read_bytes() == whole


@pytest.mark.parametrize(
    "changed",
    [
        {"iteration": -1}, {"iteration": 10**9}, {"iteration": 7}, {"iteration": "many"}, {"seconds": "long"},
        {"network": {}}, {"network": []}, {"optimizers": []}, {"optimizers": None}, {"generator": torch.zeros(3)},
        {"generator": 5}, {"log": torch.zeros(2, 3)}, {"log": None},
    ],
)  # fmt: skip
def test_a_checkpoint_with_another_content_is_damaged(changed, tmp_path):
    """Its bytes are as they were written; what they say is not what a run writes."""
    cifar = data.synthetic(200, 10)
    settings = Settings(iterations=20, batch_size=20)
    whole = training.train(raw.table1_network, raw.prepare, cifar, settings, 0, checkpoint=tmp_path / "run.pt")
    state = torch.load(tmp_path / "run.pt", weights_only=True)
    torch.save(state | changed, tmp_path / "run.pt")
    with pytest.raises(RecordError, match="is damaged"):
        training.train(raw.table1_network, raw.prepare, cifar, settings, 0, checkpoint=tmp_path / "run.pt")
    torch.save(state, tmp_path / "run.pt")
    again = training.train(raw.table1_network, raw.prepare, cifar, settings, 0, checkpoint=tmp_path / "run.pt")
    assert again[1] == whole[1]


def test_weights_that_are_none_are_one_line(tmp_path, monkeypatch, capsys):
    few_images(monkeypatch)
    monkeypatch.setattr("sys.argv", ["raw.py", *SHORT, "--out", str(tmp_path)])
    options.run_script(raw.main)
    arguments = options.parse(options.parser(None))
    cifar = data.load("synthetic")
    path = experiment.weights_path(arguments.out, raw.EXPERIMENT, 0)
    whole, weights = path.read_bytes(), load_checkpoint(path)
    experiment.trained_network(raw.EXPERIMENT, 0, cifar, arguments)
    first = next(iter(weights))

    contents = [[1, 2], 7, None, "a poem", {}, {1: weights[first]}, {1: 2}, {"a": 1}, {"a": "poem"}, {first: None}]
    contents += [{first: weights[first]}, weights | {"more": torch.zeros(1)}, weights | {first: torch.zeros(3)}]
    contents += [weights | {first: weights[first][:, :1]}, vanishing.vanishing_network().state_dict(), {"w": weights}]
    damaged = [b"", b"a poem", whole[:100], whole[:-1], whole[len(whole) // 2 :], whole[::-1], 100 * b"\0"]
    places = range(2000, len(whole), 80_000)
    damaged += [whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :] for place in places]
    for content in contents + damaged:
        path.write_bytes(content) if isinstance(content, bytes) else torch.save(content, path)
        with pytest.raises(RecordError, match=re.escape(str(path))) as error:
            experiment.trained_network(raw.EXPERIMENT, 0, cifar, arguments)
        assert "\n" not in str(error.value)
    assert len(contents + damaged) >= 30


def test_any_terminal_will_do(tmp_path, monkeypatch):
    """Output whose encoding lacks "±", no error output, a reader that goes away."""
    with (tmp_path / "ascii").open("w", encoding="ascii") as output, monkeypatch.context() as patch:
        patch.setattr("sys.stdout", output)
        patch.setattr("sys.stderr", None)
        options.run_script(lambda: print("1 ± 1") or print("no traceback", file=sys.stderr))
    assert (tmp_path / "ascii").read_text() == "1 ? 1\n"

    reader, writer = os.pipe()
    os.close(reader)
    with open(writer, "w") as output, monkeypatch.context() as patch:
        patch.setattr("sys.stdout", output)
        options.run_script(lambda: print("nobody reads this"))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_signal_ends_a_run_in_one_line(number, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr("sys.argv", ["raw.py"])
    with pytest.raises(SystemExit) as stop:
        options.run_script(lambda: signal.raise_signal(number))
    assert stop.value.code == 130 and capsys.readouterr().err.startswith("\ninterrupted")


def test_too_little_memory_is_one_line(monkeypatch, capsys):
    def ask_for_much():
        torch.empty(10**15)

    monkeypatch.setattr("sys.argv", ["raw.py"])
    with pytest.raises(SystemExit) as stop:
        options.run_script(ask_for_much)
    assert stop.value.code == 2 and capsys.readouterr().err.startswith("raw.py: error: not enough memory")
