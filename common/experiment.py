"""One experiment of a question: its seeds trained where the log lacks them, its log, results and answer."""

import argparse
import statistics
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import nn

from common import data
from common.gradients import active_channels, signals
from common.options import departures
from common.preprocess import channel_statistics
from common.records import (
    RESULT_COLUMNS,
    RecordError,
    commit,
    load_checkpoint,
    lock,
    merge_rows,
    read_csv,
    read_log,
    read_results,
    save_checkpoint,
    write_rows,
)
from common.training import Settings, evaluate, train

INITIALISATIONS, SIGNAL_IMAGES = 5, 32  # of `measure_signals`
ACTIVE_IMAGES = 500  # training images of `measure_active`


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
    prepare: Callable
    settings: Settings = Settings()
    log_gradients: bool = False


def run(experiment: Experiment, arguments: argparse.Namespace) -> Path:
    """Train each of `arguments.seeds` that is not finished, print the answer, and return the log's path.

    Other processes may run the same experiment meanwhile.
    """
    question = experiment.question
    log = log_path(arguments.out, question, experiment.name)
    done = set() if arguments.retrain else finished(log)
    wanted = [seed for seed in arguments.seeds if seed not in done]
    if wanted:
        refuse_mixture(log, wanted, arguments)
        cifar = data.load(arguments.data_dir, arguments.device)
        prepare = partial(experiment.prepare, statistics=channel_statistics(cifar.train_images))
        code = commit()
    else:
        print(f"{log} has these seeds already: --retrain or another --out trains them")
    for seed in wanted:
        checkpoint = arguments.out / "checkpoints" / f"{log.stem}_seed{seed}.pt"
        with lock(
            checkpoint.with_suffix(".lock"), f"{log.stem} seed {seed} is being trained by another process: waiting"
        ):
            if not arguments.retrain and seed in finished(log):
                continue  # by that other process
            network, columns, seconds = train_seed(experiment, seed, cifar, arguments, checkpoint)
            accuracy, loss = evaluate(network, cifar.test_images, cifar.test_labels, prepare)
            save_checkpoint(arguments.out / "weights" / f"{log.stem}_seed{seed}.pt", network.state_dict())
            rows = [[seed, iteration, *row] for iteration, row in enumerate(zip(*columns.values()), start=1)]
            merge_rows(log, ["seed", "iteration", *columns], rows, key=1)
            result = {
                "question": question,
                "name": log.stem.removeprefix(f"{question}_"),
                "seed": seed,
                "test_accuracy": accuracy,
                "test_loss": loss,
                "iterations": arguments.iterations,
                "parameters": sum(parameter.numel() for parameter in network.parameters()),
                "seconds": seconds,
                "device": arguments.device.type,
                "precision": arguments.precision,
                "torch": torch.__version__,
                "commit": code,
            }
            checkpoint.unlink()  # before the last write: a finished run never leaves one behind
            merge_rows(log.with_name("results.csv"), RESULT_COLUMNS, [[result[name] for name in RESULT_COLUMNS]], key=3)
            print(f"{log.stem} seed {seed}: {accuracy:.2%} after {seconds:.0f} s", flush=True)
    print(f"{question} {experiment.name}: test accuracy {mean_and_deviation(final_accuracies(log))}")
    return log


def train_seed(
    experiment: Experiment, seed: int, cifar: data.Cifar, arguments: argparse.Namespace, checkpoint: Path
) -> tuple[nn.Module, dict[str, list[float]], float]:
    """`common.training.train` as the experiment and the flags say."""
    return train(
        experiment.make_network,
        cifar.train_images,
        cifar.train_labels,
        partial(experiment.prepare, statistics=channel_statistics(cifar.train_images)),
        replace(experiment.settings, iterations=arguments.iterations, batch_size=arguments.batch_size),
        seed,
        arguments.precision,
        checkpoint,
        description=checkpoint.stem,
        log_gradients=experiment.log_gradients,
    )


def trained_network(experiment: Experiment, seed: int, cifar: data.Cifar, arguments: argparse.Namespace) -> nn.Module:
    """The network with the weights of its run; where these are missing, it is trained first, without a log.

    Raises `RecordError` if the weights are not this network's.
    """
    stem = f"{log_path(arguments.trained, experiment.question, experiment.name).stem}_seed{seed}"
    weights = arguments.trained / "weights" / f"{stem}.pt"
    if not weights.exists():
        print(f"{weights} is missing: training question {experiment.question}'s network first", flush=True)
        checkpoint = arguments.trained / "checkpoints" / f"{stem}_weights.pt"
        network, _, _ = train_seed(experiment, seed, cifar, arguments, checkpoint)
        save_checkpoint(weights, network.state_dict())
        checkpoint.unlink()
    network = experiment.make_network().to(arguments.device)
    try:
        network.load_state_dict(load_checkpoint(weights))
    except RuntimeError as error:
        raise RecordError(
            f"{weights} are not weights of question {experiment.question}'s network; remove them"
        ) from error
    return network.eval()


def measure_signals(
    question: str, networks: dict[str, Callable[[], nn.Sequential]], prepare: Callable, arguments: argparse.Namespace
) -> Path:
    """Write what is left of a signal after each convolution of new networks, unless it is written; return the table.

    The first images of the training batch, without augmentation, go through several initialisations of
    each network; see `common.gradients.signals` for the columns. On the CPU: not every accelerator has float64.
    """
    path = log_path(arguments.out, question, "signals")
    if arguments.retrain or {row["network"] for row in read_csv(path)} != networks.keys():
        cifar = data.load(arguments.data_dir, torch.device("cpu"))
        inputs = prepare(cifar.train_images[:SIGNAL_IMAGES], channel_statistics(cifar.train_images)).double()
        rows = []
        for name, make_network in networks.items():
            for seed in range(INITIALISATIONS):
                torch.manual_seed(seed)
                for row in signals(make_network().double(), inputs, cifar.train_labels[:SIGNAL_IMAGES]):
                    rows.append({"network": name, "seed": seed, **row})
        write_rows(path, rows)
    return path


def unmeasured(table: Path, experiment: Experiment, arguments: argparse.Namespace) -> list[int]:
    """The finished seeds of the experiment that `table` lacks, and those that `--retrain` has just trained anew."""
    done = {int(row["seed"]) for row in read_csv(table) if row["name"] == experiment.name}
    done -= set(arguments.seeds) if arguments.retrain else set()
    return sorted(finished(log_path(arguments.out, experiment.question, experiment.name)) - done)


def measure_active(experiment: Experiment, arguments: argparse.Namespace) -> None:
    """Write which share of channels is active in each layer of the experiment's networks, where the table lacks it.

    See `common.gradients.active_channels`; of training images without augmentation.
    """
    table = log_path(arguments.out, experiment.question, "active")
    if not (seeds := unmeasured(table, experiment, arguments)):
        return
    cifar = data.load(arguments.data_dir, arguments.device)
    inputs = experiment.prepare(cifar.train_images[:ACTIVE_IMAGES], channel_statistics(cifar.train_images))
    rows: list[list] = []
    for seed in seeds:
        shares = active_channels(trained_network(experiment, seed, cifar, arguments), inputs)
        rows += [[experiment.name, seed, number, share] for number, share in enumerate(shares, start=1)]
    merge_rows(table, ["name", "seed", "convolution", "active"], rows, key=2)


def least_active(table: Path, name: str) -> str:
    """Of each network that `measure_active` measured under this name: the least share, and the convolution's number."""
    layers: dict[str, list[tuple[float, int]]] = {}
    for row in read_csv(table):
        if row["name"] == name:
            layers.setdefault(row["seed"], []).append((float(row["active"]), int(row["convolution"])))
    return ", ".join(f"{100 * share:.0f} % (convolution {number})" for share, number in map(min, layers.values()))


def log_path(out: Path, question: str, name: str) -> Path:
    """Where an experiment's log lies; on generated data its name says so."""
    return out / "logs" / f"{question}_{name}{'_synthetic' if 'synthetic' in departures(out) else ''}.csv"


def results(log: Path) -> dict[int, dict[str, str]]:
    """The rows of the results table beside `log` that belong to it, by seed."""
    question, _, name = log.stem.partition("_")
    return {
        int(row["seed"]): row
        for row in read_results(log.with_name("results.csv"))
        if (row["question"], row["name"]) == (question, name)
    }


def finished(log: Path) -> set[int]:
    """The seeds that both tables have: a run may have been stopped between writing the two."""
    return read_log(log).keys() & results(log).keys()


def refuse_mixture(log: Path, wanted: list[int], arguments: argparse.Namespace) -> None:
    """A mean over seeds means something only if they were computed in the same way."""
    for seed, row in results(log).items():
        if seed not in wanted and (row["device"], row["precision"]) != (arguments.device.type, arguments.precision):
            raise RecordError(
                f"{log} has seed {seed} from {row['device']} in {row['precision']}, this run is on "
                f"{arguments.device.type} in {arguments.precision}: name another folder with --out"
            )


def final_accuracies(log: Path) -> list[float]:
    """Test accuracy (a fraction) of each finished seed."""
    return [float(row["test_accuracy"]) for row in results(log).values()]


def median_seconds(log: Path) -> float:
    """Median time of a run's training: other work on the machine may have slowed one of them down."""
    return statistics.median(float(row["seconds"]) for row in results(log).values())


def mean_and_deviation(accuracies: list[float]) -> str:
    """Mean ± standard deviation in percent, with n."""
    spread = f" ± {100 * statistics.stdev(accuracies):.2f}" if len(accuracies) > 1 else ""
    return f"{100 * statistics.mean(accuracies):.2f}{spread} % (n = {len(accuracies)})"


def paired_difference(log: Path, baseline: Path) -> str:
    """Mean difference of test accuracy over the seeds of both logs, in points, ± standard error, with n."""
    first, second = results(log), results(baseline)
    differences = [
        100 * (float(first[seed]["test_accuracy"]) - float(second[seed]["test_accuracy"]))
        for seed in sorted(first.keys() & second.keys())
    ]
    if len(differences) < 2:
        return f"unknown: {log.stem} and {baseline.stem} need two seeds in common"
    error = statistics.stdev(differences) / len(differences) ** 0.5
    mean = round(statistics.mean(differences), 2) + 0.0  # no "-0.00"
    return f"{mean:+.2f} ± {error:.2f} points (standard error, n = {len(differences)} pairs)"


def last_epoch(log: Path, column: str) -> float:
    """Mean of a column over the last epoch (100 iterations) of all seeds."""
    return float(np.mean([columns[column][-100:] for columns in read_log(log).values()]))


def magnitudes_of(log: Path) -> np.ndarray:
    """G of each seed, convolution and iteration, `(seeds, convolutions, iterations)`."""
    seeds = read_log(log).values()
    return np.array([[values for name, values in columns.items() if name.startswith("G_")] for columns in seeds])


def start_and_end(log: Path) -> tuple[np.ndarray, np.ndarray]:
    """Each convolution's G at the first step (geometric mean over seeds) and its median over the last epoch."""
    magnitudes = magnitudes_of(log)
    return geometric_mean(magnitudes[..., 0], axis=0), np.median(magnitudes[..., -100:], axis=(0, 2))


def signals_of(table: Path, network: str, column: str) -> np.ndarray:
    """A column of what `measure_signals` wrote on one network, `(initialisations, depths)`."""
    seeds: dict[str, list[float]] = {}
    for row in read_csv(table):
        if row["network"] == network:
            seeds.setdefault(row["seed"], []).append(float(row[column]))
    return np.array(list(seeds.values()))


def left_by_a_layer(table: Path, network: str, added: int) -> float:
    """What each of `added` layers behind the first convolution leaves of the gradient's scale, a new network's mean."""
    convolution = signals_of(table, network, "convolution")[0]
    gradient = geometric_mean(signals_of(table, network, "gradient"), axis=0)
    return (gradient[convolution == 1] / gradient[convolution == 1 + added]).item() ** (1 / added)


def geometric_mean(values: np.ndarray, axis: int) -> np.ndarray:
    """The mean for what spans orders of magnitude; 0 if any value is 0."""
    with np.errstate(divide="ignore"):
        return np.exp(np.log(values).mean(axis))
