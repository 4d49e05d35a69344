"""The trained networks that Part 3 attacks: those of 1.4 and 2.1, and the cured one of 2.4. They take pixels."""

import argparse
from dataclasses import replace
from functools import partial

from torch import nn

from common.data import Cifar
from common.experiment import log_path
from common.preprocess import channel_statistics
from common.records import RecordError, load_checkpoint, save_checkpoint
from common.training import reuse_freed_memory, train
from part1 import crop
from part2 import accuracy, solution
from part3.attack import OnPixels

EXPERIMENTS = {
    "1.4": crop.EXPERIMENT,
    "2.1": accuracy.EXPERIMENT,
    "2.4": solution.experiment_of(solution.SOLUTION),
}


def trained_network(question: str, arguments: argparse.Namespace, cifar: Cifar, seed: int = 0) -> nn.Module:
    """A question's network with the weights of its run; where these are missing, they are trained first.

    Raises `RecordError` if the weights are not this network's.
    """
    reuse_freed_memory()  # for attacks too: they pass the same shapes through it again and again
    experiment = EXPERIMENTS[question]
    prepare = partial(experiment.prepare, statistics=channel_statistics(cifar.train_images))
    stem = f"{log_path(arguments.trained, question, experiment.name).stem}_seed{seed}"
    weights = arguments.trained / "weights" / f"{stem}.pt"
    if not weights.exists():
        print(f"{weights} is missing: training question {question}'s network first", flush=True)
        settings = replace(experiment.settings, iterations=arguments.iterations, batch_size=arguments.batch_size)
        checkpoint = arguments.trained / "checkpoints" / f"{stem}_weights.pt"
        network, _, _ = train(
            experiment.make_network,
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
    network = experiment.make_network().to(arguments.device)
    try:
        network.load_state_dict(load_checkpoint(weights))
    except RuntimeError as error:
        raise RecordError(f"{weights} are not weights of question {question}'s network; remove them") from error
    return OnPixels(network, prepare).eval()
