"""Running an experiment: its seeds trained where the log lacks them, its networks measured where a table lacks that."""

import argparse
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

import torch
from torch import nn

from common import data, records
from common.data import Cifar
from common.networks import evaluate
from common.records import RecordError, load_weights, lock, merge_rows, read_rows, save_checkpoint
from common.results import final_accuracy, finished, log_path, runs
from common.settings import Settings


class Experiment(NamedTuple):
    """What is trained, and under which name its log and results stand.

    Attributes:
        prepare: `prepare(images, statistics, generator=None)` is its pre-processing; see `common.preprocess`.
        settings: of which a script's `--iterations` and `--batch-size` take precedence.
        log_gradients: whether the log has G of every convolution (question 2.2).
    """

    question: str
    name: str
    make_network: Callable[[], nn.Module]
    prepare: Callable[..., torch.Tensor]
    settings: Settings = Settings()
    log_gradients: bool = False


def run(experiment: Experiment, arguments: argparse.Namespace) -> Path:
    """Train each of `arguments.seeds` that is not finished, print the test accuracy, and return the log's path.

    Other processes may run the same experiment meanwhile. Raises `RecordError` if finished seeds were computed on
    another kind of device or in another precision.
    """
    log = log_path(arguments.out, experiment.question, experiment.name)
    done = set() if arguments.retrain else finished(log)
    wanted = [seed for seed in arguments.seeds if seed not in done]
    of_this_kind = kind(experiment, arguments)
    for seed, hashed in remembered(log).items():
        if seed not in map(str, wanted) and hashed != of_this_kind:
            raise RecordError(
                f"{log} has seed {seed} of another network, pre-processing or settings: --retrain it, "
                "or name another folder with --out"
            )
    if wanted:
        refuse_mixture(log, [row for seed, row in runs(log).items() if seed not in wanted], arguments)
        cifar = data.load(arguments.data_dir, arguments.device)
        code = records.commit()
    else:
        print(f"{log} has these seeds already: --retrain or another --out trains them")
    for seed in wanted:
        checkpoint = arguments.out / "checkpoints" / f"{log.stem}_seed{seed}.pt"
        with alone(checkpoint):
            if not arguments.retrain and seed in finished(log):
                continue  # by another process, meanwhile
            network, columns, seconds = train_seed(experiment, seed, cifar, arguments, checkpoint)
            test = cifar.test_images, cifar.test_labels, cifar.statistics
            accuracy, loss = evaluate(network, experiment.prepare, *test)
            save_checkpoint(weights_path(arguments.out, experiment, seed), network.state_dict())
            rows = [dict(zip(columns, row)) for row in zip(*columns.values())]
            rows = [{"seed": seed, "iteration": iteration, **row} for iteration, row in enumerate(rows, start=1)]
            merge_rows(log, rows, key=["seed"])
            result = {
                "question": experiment.question,
                "name": experiment.name,
                "seed": seed,
                "test_accuracy": accuracy,
                "test_loss": loss,
                "iterations": arguments.iterations,
                "parameters": sum(parameter.numel() for parameter in network.parameters()),
                "seconds": seconds,
                "device": arguments.device.type,
                "precision": arguments.precision,
                "torch": str(torch.__version__),
                "commit": code,
            }
            remember(log, {str(seed): of_this_kind})
            merge_rows(log.with_name("results.csv"), [result], key=["question", "name", "seed"])
            checkpoint.unlink()  # last: until then, nothing of a training is lost
            print(f"{log.stem} seed {seed}: {accuracy:.2%} after {seconds:.0f} s", flush=True)
    print(f"{experiment.question} {experiment.name}: test accuracy {final_accuracy(log)}")
    return log


def kind(experiment: Experiment, arguments: argparse.Namespace) -> str:
    """A hash of what all seeds of an experiment have in common, its functions' code and its settings.

    Seeds of two kinds have no mean.
    """
    code = [records.code_of(part) for part in (experiment.make_network, experiment.prepare)]
    return hashlib.sha256(f"{code} {settings_of(experiment, arguments)}".encode()).hexdigest()


def settings_of(experiment: Experiment, arguments: argparse.Namespace) -> Settings:
    """The experiment's, with the budget that the flags say."""
    return replace(experiment.settings, iterations=arguments.iterations, batch_size=arguments.batch_size)


def train_seed(
    experiment: Experiment, seed: int, cifar: Cifar, arguments: argparse.Namespace, checkpoint: Path
) -> tuple[nn.Module, dict[str, list[float]], float]:
    """`common.training.train` as the experiment and the flags say."""
    from common.training import train  # here, because who only draws from logs needs no trainer

    begin = partial(
        train,
        experiment.make_network,
        experiment.prepare,
        cifar,
        settings_of(experiment, arguments),
        seed,
        arguments.precision,
        checkpoint,
        description=checkpoint.stem,
        log_gradients=experiment.log_gradients,
    )
    try:
        return begin()
    except RecordError as error:
        print(f"{error}: done, and starting again")
        checkpoint.unlink()
        return begin()


def weights_path(out: Path, experiment: Experiment, seed: int) -> Path:
    return out / "weights" / f"{experiment.question}_{experiment.name}_seed{seed}.pt"


def alone(checkpoint: Path):
    """A lock: one process at a time trains what has this checkpoint."""
    return lock(checkpoint.with_suffix(".lock"), f"{checkpoint.stem} is being trained by another process")


def refuse_mixture(log: Path, rows: list[dict[str, str]], arguments: argparse.Namespace) -> None:
    """A mean over seeds means something only if they were computed in the same way."""
    for row in rows:
        if (row["device"], row["precision"]) != (arguments.device.type, arguments.precision):
            raise RecordError(
                f"{log} has seed {row['seed']} from {row['device']} in {row['precision']}, this run is on "
                f"{arguments.device.type} in {arguments.precision}: name another folder with --out"
            )


def trained_network(experiment: Experiment, seed: int, cifar: Cifar, arguments: argparse.Namespace) -> nn.Module:
    """The network with the weights of its run; where these are missing, it is trained first, without a log.

    In evaluation mode. Raises `RecordError` if the weights are not this network's.
    """
    weights = weights_path(arguments.trained, experiment, seed)
    if not weights.exists():
        print(f"{weights} is missing: training question {experiment.question}'s network first", flush=True)
        checkpoint = arguments.trained / "checkpoints" / f"{weights.stem}_weights.pt"
        with alone(checkpoint):
            if not weights.exists():
                network, _, _ = train_seed(experiment, seed, cifar, arguments, checkpoint)
                save_checkpoint(weights, network.state_dict())
                checkpoint.unlink()
    network = experiment.make_network().to(arguments.device)
    try:
        network.load_state_dict(load_weights(weights))
    except RuntimeError as error:
        raise RecordError(
            f"{weights} are not weights of question {experiment.question}'s network; remove them"
        ) from error
    return network.eval()


def measure_trained(experiment: Experiment, table: Path, measure: Callable, arguments: argparse.Namespace) -> None:
    """Write into `table` what `measure` returns for the network of each finished seed, where that is not written.

    `measure(network, cifar)` returns rows, which get the columns name and seed in front.
    """
    cifar = None
    for seed in sorted(finished(log_path(arguments.out, experiment.question, experiment.name))):
        key = {"name": experiment.name, "seed": seed}
        weights = weights_path(arguments.trained, experiment, seed)
        if not is_measured(table, key, [weights]):
            cifar = cifar or data.load(arguments.data_dir, arguments.device)
            network = trained_network(experiment, seed, cifar, arguments)
            merge_rows(table, [key | row for row in measure(network, cifar)], key=list(key))
            remember_weights(table, [weights])


def is_measured(table: Path, cells: dict[str, str | int], weights: Sequence[Path] = ()) -> bool:
    """Whether `table` has a row with these cells, and was measured on the weights as they are now.

    Weights that are not there have not changed. The one place that decides what need not be measured again.
    """
    texts = {name: str(value) for name, value in cells.items()}
    found = any(texts.items() <= row.items() for row in read_rows(table))
    return found and hashes_of(weights).items() <= remembered(table).items()


def remember_weights(table: Path, weights: Sequence[Path]) -> None:
    """Note on which weights `table` was just measured, for `is_measured`."""
    remember(table, hashes_of(weights))


def hashes_of(weights: Sequence[Path]) -> dict[str, str]:
    return {path.name: records.hash_of_tensors(load_weights(path)) for path in weights if path.exists()}


def remember(table: Path, hashes: dict[str, str]) -> None:
    """Note what `table` rests on: files of weights, or a log's seeds, and a hash of each."""
    rows = [{"table": table.name, "weights": name, "sha256": hashed} for name, hashed in hashes.items()]
    merge_rows(table.with_name("measured.csv"), rows, key=["table", "weights"])


def remembered(table: Path) -> dict[str, str]:
    rows = read_rows(table.with_name("measured.csv"))
    return {row["weights"]: row["sha256"] for row in rows if row["table"] == table.name}
