"""The trained networks that Part 3 attacks: those of 1.4 and 2.1, and the cured one of 2.4. They take pixels."""

import argparse
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import NamedTuple

from torch import nn

from common.data import Cifar
from common.experiment import log_path
from common.networks import table1_network
from common.preprocess import channel_statistics
from common.records import RecordError, load_checkpoint, save_checkpoint
from common.training import Settings, train
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
    """A question's network with the weights of its run; where these are missing, they are trained first.

    Raises `RecordError` if the weights are not this network's.
    """
    name, make_network, prepare, settings = EXPERIMENTS[question]
    prepare = partial(prepare, statistics=channel_statistics(cifar.train_images))
    stem = f"{log_path(arguments.trained, question, name).stem}_seed{seed}"
    weights = arguments.trained / "weights" / f"{stem}.pt"
    if not weights.exists():
        print(f"{weights} is missing: training question {question}'s network first", flush=True)
        settings = replace(settings, iterations=arguments.iterations, batch_size=arguments.batch_size)
        checkpoint = arguments.trained / "checkpoints" / f"{stem}_weights.pt"
        network, _, _ = train(
            make_network,
            cifar.train_images,
            cifar.train_labels,
            prepare,
            settings,
            seed,
            arguments.precision,
            checkpoint,
            description=stem,
        )
        save_checkpoint(weights, network.state_dict())
        checkpoint.unlink()
    network = make_network().to(arguments.device)
    try:
        network.load_state_dict(load_checkpoint(weights))
    except RuntimeError as error:
        raise RecordError(f"{weights} are not weights of question {question}'s network; remove them") from error
    return OnPixels(network, prepare).eval()
