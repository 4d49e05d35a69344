"""Question 2.4: what restores the gradients with all 20 added convolutions and still no BatchNorm?

Cures i to v nearly preserve the gradient's scale at the start (part2/cures.py). With Part 1's procedure, the solution,
cure iv, takes steps that are too large and learns nothing. So it is trained with one change to the
procedure: the gradients of the parameters that SGD trains, such as biases and gains, are clipped to a joint norm of
0.1. Cures i to iii, and 2.3's network with `--cures none`, also have half of Muon's learning rate. Cure v is clipped,
too, at the full learning rate but without weight decay in Muon.

`--procedure` trains cures with a procedure other than their own: Part 1's (unchanged), with clipping (clipped), or with
clipping and half the rate (halved). The cures he, residual, scaled_chain and scaled have, in this order, neither part
of the solution, residual blocks alone, standardized weights alone, and both, which separates the effects of the two
parts. part2/controls.py has the solution with fewer skips, and without clipping but with smaller steps.

Predict before you run: is it enough to preserve the gradients' scale in a new network?
"""

import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from torch import nn

from common import experiment, options, overfitting, results
from common.experiment import Experiment
from common.gradients import convolutions
from common.networks import evaluate
from common.plots import BLUE, BROWN, GRAY, GREEN, ORANGE, PURPLE, SKY, VIOLET, Curve, comparison, drawn
from common.settings import PLAIN_SGD, Settings
from part2 import accuracy, cures, plots, signals, vanishing
from part2.accuracy import OVERFITTING_IMAGES, prepare
from part2.networks import ADDED

PROCEDURES = {
    "unchanged": Settings(),
    "clipped": Settings(clip_norm=0.1),
    "halved": Settings(learning_rate=0.025, clip_norm=0.1),
}
CLIPPED, HALVED = PROCEDURES["clipped"], PROCEDURES["halved"]
SLOWED = replace(CLIPPED, weight_decay=0.0)  # decay shrinks the identity
# For `--optimizer sgd`, which clips all gradients together. At 0.1 its steps are too short: it loses 11 points on
# held-out images (part2/design.py).
CLIPPED_SGD = replace(PLAIN_SGD, clip_norm=1.0)


class Cure(NamedTuple):
    make_network: Callable[[], nn.Sequential]
    number: str  # in the report
    change: str  # in a few words
    color: str = BROWN
    linestyle: str | tuple = "-"
    settings: Settings = HALVED


CURES = {
    "none": Cure(vanishing.vanishing_network, "none", "no cure", GRAY, "--"),
    "he": Cure(cures.he_initialized, "i", "(i) He initialization", SKY, (0, (1, 1))),
    "dirac": Cure(cures.identity_initialized, "ii", "(ii) identity initialization", GREEN, "-."),
    "residual": Cure(cures.residual, "iii", "(iii) residual blocks", PURPLE, (0, (5, 1))),
    "scaled": Cure(cures.scaled, "iv", "(iv) the solution", BLUE, (0, (6, 1, 1, 1, 1, 1)), CLIPPED),
    "slowed": Cure(cures.slowed_identity, "v", "(v) slow layers", ORANGE, (0, (3, 1, 1, 1)), SLOWED),
    "scaled_chain": Cure(cures.scaled_chain, "iv*", "(iv*) standardized chain", VIOLET, (0, (1, 3)), CLIPPED),
}
SOLUTION = "scaled"
PARTS = {  # parts of the solution that each cure has
    "he": "neither",
    "residual": "residual blocks",
    "scaled_chain": "standardized weights",
    "scaled": "both",
}


def experiment_of(name, procedure=None):
    """A cure with its own procedure, or with another one."""
    own, label = CURES[name].settings, name
    settings = PROCEDURES.get(procedure, own)
    if settings != own:
        label = f"{name}_{procedure}"
    return Experiment(
        "2.4",
        label,
        CURES[name].make_network,
        prepare,
        settings,
        log_gradients=True,
        sgd=CLIPPED_SGD,
        watch=vanishing.watch,
    )


def broken_rule(network):
    """Say why `network` is not allowed or cannot be measured; None if it is a valid cure."""
    if not isinstance(network, nn.Sequential):
        return f"returns {type(network).__name__}, not nn.Sequential"
    found, expected = len(convolutions(network)), len(convolutions(vanishing.vanishing_network()))
    if found < expected:
        return f"returns a network with only {found} of {expected} convolutions"
    if any(isinstance(layer, nn.modules.batchnorm._BatchNorm) for layer in network.modules()):
        return "returns a network with BatchNorm"
    return None


def measure_branches(network, cifar):
    """Test accuracy when the residual blocks of added convolutions pass their input on unchanged."""
    blocks = [layer for layer in network if isinstance(layer, cures.Block) and len(convolutions(layer)) == 2]
    kept = nn.Sequential(*(layer for layer in network if layer not in blocks)).eval()
    accuracy_found, _ = evaluate(kept, prepare, cifar.test_images, cifar.test_labels, cifar.statistics)
    return [{"convolutions_off": 2 * len(blocks), "accuracy": accuracy_found}]


def curve_of(name):
    cure = CURES[name]
    return Curve("2.4", name, cure.change, cure.color, cure.linestyle, tick=cure.number)


def finished_logs(out):
    """The finished logs, by label and training procedure: 2.1, 2.3, each cure, and 2.3's network with BatchNorm."""
    logs = {
        ("2.1: BatchNorm, no added layers", "unchanged"): accuracy.CURVE.log(out),
        ("2.3: no cure", "unchanged"): vanishing.CURVE.log(out),
        **{(cure.change, procedure_of(cure, out)): results.log_path(out, "2.4", name) for name, cure in CURES.items()},
        ("BatchNorm, 20 added layers", "unchanged"): results.log_path(out, "2.3", "batchnorm"),
        ("BatchNorm, residual blocks", "unchanged"): results.log_path(out, "2.3", "batchnorm_residual"),
    }
    return {label: log for label, log in logs.items() if results.finished(log)}


def procedure_of(cure, out):
    """The name of a cure's procedure in `PROCEDURES`; "its own" for another one, and "SGD" for `--optimizer sgd`."""
    if by_sgd(out):
        return "SGD"
    return next((name for name, settings in PROCEDURES.items() if settings == cure.settings), "its own")


def by_sgd(out):
    return results.departures(out).get("optimizer") == "sgd"


def table(out):
    """A row for each experiment: accuracy, and G of the first convolution at the first step and in the last epoch.

    BatchNorm and standardization make the loss independent of the weights' norm, and G inversely proportional to
    it. So differences of G, also over layers and time, may be those of the norm.
    """
    rows = []
    for (label, procedure), log in finished_logs(out).items():
        start, end = (layers[0] for layers in signals.start_and_end(log))
        train_accuracy = results.last_epoch(log, "train_accuracy")
        row = {"cure": label, "log": log, "procedure": procedure, "start": start, "end": end}
        rows.append(row | {"train_accuracy": train_accuracy, "test": results.final_accuracy(log)})
    return rows


def factorial(out):
    """The finished logs of the cures in `PARTS`, by procedure; none for `--optimizer sgd`, which has one procedure."""
    if by_sgd(out):
        return {}
    found = {}
    for name in PARTS:
        logs = {
            procedure: results.log_path(out, "2.4", experiment_of(name, procedure).name) for procedure in PROCEDURES
        }
        found[name] = {procedure: log for procedure, log in logs.items() if results.finished(log)}
    return found


def draw(out):
    compared = [curve_of(name) for name in CURES if name not in ("none", "scaled_chain")]  # those stay at chance level
    comparison(out, "2.4_cures", [accuracy.CURVE, vanishing.CURVE, *compared], lowest=0, xlabel="network")
    plots.signal_curves(out, "2.4", {name: curve_of(name) for name in CURES})
    parts = {experiment_of(name, "clipped").name: f"({CURES[name].number}) {what}" for name, what in PARTS.items()}
    watched = [Curve("2.4", name, what) for name, what in parts.items()]
    watched.insert(-1, Curve("2.4", "fewer_skips", "(iii) standardized"))  # of part2/controls.py
    plots.course(out, "2.4", watched)
    solution = curve_of(SOLUTION).log(out)
    if results.finished(solution):
        plots.gradient_curves(out, "2.4", {"The solution": solution})


def answer(out):
    """The table, the comparison of parts and procedures, the solution's overfitting, and what its added layers do.

    `gradient_factor` is the factor by which each added layer of a new network scales the gradient; `kept_scale` and
    `kept_gradient`, those by which all of them together scale the output's root mean square and the gradient during
    training with clipped gradients. `without_branches` is the solution's accuracy without its added layers,
    and `softmax_input` the root mean square of the last layer's input before training.
    """
    clipped = {name: experiment_of(name, "clipped").name for name in PARTS} | {"slowed": "slowed"}
    signals_table = results.log_path(out, "2.4", "signals")
    branches = results.read_rows(results.log_path(out, "2.4", "branches"))
    return {
        "table": table(out),
        "minus 2.1": results.paired_difference(curve_of(SOLUTION).log(out), accuracy.CURVE.log(out)),
        "factorial": factorial(out),
        "kept_scale": {name: signals.kept_scale(out, "2.4", label, ADDED) for name, label in clipped.items()},
        "kept_gradient": {name: signals.kept_gradient(out, "2.4", label, ADDED) for name, label in clipped.items()},
        "overfitting": overfitting.of(out, "2.4", curve_of(SOLUTION).log(out)),
        "without_branches": results.mean_of([row["accuracy"] for row in branches]) if branches else None,
        "softmax_input": signals.softmax_input(signals_table, SOLUTION),
        "gradient_factor": {name: signals.gradient_factor(signals_table, name, ADDED) for name in CURES},
    }


def main():
    parser = options.parser(__doc__)
    parser.add_argument(
        "--cures",
        nargs="+",
        choices=CURES,
        default=[SOLUTION],
        help=f"train these (default: {SOLUTION}, the solution); the table and the figures show all logged ones",
    )
    text = "procedure to train with (default: each cure's own)"
    parser.add_argument("--procedure", choices=PROCEDURES, help=text)
    arguments = options.parse(parser)
    if arguments.procedure and arguments.optimizer == "sgd":
        parser.error("argument --procedure: not with --optimizer sgd, which has a procedure of its own")
    for name in arguments.cures:
        if rule := broken_rule(CURES[name].make_network()):  # now rather than after minutes of training
            parser.error(f"argument --cures: not a valid network: {name} {rule}")
    signals_table = results.log_path(arguments.out, "2.4", "signals")
    makers = {name: cure.make_network for name, cure in CURES.items()}
    signals.update_table(signals_table, makers, prepare, arguments)
    for name in arguments.cures:
        experiment.run(experiment_of(name, arguments.procedure), arguments)
    if SOLUTION in arguments.cures and experiment_of(SOLUTION, arguments.procedure) == experiment_of(SOLUTION):
        measure = partial(overfitting.measure, prepare=prepare, images=OVERFITTING_IMAGES)
        overfitting_table = results.log_path(arguments.out, "2.4", "overfitting")
        experiment.measure_trained(experiment_of(SOLUTION), overfitting_table, measure, arguments)
        branches_table = results.log_path(arguments.out, "2.4", "branches")
        experiment.measure_trained(experiment_of(SOLUTION), branches_table, measure_branches, arguments)
    draw(arguments.out)
    found = answer(arguments.out)
    print(f"{'cure':<48}  procedure  G, step 1  G, end   training  test accuracy")
    for row in found["table"]:
        print(
            f"{row['cure']:<48}  {row['procedure']:<9}  {row['start']:<9.1e}  {row['end']:<7.1e}  "
            f"{row['train_accuracy']:<8.1%}  {row['test']}"
        )
    if found["overfitting"]:
        print(f"{SOLUTION}: {found['overfitting']}")
    if found["without_branches"]:
        print(f"{SOLUTION}, without the blocks of added convolutions: {found['without_branches']}")
    for name, logs in found["factorial"].items():
        for procedure, log in logs.items():
            print(f"{PARTS[name]}, procedure {procedure}: {results.final_accuracy(log)}")
    factors = ", ".join(f"{name} {factor:.3f}" for name, factor in found["gradient_factor"].items())
    print(f"factor on the gradient's scale per added layer, new networks: {factors}")
    print(drawn(arguments.out))


if __name__ == "__main__":
    options.run_script(main)
