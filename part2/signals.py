"""Part 2's measurements: G during training, signals in new networks, and live channels."""

import argparse
import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from common import data
from common.data import Cifar
from common.experiment import measure_once
from common.gradients import convolutions
from common.results import epoch_of, log_path, read_log, read_rows

INITIALIZATIONS, IMAGES = 5, 32  # of `measure_new_networks`
# The factor by which convolution (PyTorch's default initialization) and ReLU scale a mean square (question 2.3):
# a sum of n terms with weights of variance 1/(3n) has a third of it, and ReLU passes half of that.
DEFAULT_FACTOR = 1 / 6
# The same for BatchNorm and ReLU in the backward pass: greater than 1 (Yang et al. 2019, arXiv 1902.08129).
BATCHNORM_FACTOR = np.pi / (np.pi - 1)


def signals(network: nn.Sequential, inputs: torch.Tensor, labels: torch.Tensor) -> list[dict[str, float]]:
    """The size of signals after each convolution, or residual block of convolutions, with the current weights.

    Use a network and inputs in float64 where signals vanish: float32 rounds away differences between
    images that are below 1e-7 of the values.

    Returns a row for each part of `network` that holds convolutions. z is the part's output, and a is the input
    of the next part or of the last layer: z after BatchNorm, ReLU and pooling, if there are any.
        convolution: number of convolutions so far.
        gradient: root mean square of ∂L/∂z over images, channels and positions. L is the *sum* of the images'
            cross-entropies, so their number does not matter.
        mean_square: of a, over images, channels and positions.
        image_variance: the part that differs between images: the variance of a over images, averaged over
            channels and positions.
        active: share of a above zero.
        live: share of channels with any a above zero. With ReLU, others get no gradient.
    """
    outputs, received, counts = [], [], []
    activations = inputs
    for layer in network:
        activations = layer(activations)
        if number := len(convolutions(layer)):
            outputs.append(activations)
            received.append(activations)
            counts.append(number + sum(counts[-1:]))
        elif outputs and not isinstance(layer, nn.Flatten | nn.Linear):
            received[-1] = activations
    gradients = torch.autograd.grad(F.cross_entropy(activations, labels, reduction="sum"), outputs)

    rows = []
    for count, gradient, activations in zip(counts, gradients, received):
        activations = activations.detach()
        row = {
            "convolution": count,
            "gradient": gradient.square().mean().sqrt().item(),
            "mean_square": activations.square().mean().item(),
            "image_variance": activations.var(0, correction=0).mean().item(),
            "active": (activations > 0).double().mean().item(),
            "live": (activations > 0).transpose(0, 1).flatten(1).any(1).double().mean().item(),
        }
        rows.append(row)
    return rows


def predicted_gradient(network: nn.Sequential) -> np.ndarray:
    """The gradient at each convolution's output, relative to that at the last one, in theory (question 2.3).

    For new networks of convolutions with PyTorch's default initialization, ReLU and max pooling. The gradient of an
    input is a sum over outputs · k² weights of variance 1/(3 · inputs · k²), so its mean square is multiplied by
    outputs/(3 · inputs). ReLU passes half of it, and pooling passes it to one of s² positions. Returns root mean
    squares in forward order.
    """
    factors: list[float] = []  # on the mean square, from the next convolution's output back to this one's
    for layer in network:
        if isinstance(layer, nn.Conv2d):
            if factors:
                factors[-1] *= layer.out_channels / (3 * layer.in_channels)
            factors.append(1.0)
        elif isinstance(layer, nn.ReLU):
            factors[-1] /= 2
        elif isinstance(layer, nn.MaxPool2d):
            factors[-1] /= layer.kernel_size**2
    factors[-1] = 1.0
    return np.sqrt(np.cumprod(factors[::-1])[::-1])


def measured_on(cifar: Cifar, prepare: Callable[..., torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    """The first `IMAGES` training images, unaugmented and in float64, and their labels."""
    return prepare(cifar.train_images[:IMAGES], cifar.statistics).double(), cifar.train_labels[:IMAGES]


def measure_new_networks(
    makers: dict[str, Callable[[], nn.Sequential]], prepare: Callable[..., torch.Tensor], cifar: Cifar
) -> list[dict[str, float]]:
    """`signals` in `INITIALIZATIONS` new networks of each of `makers`, with columns network and seed first."""
    images, labels = measured_on(cifar, prepare)
    rows = []
    for name, make_network in makers.items():
        for seed in range(INITIALIZATIONS):
            torch.manual_seed(seed)
            for row in signals(make_network().double(), images, labels):
                rows.append({"network": name, "seed": seed, **row})
    return rows


def update_table(table: Path, makers: dict[str, Callable], prepare: Callable, arguments: argparse.Namespace) -> None:
    """Write `measure_new_networks` of `makers` if the table lacks one of them, or with `--retrain`."""

    def measure():
        return {"signals": measure_new_networks(makers, prepare, data.load(arguments.data_dir))}

    measure_once({"signals": table}, (), arguments.retrain, measure, [{"network": name} for name in makers])


def magnitudes_of(log: Path) -> np.ndarray:
    """G of each seed, convolution and iteration, `(seeds, convolutions, iterations)`."""
    seeds = read_log(log).values()
    return np.array([[values for name, values in columns.items() if name.startswith("G_")] for columns in seeds])


def start_and_end(log: Path) -> tuple[np.ndarray, np.ndarray]:
    """Each convolution's G at the first step and in the last epoch: medians over seeds, and over iterations."""
    magnitudes, epoch = magnitudes_of(log), epoch_of(log.parents[1])
    return np.median(magnitudes[..., 0], axis=0), np.median(magnitudes[..., -epoch:], axis=(0, 2))


def lowest_epoch(log: Path) -> np.ndarray:
    """For each convolution, the lowest of the epochs' medians of G (over seeds and iterations)."""
    magnitudes, epoch = magnitudes_of(log), epoch_of(log.parents[1])
    epochs = np.split(magnitudes, range(epoch, magnitudes.shape[-1], epoch), axis=-1)
    return np.min([np.median(each, axis=(0, 2)) for each in epochs], axis=0)


def highest(log: Path) -> np.ndarray:
    """For each convolution, the highest of the iterations' medians of G over seeds."""
    return np.median(magnitudes_of(log), axis=0).max(axis=1)


def geometric_mean(values: np.ndarray, axis: int) -> np.ndarray:
    """Mean of values that span orders of magnitude; 0 if any is 0."""
    with np.errstate(divide="ignore"):
        return np.exp(np.log(values).mean(axis))


def column(table: Path, network: str, name: str) -> np.ndarray:
    """A column of the table of signals for one network, `(initializations, depths)`."""
    seeds: dict[str, list[float]] = {}
    for row in read_rows(table):
        if row["network"] == network:
            seeds.setdefault(row["seed"], []).append(row[name])
    return np.array(list(seeds.values()))


def gradient_factor(table: Path, network: str, added: int) -> float:
    """The factor by which each of `added` layers after the first convolution scales the gradient in a new network."""
    convolution = column(table, network, "convolution")[0]
    gradient = geometric_mean(column(table, network, "gradient"), axis=0)
    return (gradient[convolution == 1] / gradient[convolution == 1 + added]).item() ** (1 / added)


def difference_factor(table: Path, network: str, added: int) -> float:
    """The factor by which each of `added` layers scales differences between images (root mean square) when new."""
    variance = geometric_mean(column(table, network, "image_variance"), axis=0)
    return (variance[added] / variance[0]).item() ** (1 / (2 * added))


def active_factor(table: Path, network: str, layers: slice) -> float:
    """The factor per layer on a root mean square in theory, if ReLU passes the measured share instead of one half."""
    active = geometric_mean(column(table, network, "active"), axis=0)[layers]
    return geometric_mean(active / 3, axis=0).item() ** 0.5


def softmax_input(table: Path, network: str) -> float:
    """The root mean square of the last layer's input in new networks."""
    return geometric_mean(column(table, network, "mean_square")[:, -1], axis=0).item() ** 0.5


def last_nonzero(log: Path, layer: int = 0) -> list[int]:
    """The last iteration at which G of a convolution is not exactly 0, for each seed; 0 if there is none."""
    return [int(np.max(np.flatnonzero(seed) + 1, initial=0)) for seed in magnitudes_of(log)[:, layer]]


def peak(log: Path) -> list[dict]:
    """The largest G of the first convolution, and its iteration, for each seed."""
    return [{"value": seed.max(), "iteration": int(seed.argmax()) + 1} for seed in magnitudes_of(log)[:, 0]]


def course_of(out: Path, question: str, name: str) -> list[dict]:
    """The rows of the question's table "course" for the experiment of this name."""
    return [row for row in read_rows(log_path(out, question, "course")) if row["name"] == name]


def kept_scale(out: Path, question: str, name: str, added: int) -> dict[str, list[float]]:
    """The factor on the output's root mean square from the first convolution to the last of `added` ones.

    Returns `{iterations: [value by seed]}`; NaN where the signal is 0 after the first convolution.
    """

    def factor(layers: dict[int, dict]) -> float:
        return (layers[1 + added]["mean_square"] / (layers[1]["mean_square"] or np.nan)) ** 0.5

    return over_training(course_of(out, question, name), factor)


def kept_gradient(out: Path, question: str, name: str, added: int) -> dict[str, list[float]]:
    """The factor on the gradient's scale from the last of `added` convolutions back to the first convolution.

    Returns `{iterations: [value by seed]}`; NaN where no gradient reaches the last of them.
    """

    def factor(layers: dict[int, dict]) -> float:
        return layers[1]["gradient"] / (layers[1 + added]["gradient"] or np.nan)

    return over_training(course_of(out, question, name), factor)


def image_share(out: Path, question: str, name: str, added: int) -> dict[str, list[float]]:
    """The share of the mean square after the last of `added` convolutions that differs from image to image.

    Returns `{iterations: [value by seed]}`; 0 where there is no signal.
    """

    def share(layers: dict[int, dict]) -> float:
        return layers[1 + added]["image_variance"] / (layers[1 + added]["mean_square"] or 1.0)

    return over_training(course_of(out, question, name), share)


def over_training(course: list[dict], measure: Callable[[dict[int, dict]], Any]) -> dict[str, list]:
    """`measure` of the rows by convolution, for each seed, by number of iterations."""
    layers: dict[tuple[int, int], dict[int, dict]] = {}
    for row in course:
        layers.setdefault((row["iteration"], row["seed"]), {})[row["convolution"]] = row
    found: dict[str, list] = {}
    for (iteration, _), rows in layers.items():
        found.setdefault(str(iteration), []).append(measure(rows))
    return found


def dead_from(out: Path, question: str, name: str) -> list[dict]:
    """For each seed, the first layer without live channels at the end, and the iteration from which it had none."""
    live: dict[tuple[int, int], list[tuple[int, float]]] = {}
    for row in course_of(out, question, name):
        live.setdefault((row["seed"], row["convolution"]), []).append((row["iteration"], row["live"]))
    found: dict[int, dict] = {}
    for (seed, convolution), shares in sorted(live.items()):
        dead = list(itertools.takewhile(lambda share: share[1] == 0, reversed(shares)))
        if dead and seed not in found:
            found[seed] = {"seed": seed, "iteration": dead[-1][0], "convolution": convolution}
    return list(found.values())


def dead_and_zero(out: Path, question: str, name: str) -> dict[str, int]:
    """How often a layer without live channels and a gradient of exactly 0 at the first convolution coincide.

    Counts over seeds and watched iterations: all (`watched`), `dead`, `zero`, and `both`. `revived` is the number of
    seeds for which some layer is dead at a watched iteration and none at the next.
    """

    def state(layers: dict[int, dict]) -> tuple[bool, bool]:
        return any(row["live"] == 0 for row in layers.values()), layers[1]["gradient"] == 0

    by_iteration = over_training(course_of(out, question, name), state).values()
    every = [of_seed for of_seeds in by_iteration for of_seed in of_seeds]
    pairs = [itertools.pairwise(dead for dead, _ in of_seed) for of_seed in zip(*by_iteration)]
    revived = [any(dead and not later for dead, later in each) for each in pairs]
    return {
        "watched": len(every),
        "dead": sum(dead for dead, _ in every),
        "zero": sum(zero for _, zero in every),
        "both": sum(dead and zero for dead, zero in every),
        "revived": sum(revived),
    }


def least_live(out: Path, question: str, name: str) -> list[dict]:
    """For each trained network of this name, the layer with the smallest share of live channels."""
    rows = course_of(out, question, name)
    last = max((row["iteration"] for row in rows), default=0)
    shares = [(row["seed"], row["live"], row["convolution"]) for row in rows if row["iteration"] == last]
    least = [min(share for share in shares if share[0] == seed) for seed in sorted({seed for seed, _, _ in shares})]
    return [{"seed": seed, "live": live, "convolution": convolution} for seed, live, convolution in least]
