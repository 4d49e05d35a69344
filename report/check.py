"""`reproduce.py --check`: repeat training, evaluation and attacks, and compare them with the logs."""

import argparse
import math
import statistics
import tempfile
from pathlib import Path
from typing import NamedTuple

import torch

from common import data, records, results
from common.networks import evaluate
from common.options import REPORT
from common.records import load_weights
from common.results import log_path, read_rows, runs
from part3 import adversarial
from part3.attack import OnPixels, attack
from part3.networks import NETWORKS, weights_of
from report.runs import RUNS

# Trained again with seed 0: Part 1 in full, Part 2 with a tenth of the budget, which has its own logs.
QUICK = ("part1/raw.py", "part1/normalize.py", "part1/flip.py", "part1/crop.py")
QUICK += tuple(f"part2/{name}.py --iterations 200" for name in ("accuracy", "vanishing", "solution"))
# Standard deviation of accuracy over machines and numbers of threads, which act like seeds. Observed:
# differences of 0.4 and 0.6 points between one thread of an AMD EPYC and two of an Intel Xeon (1.4 and 1.1, seed 0).
MACHINES = 0.0051 / math.sqrt(2)
SAME_WEIGHTS = 0.001  # accuracy tolerance if the weights are the same and only rounding differs
ATTACKED = 200  # the first correctly classified test images
SAME_ATTACKS = 0.95  # share with the same final category if gradients are rounded differently


class Verdict(NamedTuple):
    """A row of the check: what was done, its results here and on record, and "identical", "equal" or "different"."""

    what: str
    here: str
    record: str
    verdict: str


def judge(here: float, record: float, others: list[float], identical: bool) -> str:
    """Compare an accuracy with the one on record, given the spread of seeds and machines.

    The tolerance is three standard deviations of the difference of two runs. The deviation is that of the other seeds
    on record, so that an outlier cannot hide itself, and at least `MACHINES`.
    """
    deviation = max(statistics.stdev(others) if len(others) > 1 else 0.0, MACHINES)
    return word(identical, abs(here - record) <= 3 * math.sqrt(2) * deviation)


def compare_training(run, out: Path, record: Path) -> list[Verdict]:
    """A verdict on each experiment and seed that a command of `RUNS` has trained again."""
    verdicts = []
    for name in run.experiments:
        log, logged = run.folder(out) / "logs" / f"{name}.csv", run.folder(record) / "logs" / f"{name}.csv"
        accuracies = {seed: row["test_accuracy"] for seed, row in runs(logged).items()}
        for seed, row in runs(log).items():
            rows = [[row for row in records.read_rows(path) if row["seed"] == str(seed)] for path in (log, logged)]
            here, there = row["test_accuracy"], accuracies[seed]
            others = [accuracy for other, accuracy in accuracies.items() if other != seed]
            verdict = judge(here, there, others, rows[0] == rows[1])
            verdicts.append(Verdict(f"{run.script}: {name}, seed {seed}", f"{here:.2%}", f"{there:.2%}", verdict))
    return verdicts


def committed_network(name: str, record: Path):
    """The network of this name with the weights on record; unlike `trained_network`, never trained here."""
    network = NETWORKS[name][0].make_network()
    network.load_state_dict(load_weights(weights_of(record, name)[0]))
    return network


def word(identical: bool, equal: bool) -> str:
    return "identical" if identical else "equal" if equal else "different"


def compare_weights(cifar: data.Cifar, record: Path) -> list[Verdict]:
    """A verdict on the test accuracy of each committed network."""
    verdicts = []
    for name, (experiment, seed) in NETWORKS.items():
        network = committed_network(name, record)
        test = cifar.test_images, cifar.test_labels, cifar.statistics
        accuracy, _ = evaluate(network, experiment.prepare, *test)
        logged = runs(log_path(record, experiment.question, experiment.name))[seed]["test_accuracy"]
        verdict = word(accuracy == logged, abs(accuracy - logged) <= SAME_WEIGHTS)
        verdicts.append(
            Verdict(f"committed weights of {name} on the test set", f"{accuracy:.2%}", f"{logged:.2%}", verdict)
        )
    return verdicts


def compare_attacks(cifar: data.Cifar, record: Path) -> Verdict:
    """A verdict on 200 images attacked again: their final categories and numbers of steps."""
    experiment, _ = NETWORKS[adversarial.ATTACKED]
    network = committed_network(adversarial.ATTACKED, record)
    rows = [row for row in read_rows(log_path(record, "3.1", "attacks")) if row["category_before"] == row["category"]]
    rows = rows[:ATTACKED]
    index = torch.tensor([row["index"] for row in rows])
    on_pixels = OnPixels(network, experiment.prepare, cifar.statistics).eval()
    attacked = attack(on_pixels, cifar.test_images[index], cifar.test_labels[index])
    found = list(zip(attacked.categories.tolist(), attacked.iterations.tolist()))
    same = sum((row["category_after"], row["iterations"]) == each for row, each in zip(rows, found))
    category = sum(row["category_after"] == each for row, (each, _) in zip(rows, found)) / len(rows)
    verdict = word(same == len(rows), category >= SAME_ATTACKS)
    steps = statistics.mean(row["iterations"] for row in rows)
    here = f"{statistics.mean(attacked.iterations.tolist()):.2f} steps, {same} alike"
    return Verdict(f"{len(rows)} test images attacked again", here, f"{steps:.2f} steps", verdict)


def differing(record: Path) -> str:
    """A text on how this machine differs from those of the logs."""
    here = {
        "processor": {records.processor(torch.device("cpu"))},
        "threads": {torch.get_num_threads()},
        "torch": {str(torch.__version__)},
    }
    runs_by_log = results.read_results(record / "logs" / "results.csv").values()
    rows = [row for seeds in runs_by_log for row in seeds.values() if row["device"] == "cpu"]
    logged = {name: {row[name] for row in rows if row[name]} for name in here}
    words = [
        f"{name} {', '.join(map(str, here[name]))} instead of {', '.join(sorted(map(str, logged[name])))}"
        for name in here
        if not here[name] <= logged[name]
    ]
    return "; ".join(words) or "processor, number of threads and PyTorch are among those of the logs"


def check(train_again, arguments: argparse.Namespace) -> bool:
    """Print the verdicts; return whether all agree. `train_again(command, flags)` runs a command of `RUNS`."""
    record, verdicts = REPORT, []
    print(differing(record), flush=True)
    cifar = data.load()
    seeds = None if arguments.full else [0]
    again = [run for run in RUNS if run.experiments and (arguments.full or run.script in QUICK)]

    def show(found: list[Verdict]) -> None:
        verdicts.extend(found)
        for each in found:
            print(f"{each.verdict:<10} {each.what:<58} {each.here:>20}, on record {each.record}", flush=True)

    show(compare_weights(cifar, record))
    show([compare_attacks(cifar, record)])
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "report"
        for run in again:
            run = run._replace(seeds=seeds or run.seeds)
            train_again(run.command, ["--out", str(out)])
            show(compare_training(run, out, record))
    different = sum(each.verdict == "different" for each in verdicts)
    print(f"{len(verdicts)} checks, {different} different")
    return not different
