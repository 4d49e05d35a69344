"""Controls of question 2.3: does it take the depth, the lack of BatchNorm, or the optimizer for gradients to vanish?

Each departs from part2/vanishing.py in one thing. `--depth N …` adds N convolutions in place of 20; `--batchnorm`
adds 20 and keeps BatchNorm after every convolution, the added ones included; `--sgd` trains by plain SGD without
weight decay, whose steps are as small as the gradients are, and which shrinks nothing that no gradient holds.
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
from common.settings import PLAIN_SGD
from part2 import accuracy, plots, signals, vanishing
from part2.accuracy import prepare
from part2.networks import ADDED, GhostBatchNorm2d, designed_network

MOST = 100  # added layers that `--depth` takes


def batchnorm_network():
    """2.1's network and the 20 added convolutions, BatchNorm after each."""
    layers = []
    for _ in range(ADDED):
        layers += [nn.Conv2d(16, 16, kernel_size=5, padding=2, stride=1), GhostBatchNorm2d(16), nn.ReLU()]
    return designed_network(layers)


BATCHNORM = Experiment("2.3", "batchnorm", batchnorm_network, prepare, log_gradients=True)
SGD = vanishing.EXPERIMENT._replace(name="sgd_vanishing", settings=replace(PLAIN_SGD, weight_decay=0.0))


def of_depth(added):
    if added == ADDED:
        return vanishing.EXPERIMENT
    make_network = partial(vanishing.vanishing_network, added)
    return vanishing.EXPERIMENT._replace(name=f"depth{added}", make_network=make_network)


def logs_by_depth(out):
    """The finished logs without BatchNorm, and those with it, by the number of added layers."""
    names = results.read_results(out / "logs" / "results.csv")
    depths = sorted(int(name.removeprefix("2.3_depth")) for name in names if name.startswith("2.3_depth"))
    plain = {added: results.log_path(out, "2.3", of_depth(added).name) for added in [*depths, ADDED]}
    normalized = {0: accuracy.CURVE.log(out), ADDED: results.log_path(out, "2.3", "batchnorm")}
    return tuple({added: log for added, log in logs.items() if results.finished(log)} for logs in (plain, normalized))


def draw(out):
    plain, normalized = logs_by_depth(out)
    if len(plain) > 1:
        kinds = [("no BatchNorm", VERMILION, "o", plain), ("BatchNorm", BLACK, "s", normalized)]
        plots.depth_points(out, "2.3_depth", kinds)


def answer(out):
    """By the number of added layers, test accuracy and G of the first convolution at the first step; then SGD's end."""
    plain, normalized = (
        {
            str(added): {"test": results.final_accuracy(log), "first_step": signals.start_and_end(log)[0][0]}
            for added, log in logs.items()
        }
        for logs in logs_by_depth(out)
    )
    return {"plain": plain, "batchnorm": normalized, "least_live_sgd": vanishing.least_live(out, SGD.name)}


def main():
    parser = options.parser(__doc__)
    control = parser.add_mutually_exclusive_group()
    control.add_argument(
        "--depth",
        type=options.within(int, 0, MOST),
        nargs="+",
        default=[0, 2, 5, 10],
        metavar="N",
        help="train with N added layers (default: 0 2 5 10)",
    )
    control.add_argument("--batchnorm", action="store_true", help="train with 20 added layers and with BatchNorm")
    control.add_argument("--sgd", action="store_true", help="train with plain SGD and without weight decay")
    arguments = options.parse(parser)
    if arguments.batchnorm:
        experiment.run(BATCHNORM, arguments)
    elif arguments.sgd:
        experiment.run(SGD, arguments)
        table = results.log_path(arguments.out, "2.3", "active")
        experiment.measure_trained(SGD, table, vanishing.measure_live_channels, arguments)
    else:
        for added in arguments.depth:
            experiment.run(of_depth(added), arguments)
    draw(arguments.out)
    found = answer(arguments.out)
    for kind in ("plain", "batchnorm"):
        for added, row in found[kind].items():
            print(
                f"{added:>3} added layers, {'no BatchNorm' if kind == 'plain' else 'BatchNorm':<12}: "
                f"test accuracy {row['test']}, G of the first convolution {row['first_step']:.1e} at the first step"
            )


if __name__ == "__main__":
    options.run_script(main)
