"""Controls of question 2.3: does it take the depth, the lack of BatchNorm, or the optimizer for gradients to vanish?

`--depth N …` adds N convolutions in place of 20; `--batchnorm plain` adds 20 and keeps BatchNorm, over 25 images as in
2.1, after every convolution, the added ones included; `--batchnorm residual` has them in the ten residual blocks of
2.4's solution; `--sgd` trains part2/vanishing.py's network by plain SGD without
weight decay: its steps are as small as the gradients are, and it shrinks nothing that no gradient holds.
"""

import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from torch import nn

from common import experiment, options, results
from common.experiment import Experiment
from common.plots import BLACK, VERMILION
from common.records import within
from common.settings import PLAIN_SGD
from part2 import accuracy, plots, signals, vanishing
from part2.accuracy import prepare
from part2.cures import Block
from part2.networks import ADDED, GhostBatchNorm2d, designed_network

MOST = 100  # added layers that `--depth` takes


def batchnorm_network():
    """2.1's network and the 20 added convolutions of 2.3, BatchNorm after each (which makes their biases idle)."""
    layers = []
    for _ in range(ADDED):
        layers += [nn.Conv2d(16, 16, kernel_size=5, padding=2, stride=1), GhostBatchNorm2d(16), nn.ReLU()]
    return designed_network(layers)


def batchnorm_residual_network():
    """The same in ten residual blocks, each of which starts as the identity: its last BatchNorm scales by 0."""
    layers = []
    for _ in range(ADDED // 2):
        first, second = (nn.Conv2d(16, 16, kernel_size=5, padding=2, stride=1) for _ in range(2))
        last = GhostBatchNorm2d(16)
        nn.init.zeros_(last.weight)
        layers += [Block(first, GhostBatchNorm2d(16), nn.ReLU(), second, last), nn.ReLU()]
    return designed_network(layers)


BATCHNORM = {
    "plain": Experiment("2.3", "batchnorm", batchnorm_network, prepare, log_gradients=True),
    "residual": Experiment("2.3", "batchnorm_residual", batchnorm_residual_network, prepare, log_gradients=True),
}
SGD = vanishing.EXPERIMENT._replace(name="sgd_vanishing", settings=replace(PLAIN_SGD, weight_decay=0.0))


def of_depth(added):
    if added == ADDED:
        return vanishing.EXPERIMENT
    make_network = partial(vanishing.vanishing_network, added)
    return vanishing.EXPERIMENT._replace(name=f"depth{added}", make_network=make_network)


def logs_by_depth(out):
    """The finished logs without BatchNorm and those with it, each by the number of added layers."""
    names = results.read_results(out / "logs" / "results.csv")
    depths = sorted(int(name.removeprefix("2.3_depth")) for name in names if name.startswith("2.3_depth"))
    without = {added: results.log_path(out, "2.3", of_depth(added).name) for added in [*depths, ADDED]}
    with_it = {0: accuracy.CURVE.log(out), ADDED: results.log_path(out, "2.3", BATCHNORM["plain"].name)}
    return {
        "no BatchNorm": {added: log for added, log in without.items() if results.finished(log)},
        "BatchNorm": {added: log for added, log in with_it.items() if results.finished(log)},
    }


def draw(out):
    logs = logs_by_depth(out)
    if len(logs["no BatchNorm"]) > 1:
        styles = {"no BatchNorm": (VERMILION, "o"), "BatchNorm": (BLACK, "s")}
        plots.depth_points(out, "2.3_depth", [(kind, *styles[kind], logs[kind]) for kind in logs])


def answer(out):
    """By kind and number of added layers, test accuracy and G of the first convolution at the first step; SGD's end."""
    sgd = results.log_path(out, "2.3", SGD.name)
    found = {
        "least_live_sgd": vanishing.least_live(out, SGD.name),
        "last_nonzero_sgd": vanishing.last_nonzero(sgd) if results.finished(sgd) else [],
    }
    for kind, logs in logs_by_depth(out).items():
        found[kind] = {
            str(added): {"test": results.final_accuracy(log), "first_step": signals.start_and_end(log)[0][0]}
            for added, log in logs.items()
        }
    return found


def main():
    parser = options.parser(__doc__)
    control = parser.add_mutually_exclusive_group()
    control.add_argument(
        "--depth",
        type=within(int, 0, MOST),
        nargs="+",
        default=[0, 2, 5, 10],
        metavar="N",
        help="train with N added layers (default: 0 2 5 10)",
    )
    text = "train with 20 added layers and with BatchNorm, one after another or in residual blocks"
    control.add_argument("--batchnorm", choices=BATCHNORM, nargs="+", help=text)
    control.add_argument("--sgd", action="store_true", help="train with plain SGD and without weight decay")
    arguments = options.parse(parser)
    if arguments.batchnorm:
        for kind in arguments.batchnorm:
            experiment.run(BATCHNORM[kind], arguments)
    elif arguments.sgd:
        experiment.run(SGD, arguments)
        table = results.log_path(arguments.out, "2.3", "active")
        experiment.measure_trained(SGD, table, vanishing.measure_live_channels, arguments)
        vanishing.draw_gradients(arguments.out)
    else:
        for added in arguments.depth:
            experiment.run(of_depth(added), arguments)
    draw(arguments.out)  # 2.3_depth from two depths on
    found = answer(arguments.out)
    for kind in ("no BatchNorm", "BatchNorm"):
        for added, row in found[kind].items():
            print(
                f"{added:>3} added layers, {kind:<12}: test accuracy {row['test']}, "
                f"G of the first convolution {row['first_step']:.1e} at the first step"
            )
    for least in found["least_live_sgd"]:
        print(
            f"plain SGD, seed {least['seed']}: {least['active']:.0%} of the channels live after convolution "
            f"{least['convolution']}, the layer with fewest"
        )


if __name__ == "__main__":
    options.run_script(main)
