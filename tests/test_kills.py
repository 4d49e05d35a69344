"""Eight commands, each killed at five moments: the next run ends as if there had been none, and repeats no training."""

import functools
import importlib
import json
import os
import shutil
import signal
import sys

import pytest
import torch

from common import data, plots, training
from common.options import REPORT, run_script
from common.records import hash_of_tensors, load_checkpoint, read_rows
from part2 import signals
from part3 import adversarial, transfer
from part3.networks import NETWORKS, weights_of
from report import build, figures, reproduce
from report.runs import Run

BUDGET = {"iterations": 2, "batch_size": 20, "images": "synthetic"}
FLAGS = ["--iterations", "2", "--batch-size", "20", "--data-dir", "synthetic"]
MOMENTS = 5
COMMANDS = {
    "part1.crop": [*FLAGS, "--seeds", "0", "1"],
    "part2.accuracy": FLAGS,
    "part3.adversarial": FLAGS,
    "part3.transfer": FLAGS,
    "report.figures": [],
    "report.build": [],
    "report.submission": ["--penn-key", "ada"],
    "report.reproduce": ["--quick"],
}
TIMES = ("seconds",)  # which differ in every run


def run_and_die(module, flags, out, events, die_at):
    """Run a script's main function in a small way; kill this process as it opens, renames or removes its n-th file."""
    torch.set_num_threads(1)
    count = 0

    def watch(event, arguments):
        nonlocal count
        if event in ("open", "os.rename", "os.remove", "os.mkdir") and str(arguments[0]).startswith(str(out)):
            count += 1
            if count == die_at:
                os.kill(os.getpid(), signal.SIGKILL)

    def in_this_process(command, flags):
        script, *own = command.split()
        sys.argv = [script, *own, *flags]
        importlib.import_module(script.removesuffix(".py").replace("/", ".")).main()

    def save(checkpoint, *state):
        trained.append(checkpoint.stem)
        save_checkpoint(checkpoint, *state)

    trained, save_checkpoint = [], training.save
    training.save = save
    data.synthetic = functools.partial(data.synthetic, 100, 40)
    plots.plt.Figure.draw_without_rendering = lambda figure: None
    plots.plt.Figure.savefig = lambda figure, file, **settings: file.write(b"a figure")
    signals.IMAGES = 2
    adversarial.SWEPT, adversarial.EPSILONS, adversarial.MAX_ITERATIONS, transfer.FEW = 5, (4.0,), 2, 5
    transfer.EQUAL_STEPS = 2
    build.TEXT, build.answers = out.parent / "report.typ", lambda out: {}
    build.check = lambda compiler, out: None
    figures.SCRIPTS = (importlib.import_module("part1.raw"),)
    figures.RUNS = reproduce.RUNS = (Run("part1/raw.py", 0, ("1.1_raw",), seeds=range(2)),)
    reproduce.run, reproduce.QUICK, reproduce.QUICK_FLAGS = in_this_process, BUDGET, FLAGS
    sys.argv = [module, *flags, "--out", str(out)]
    sys.addaudithook(watch)
    with open(out.parent / f"{out.name}.log", "w") as sys.stdout:
        run_script(importlib.import_module(module).main)
    events.value = count
    (out.parent / f"{out.name}.trained").write_text(json.dumps(trained))


def content(out):
    """The contents of all files under `out`, without what differs in every run."""
    files = {path.relative_to(out): path.read_bytes() for path in out.rglob("*") if path.is_file()}
    for path in files:
        if path.suffix == ".csv":
            rows = read_rows(out / path)
            files[path] = [{name: cell for name, cell in row.items() if name not in TIMES} for row in rows]
        elif path.suffix == ".pt" and files[path]:
            files[path] = hash_of_tensors(load_checkpoint(out / path))
    return files


def finished_trainings(out):
    """Those with a row among the results or with a checkpoint, which here is always of the last iteration."""
    found = {path.stem for path in out.rglob("checkpoints/*.pt")}
    for table in out.rglob("results.csv"):
        found |= {f"{row['question']}_{row['name']}_seed{row['seed']}" for row in read_rows(table)}
    return found


@pytest.mark.parametrize("module", COMMANDS)
def test_after_a_kill_the_next_run_ends_as_if_there_had_been_none(module, tmp_path, forkserver):
    (tmp_path / "report.typ").write_text("#sys.inputs.author")
    (tmp_path / "references.bib").touch()

    def run(out, die_at=None):
        events = forkserver.Value("i")
        process = forkserver.Process(target=run_and_die, args=(module, COMMANDS[module], out, events, die_at))
        process.start()
        process.join()
        return process.exitcode, events.value

    def prepared(name):
        out = tmp_path / name
        if module in ("report.figures", "report.build", "report.submission"):
            (out / "logs").mkdir(parents=True)
            for table in ("1.1_raw.csv", "results.csv"):
                shutil.copy(REPORT / "logs" / table, out / "logs")
            (out / "weights").mkdir()
            for path in weights_of(out, *NETWORKS):
                path.touch()
        return out

    whole = prepared("whole")
    exitcode, events = run(whole)
    assert exitcode == 0 and events > MOMENTS
    for moment in range(MOMENTS):
        out = prepared(f"killed {moment}")
        exitcode, _ = run(out, die_at=round(events * (moment + 0.5) / MOMENTS))
        assert exitcode == -signal.SIGKILL
        finished = finished_trainings(out)
        assert run(out)[0] == 0
        assert not finished & set(json.loads((tmp_path / f"{out.name}.trained").read_text()))
        assert content(out) == content(whole)
