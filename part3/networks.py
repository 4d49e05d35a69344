"""The trained networks that Part 3 attacks or evaluates; their weights are committed and handed in."""

import argparse
from pathlib import Path

from common.data import Cifar
from common.experiment import Experiment, trained_network, weights_path
from part1 import crop
from part2 import accuracy, solution
from part3.attack import OnPixels

# The only list of these weights: name in Part 3's tables, then experiment and seed.
NETWORKS = {
    "1.4": (crop.EXPERIMENT, 0),
    "2.1": (accuracy.EXPERIMENT, 0),
    "2.4": (solution.experiment_of(solution.SOLUTION), 0),
    "1.4, seed 1": (crop.EXPERIMENT, 1),
}


def network_on_pixels(name: str, cifar: Cifar, arguments: argparse.Namespace) -> OnPixels:
    """The named network with its trained weights, which takes pixels; trained first if the weights are missing."""
    return on_pixels(*NETWORKS[name], cifar, arguments)


def on_pixels(experiment: Experiment, seed: int, cifar: Cifar, arguments: argparse.Namespace) -> OnPixels:
    network = trained_network(experiment, seed, cifar, arguments)
    return OnPixels(network, experiment.prepare, experiment.trained_on(cifar).statistics).eval()


def weights_of(out: Path, *names: str) -> list[Path]:
    """The weight files of the named networks."""
    return [weights_path(out, *NETWORKS[name]) for name in names]
