"""The trained networks that Part 3 attacks: those of 1.4 and 2.1, and the cured one of 2.4. They take pixels."""

import argparse
from functools import partial

from torch import nn

from common import experiment
from common.data import Cifar
from common.preprocess import channel_statistics
from common.training import reuse_freed_memory
from part1 import crop
from part2 import accuracy, solution
from part3.attack import OnPixels

EXPERIMENTS = {
    "1.4": crop.EXPERIMENT,
    "2.1": accuracy.EXPERIMENT,
    "2.4": solution.experiment_of(solution.SOLUTION),
}


def trained_network(question: str, arguments: argparse.Namespace, cifar: Cifar, seed: int = 0) -> nn.Module:
    """A question's network with the weights of its run (see `common.experiment.trained_network`)."""
    reuse_freed_memory()  # for attacks too: they pass the same shapes through it again and again
    network = experiment.trained_network(EXPERIMENTS[question], seed, cifar, arguments)
    prepare = partial(EXPERIMENTS[question].prepare, statistics=channel_statistics(cifar.train_images))
    return OnPixels(network, prepare).eval()
