"""Question 2.4: what brings the gradients back, with all 20 added convolutions and still no BatchNorm?

Each cure keeps the gradient's scale from layer to layer at the start, in another way (part2/cures.py). All
are trained alike, and in two things unlike the rest of the assignment, for without BatchNorm a step changes
what the network computes by more: Muon's learning rate, for the convolutions' weights, is halved; and the
gradients of all other parameters, which SGD trains, are clipped to a norm of 0.1 together. `--cures none`
trains 2.3's network with the same care; `--unchanged` trains the cures without it.
"""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from torch import nn

from common import experiment, options, plots, unaugmented
from common.experiment import Experiment, last_epoch, left_by_a_layer, log_path, mean_and_deviation
from common.training import Settings
from part2 import cures
from part2.accuracy import UNAUGMENTED, prepare
from part2.networks import ADDED, vanishing_network


class Cure(NamedTuple):
    number: str  # in the report
    change: str  # in a few words
    make_network: Callable[[], nn.Sequential]


CURES = {
    "none": Cure("none", "no cure, PyTorch's default", vanishing_network),
    "he": Cure("i", "(i) He initialisation", cures.he_initialized),
    "dirac": Cure("ii", "(ii) identity initialisation", cures.identity_initialized),
    "residual": Cure("iii", "(iii) residual blocks, zero at the start", cures.residual),
    "scaled": Cure("iv", "(iv) scaled weight standardisation, residual", cures.scaled),
}
SOLUTION = "scaled"
CAREFUL = Settings(learning_rate=0.025, clip_norm=0.1)


def experiment_of(name, unchanged=False):
    label, settings = (f"{name}_unchanged", Settings()) if unchanged else (name, CAREFUL)
    return Experiment("2.4", label, CURES[name].make_network, prepare, settings, log_gradients=True)


def table(logs):
    """A row an experiment: G of the first convolution at the first step and in the last epoch, and what came of it.

    BatchNorm and standardisation make the loss independent of the weights' norm, and G inverse to it: compare
    the G of such a network with itself, over layers and over time, rather than with another's.
    """
    yield "cure", "G, step 1", "G, end", "training", "seconds", "test accuracy"
    for label, log in logs.items():
        start, end = (epoch[0] for epoch in experiment.start_and_end(log))
        training, seconds = last_epoch(log, "train_accuracy"), experiment.median_seconds(log)
        test = mean_and_deviation(experiment.final_accuracies(log))
        yield label, f"{start:.1e}", f"{end:.1e}", f"{100 * training:.1f} %", f"{seconds:.0f}", test


def finished_logs(out):
    """What the table compares, by label: 2.1, 2.3, and each cure; with full steps where the procedure is unchanged."""
    logs = {
        "2.1: BatchNorm, no added layers, full steps": log_path(out, "2.1", "accuracy"),
        "2.3: no cure, full steps": log_path(out, "2.3", "vanishing"),
        **{cure.change: log_path(out, "2.4", name) for name, cure in CURES.items()},
        **{f"{cure.change}, full steps": log_path(out, "2.4", f"{name}_unchanged") for name, cure in CURES.items()},
    }
    return {label: log for label, log in logs.items() if experiment.finished(log)}


def draw(out):
    experiments = {"accuracy": ("2.1", "designed", "2.1"), "vanishing": ("2.3", "20 layers more", "2.3")}
    experiments |= {name: ("2.4", cure.change, cure.number) for name, cure in CURES.items()}
    plots.comparison(out, "2.4_cures", experiments, lowest=0, xlabel="question or cure")
    plots.signals(out, "2.4", {name: cure.change for name, cure in CURES.items()})
    if experiment.finished(solution := log_path(out, "2.4", SOLUTION)):
        plots.gradient_curves(out, "2.4", {"The solution": solution})


def answer(out):
    """The table's rows, and what an added layer of each new network leaves of the gradient's scale; all as text."""
    signals = log_path(out, "2.4", "signals")
    return {
        "table": list(table(finished_logs(out))),
        "overfitting": unaugmented.answer(out, "2.4", [experiment_of(SOLUTION)]),
        "left": {name: f"{left_by_a_layer(signals, name, ADDED):.3f}" for name in CURES},
    }


def main():
    parser = options.parser(__doc__)
    parser.add_argument(
        "--cures",
        nargs="+",
        choices=CURES,
        default=[SOLUTION],
        help=f"train these (default: {SOLUTION}, the solution); the table and the figures have all that are logged",
    )
    parser.add_argument("--unchanged", action="store_true", help="train them with the procedure as it is")
    arguments = options.parse(parser)
    for name in arguments.cures:
        experiment.run(experiment_of(name, arguments.unchanged), arguments)
    experiment.measure_signals("2.4", {name: cure.make_network for name, cure in CURES.items()}, prepare, arguments)
    if SOLUTION in arguments.cures and not arguments.unchanged:
        unaugmented.measure("2.4", [experiment_of(SOLUTION)], arguments, UNAUGMENTED)
    draw(arguments.out)
    found = answer(arguments.out)
    widths = [max(map(len, column)) for column in zip(*found["table"])]
    for row in found["table"]:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths)))
    left = ", ".join(f"{name} {factor}" for name, factor in found["left"].items())
    for name, overfitting in found["overfitting"].items():
        print(unaugmented.SUMMARY.format(name=name, **overfitting))
    print(f"an added layer of a new network leaves of the gradient's scale: {left}")


if __name__ == "__main__":
    options.run_script(main)
