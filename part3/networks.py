"""The trained networks that Part 3 attacks: those of 1.4 and 2.1, and the cured one of 2.4. They take pixels."""

import argparse
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from torch import nn

from common.data import Cifar
from common.experiment import log_path, run
from common.networks import table1_network
from common.preprocess import channel_statistics
from common.records import load_checkpoint
from common.training import Settings
from part1 import crop
from part2 import accuracy, solution
from part2.networks import designed_network
from part3.attack import OnPixels


class Experiment(NamedTuple):
    name: str
    make_network: Callable[[], nn.Module]
    prepare: Callable
    settings: Settings = Settings()


CURE = solution.CURES[solution.SOLUTION]
EXPERIMENTS = {
    "1.4": Experiment("crop", table1_network, crop.prepare),
    "2.1": Experiment("accuracy", designed_network, accuracy.prepare),
    "2.4": Experiment(solution.SOLUTION, CURE.make_network, accuracy.prepare, solution.CAREFUL),
}


def trained_network(question: str, arguments: argparse.Namespace, cifar: Cifar, seed: int = 0) -> nn.Module:
    """A question's network with the weights of its run; where there are none, they are trained first."""
    name, make_network, prepare, settings = EXPERIMENTS[question]
    log = log_path(arguments.trained, question, name)
    weights = arguments.trained / "weights" / f"{log.stem}_seed{seed}.pt"
    if not weights.exists():
        print(f"{weights} is not there: training question {question}'s network first", flush=True)
        changes = {"out": arguments.trained, "seeds": [seed], "retrain": True}
        again = argparse.Namespace(**vars(arguments) | changes)
        run(question, name, make_network, prepare, again, settings, log_gradients=question.startswith("2"))
    network = make_network().to(arguments.device)
    network.load_state_dict(load_checkpoint(weights))
    statistics = channel_statistics(cifar.train_images)
    return OnPixels(network, partial(prepare, statistics=statistics)).eval()
