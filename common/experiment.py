"""Run experiments: train the seeds missing from the log, and make the measurements missing from a table."""

import argparse
import datetime
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
from common.records import RecordError, load_checkpoint, load_weights, lock, merge_rows, read_rows
from common.results import final_accuracy, finished, log_path, refuse_mixture, runs
from common.settings import PLAIN_SGD, Settings

WATCHED = (1, 10, 30, 100, 300, 1000, 2000)  # iterations


class Experiment(NamedTuple):
    """A training setup, with the name of its log and results.

    Attributes:
        prepare: `prepare(images, statistics, generator=None)` is its pre-processing; see `common.preprocess`.
        settings: a script's `--iterations` and `--batch-size` override these.
        sgd: the settings with `--optimizer sgd`.
        log_gradients: whether the log has G of every convolution (question 2.2).
        watch: `watch(network, cifar)` returns rows about the network, in evaluation mode, after each of `WATCHED`
            iterations. They go into the question's table "course", after columns for name, seed and iteration.
        trained_on: selects the data to train on; all of it by default.
    """

    question: str
    name: str
    make_network: Callable[[], nn.Module]
    prepare: Callable[..., torch.Tensor]
    settings: Settings = Settings()
    log_gradients: bool = False
    sgd: Settings = PLAIN_SGD
    watch: Callable[[nn.Module, Cifar], list[dict]] | None = None
    trained_on: Callable[[Cifar], Cifar] = Cifar.whole


def run(experiment: Experiment, arguments: argparse.Namespace) -> Path:
    """Train each of `arguments.seeds` that is not finished, print the test accuracy, and return the log's path.

    Raises `RecordError` if other seeds in the log were trained with other settings or on another kind of machine, or if
    another process is training one of them, and `DataError` if there is no data to train on.
    """
    log = log_path(arguments.out, experiment.question, experiment.name)
    done = set() if arguments.retrain else finished(log)
    wanted = [seed for seed in arguments.seeds if seed not in done]
    setup, iterations = {"setup": hash_of_setup(experiment, arguments)}, settings_of(experiment, arguments).iterations
    kept = [row for seed, row in runs(log).items() if seed not in wanted]
    if wanted:
        machine = machine_of(arguments)
        refuse_mixture(log, [*kept, setup | machine])
        cifar = experiment.trained_on(data.load(arguments.data_dir, arguments.device))
        code = records.commit()
    else:
        refuse_mixture(log, [*(row for row in kept if row["setup"] and is_comparable(row)), setup | arguments.asked])
        print(f"{log} already has these seeds; to repeat them, use --retrain or --out")
    for seed in wanted:
        checkpoint = checkpoint_path(log, seed)
        with alone(checkpoint):
            if not arguments.retrain and seed in finished(log):
                continue  # another process trained it
            network, columns, seconds = train_seed(experiment, seed, cifar, arguments, checkpoint)
            test = cifar.test_images, cifar.test_labels, cifar.statistics
            accuracy, loss = evaluate(network, experiment.prepare, *test)
            records.save_checkpoint(weights_path(arguments.out, experiment, seed), network.state_dict())
            rows = [dict(zip(columns, row)) for row in zip(*columns.values())]
            rows = [{"seed": seed, "iteration": iteration, **row} for iteration, row in enumerate(rows, start=1)]
            merge_rows(log, rows, key=["seed"])
            if experiment.watch:
                measure_snapshots(experiment, seed, arguments, checkpoint)
            parameters = sum(parameter.numel() for parameter in network.parameters())
            result = {"question": experiment.question, "name": experiment.name, "seed": seed}
            result |= {"test_accuracy": accuracy, "test_loss": loss, "iterations": iterations}
            result |= {"parameters": parameters, "seconds": seconds, **machine, **setup, "commit": code}
            result |= {"date": datetime.date.today().isoformat()}
            merge_rows(log.with_name("results.csv"), [result], key=["question", "name", "seed"])
            print(f"{log.stem} seed {seed}: {accuracy:.2%} after {seconds:.0f} s", flush=True)
    for seed in arguments.seeds:  # kept until here, so that a stopped --retrain does not repeat finished seeds
        remove_finished(checkpoint_path(log, seed), iterations)
        for path in snapshots(experiment, checkpoint_path(log, seed), arguments).values():
            path.unlink(missing_ok=True)
    print(f"{experiment.question} {experiment.name}: test accuracy {final_accuracy(log)}")
    return log


def machine_of(arguments: argparse.Namespace) -> dict[str, str | int]:
    """The machine and the data: what a run's numbers depend on besides code, settings and seed."""
    return {
        "device": arguments.device.type,
        "processor": records.processor(arguments.device),
        "threads": torch.get_num_threads(),
        "precision": arguments.precision,
        "torch": str(torch.__version__),
        "data_md5": "synthetic" if arguments.data_dir == "synthetic" else data.md5s()["data_batch_1"],
    }


def hash_of_setup(experiment: Experiment, arguments: argparse.Namespace) -> str:
    """A hash of what all seeds of an experiment share: its layers, the code of its two functions, and its settings."""
    code = [records.code_of(part) for part in (experiment.make_network, experiment.prepare)]
    shared = f"{experiment.make_network()} {code} {settings_of(experiment, arguments)}"
    return hashlib.sha256(shared.encode()).hexdigest()[:12]


def is_comparable(row: dict) -> bool:
    """Whether a row's hash of its setup can be compared: other versions may describe layers differently."""
    return row["torch"] == str(torch.__version__)


def settings_of(experiment: Experiment, arguments: argparse.Namespace) -> Settings:
    """The experiment's settings, with the optimizer and the budget that the flags set."""
    settings = experiment.sgd if arguments.optimizer == "sgd" else experiment.settings
    return replace(settings, **arguments.budget)


def train_seed(
    experiment: Experiment, seed: int, cifar: Cifar, arguments: argparse.Namespace, checkpoint: Path
) -> tuple[nn.Module, dict[str, list[float]], float]:
    """Train one seed with the settings from the experiment and the flags."""
    from common.training import train  # imported here because plots do not need it

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
        snapshots=snapshots(experiment, checkpoint, arguments),
    )
    try:
        return begin()
    except RecordError as error:
        print(f"{error} (now removed; starting again)")
        checkpoint.unlink()
        return begin()


def snapshots(experiment: Experiment, checkpoint: Path, arguments: argparse.Namespace) -> dict[int, Path]:
    """Paths of the files that hold the weights after each of the `WATCHED` iterations until they are measured."""
    iterations = settings_of(experiment, arguments).iterations
    watched = [iteration for iteration in WATCHED if experiment.watch and iteration <= iterations]
    return {iteration: checkpoint.with_name(f"{checkpoint.stem}_after{iteration}.pt") for iteration in watched}


def measure_snapshots(experiment: Experiment, seed: int, arguments: argparse.Namespace, checkpoint: Path) -> None:
    """Measure the snapshots with `experiment.watch` on the CPU, and write the table "course".

    Raises `RecordError` if one is missing; the same command then trains from the start.
    """
    cifar, rows = data.load(arguments.data_dir), []
    for iteration, path in snapshots(experiment, checkpoint, arguments).items():
        if not path.exists():
            checkpoint.unlink(missing_ok=True)
            raise RecordError(f"{path} has been removed: the same command recreates it")
        network = experiment.make_network()
        network.load_state_dict(load_weights(path))
        found = experiment.watch(network.eval(), cifar)
        rows += [{"name": experiment.name, "seed": seed, "iteration": iteration, **row} for row in found]
    merge_rows(log_path(arguments.out, experiment.question, "course"), rows, key=["name", "seed"])


def weights_path(out: Path, experiment: Experiment, seed: int) -> Path:
    return out / "weights" / f"{experiment.question}_{experiment.name}_seed{seed}.pt"


def checkpoint_path(log: Path, seed: int) -> Path:
    return log.parents[1] / "checkpoints" / f"{log.stem}_seed{seed}.pt"


def remove_finished(checkpoint: Path, iterations: int) -> None:
    """Remove the checkpoint of a run's last iteration, or a damaged one. That of a stopped run stays."""
    try:
        state = load_checkpoint(checkpoint)
        if state is None or state.get("iteration") != iterations:
            return
    except RecordError:
        pass
    try:
        checkpoint.unlink(missing_ok=True)
    except OSError as error:
        if error.errno not in records.READ_ONLY:
            raise


def alone(checkpoint: Path):
    """Lock a run: one process at a time trains with this checkpoint."""
    return lock(checkpoint.with_suffix(".lock"), f"{checkpoint.stem} is being trained by another process")


def trained_network(experiment: Experiment, seed: int, cifar: Cifar, arguments: argparse.Namespace) -> nn.Module:
    """The network with the weights of its run, in evaluation mode. If they are missing, it is trained first.

    Raises `RecordError` if the weights are not this network's.
    """
    weights = weights_path(arguments.trained, experiment, seed)
    log = log_path(arguments.trained, experiment.question, experiment.name)
    if not weights.exists() or checkpoint_path(log, seed).exists():  # or its run was stopped
        print(f"training question {experiment.question}'s network first, for {weights}", flush=True)
        again = {"out": arguments.trained, "seeds": [seed], "retrain": True}
        run(experiment, argparse.Namespace(**vars(arguments) | again))
    network = experiment.make_network().to(arguments.device)
    try:
        network.load_state_dict(load_weights(weights))
    except RuntimeError as error:
        raise RecordError(
            f"{weights} does not hold the weights of question {experiment.question}'s network; remove it"
        ) from error
    return network.eval()


def measure_once(
    tables: dict[str, Path],
    weights: Sequence[Path],
    again: bool,
    measure: Callable[[], dict],
    cells: Sequence[dict[str, str]] = ({},),
) -> None:
    """Fill `tables` with the rows that `measure()` returns by name, if a table is missing or `again` is set.

    `weights` are the files of the measured networks. If they have changed, or if a table lacks a row for any of
    `cells`, everything is measured again. Raises `RecordError` if weights change during measurement.
    """
    last = list(tables.values())[-1]

    def is_done():
        return not again and all(is_measured(table, each, weights) for table in tables.values() for each in cells)

    if is_done():
        print(f"{last} already exists; to repeat it, use --retrain or --out")
        return
    guard = last.parents[1] / "checkpoints" / f"{last.stem}.lock"
    with lock(guard, f"{last} is being written by another process", seconds=20):
        if not is_done():  # by another process
            before = hashes_of(weights)
            measured = measure()  # trains networks whose weights are missing
            hashes = hashes_of(weights)
            if before.items() - hashes.items():
                raise RecordError(f"another process replaced weights while {last} was being measured: try again")
            for name, rows in measured.items():
                records.write_rows(tables[name], rows)
                remember(tables[name], hashes)


def measure_trained(experiment: Experiment, table: Path, measure: Callable, arguments: argparse.Namespace) -> None:
    """Write into `table` the rows that `measure` returns for the network of each finished seed, if missing.

    `measure(network, cifar)` returns rows; the columns name and seed are prepended.
    """
    cifar = None
    for seed in sorted(finished(log_path(arguments.out, experiment.question, experiment.name))):
        key = {"name": experiment.name, "seed": seed}
        weights = weights_path(arguments.trained, experiment, seed)
        if not is_measured(table, key, [weights]):
            cifar = cifar or data.load(arguments.data_dir, arguments.device)
            network = trained_network(experiment, seed, cifar, arguments)
            merge_rows(table, [key | row for row in measure(network, cifar)], key=list(key))
            remember(table, {weights.name: records.hash_of_tensors(network.state_dict())})


def is_measured(table: Path, cells: dict[str, str | int], weights: Sequence[Path] = ()) -> bool:
    """Whether `table` has a row with these cells and was measured on the current weights.

    Missing weights count as unchanged.
    """
    texts = {name: str(value) for name, value in cells.items()}
    found = any(texts.items() <= row.items() for row in read_rows(table))
    return found and hashes_of(weights).items() <= remembered(table).items()


def hashes_of(weights: Sequence[Path]) -> dict[str, str]:
    return {path.name: records.hash_of_tensors(load_weights(path)) for path in weights if path.exists()}


def remember(table: Path, hashes: dict[str, str]) -> None:
    """Record a hash of the weights that `table` was measured on, by the name of their file."""
    rows = [{"table": table.name, "weights": name, "sha256": hashed} for name, hashed in hashes.items()]
    if rows:  # empty for tables measured on new networks
        merge_rows(table.with_name("measured.csv"), rows, key=["table", "weights"])


def remembered(table: Path) -> dict[str, str]:
    rows = read_rows(table.with_name("measured.csv"))
    return {row["weights"]: row["sha256"] for row in rows if row["table"] == table.name}
