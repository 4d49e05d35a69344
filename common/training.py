"""The training procedure of the whole assignment: train(), its optimizers, and resuming a stopped run."""

import hashlib
import math
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

import torch
from torch import nn
from torch.nn import functional as F
from tqdm import tqdm

from common import gradients, preprocess
from common.data import Cifar, DataError
from common.gradients import convolutions, magnitudes
from common.networks import laid_out
from common.records import RecordError, code_of, hash_of_tensors, load_checkpoint, processor, save_checkpoint
from common.settings import NEWTON_SCHULZ_STEPS, Settings

torch.backends.cudnn.allow_tf32 = False  # full fp32 on NVIDIA GPUs, too


def train(
    make_network: Callable[[], nn.Module],
    prepare: Callable[..., torch.Tensor],
    cifar: Cifar,
    settings: Settings,
    seed: int,
    precision: str = "fp32",
    checkpoint: Path | None = None,
    description: str | None = None,
    log_gradients: bool = False,
    snapshots: Mapping[int, Path] = MappingProxyType({}),
) -> tuple[nn.Module, dict[str, list[float]], float]:
    """Train a new network; return it, its log (a list over iterations for each column) and the seconds it took.

    The log's columns are loss, train_accuracy, learning_rate (Muon's, or that of the only optimizer) and G.

    Args:
        make_network: returns a new network, which maps the output of `prepare` to logits.
        prepare: `prepare(images, statistics, generator)` turns a batch of images into the network's input.
        cifar: provides the training images, on the device to train on.
        seed: of the initial weights, the order of images and the augmentation. The same seed gives the same
            bytes on the same processor model, with the same number of threads and in the same precision; otherwise
            sums are rounded differently.
        precision: "fp32" or "bf16" (autocast: weights, statistics and loss stay in fp32).
        checkpoint: file that stores the state after every epoch. The same run with the same code resumes
            from it, and ends exactly as if it had never been stopped.
        description: of the progress bar; None shows no bar.
        log_gradients: whether the log has columns `G_conv1` … `G_convN`: question 2.2's magnitude of the
            gradients before each step, one column per convolution in forward order.
        snapshots: `{iteration: file}`, to save the weights after these iterations.

    An epoch is `N // batch_size` batches, drawn without replacement. The logged accuracy is measured on
    each augmented batch before its step, in training mode.

    Raises `DataError` if the images do not fill one batch, and `RecordError` if the checkpoint is damaged.
    """
    torch.backends.cudnn.deterministic = True  # same seed, same result on a GPU too
    images, labels, device = cifar.train_images, cifar.train_labels, cifar.train_images.device
    epoch = len(images) // settings.batch_size
    if epoch == 0:
        raise DataError(f"{len(images)} training images do not fill a batch of {settings.batch_size}")
    torch.manual_seed(seed)
    network = make_network().to(device).train()
    optimizers = make_optimizers(network, settings)
    generator = torch.Generator(device).manual_seed(seed)
    measured = convolutions(network) if log_gradients else []
    # The log stays on the device: reading a value would synchronize.
    log = torch.zeros(2 + len(measured), settings.iterations, device=device)
    state = State(network, optimizers, generator, log)
    if checkpoint:
        run = {**asdict(settings), "seed": seed, "precision": precision, "images": len(images), "device": device.type}
        run |= {"log_gradients": log_gradients, "torch": str(torch.__version__), "threads": torch.get_num_threads()}
        run |= {"processor": processor(device), "data": hash_of_tensors({"images": images, "labels": labels})}
        run |= {"snapshots": sorted(snapshots), **code_and_weights(network, prepare)}
        start, seconds = resume(checkpoint, run, state)
    else:
        start, seconds = 0, 0.0
    began = time.perf_counter() - seconds

    hidden = None if description else True  # None: hide if not a TTY
    with tqdm(desc=description, total=settings.iterations, initial=start, leave=False, disable=hidden) as bar:
        for iteration in range(start, settings.iterations):
            position = iteration % epoch
            if position == 0:
                order = torch.randperm(len(images), generator=generator, device=device)
            batch = order[position * settings.batch_size :][: settings.batch_size]
            inputs = laid_out(prepare(images[batch], cifar.statistics, generator))

            with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16"):
                logits = network(inputs)
            loss = F.cross_entropy(logits.float(), labels[batch], label_smoothing=settings.label_smoothing)
            network.zero_grad()
            loss.backward()
            if measured:  # before clipping, and before a step, which may change gradients in place
                log[2:, iteration] = magnitudes(measured)
            if settings.clip_norm < math.inf:
                nn.utils.clip_grad_norm_(optimizers[-1].param_groups[0]["params"], settings.clip_norm)  # not Muon's
            for optimizer in optimizers:
                for group in optimizer.param_groups:
                    group["lr"] = group["initial_lr"] * schedule(iteration, settings)
                optimizer.step()

            if iteration + 1 in snapshots:
                save_checkpoint(snapshots[iteration + 1], network.state_dict())
            log[0, iteration] = loss.detach()
            log[1, iteration] = (logits.argmax(1) == labels[batch]).float().mean()
            bar.update()
            if position == epoch - 1 or iteration == settings.iterations - 1:
                loss_mean, accuracy_mean = log[:2, iteration - position : iteration + 1].mean(1).tolist()
                ending = f", G {log[2, iteration]:.1e} first, {log[-1, iteration]:.1e} last" if measured else ""
                bar.set_postfix_str(f"loss {loss_mean:.3f}, training accuracy {accuracy_mean:.1%}{ending}")
                seconds = time.perf_counter() - began
                if checkpoint:
                    save(checkpoint, run, state, iteration + 1, seconds)

    rates = [settings.learning_rate * schedule(iteration, settings) for iteration in range(settings.iterations)]
    columns = {"loss": log[0].tolist(), "train_accuracy": log[1].tolist(), "learning_rate": rates}
    columns |= {f"G_conv{number}": values.tolist() for number, values in enumerate(log[2:], start=1)}
    return network, columns, seconds


def schedule(iteration: int, settings: Settings) -> float:
    """The factor on every learning rate: 1 at iteration 0, falling linearly to 0 after the last."""
    return 1 - iteration / settings.iterations


def make_optimizers(network: nn.Module, settings: Settings) -> list[torch.optim.Optimizer]:
    """Create the optimizers of the settings; each parameter is in exactly one of them. Muon comes first.

    Raises `ValueError` for an unknown name.
    """
    parameters = list(network.parameters())
    if settings.optimizer == "adamw":
        optimizers = [torch.optim.AdamW(parameters, settings.learning_rate, weight_decay=settings.weight_decay)]
    elif settings.optimizer == "sgd":
        optimizers = [sgd(parameters, settings.learning_rate, settings.momentum, settings.weight_decay)]
    elif settings.optimizer == "muon":
        weights = [layer.weight for layer in convolutions(network)]
        others = [parameter for parameter in parameters if not any(parameter is weight for weight in weights)]
        rate, momentum, decay = settings.learning_rate, settings.momentum, settings.weight_decay
        muon = ConvolutionMuon(
            weights,
            settings.keep_norm,
            lr=rate,
            momentum=momentum,
            weight_decay=decay,
            eps=settings.epsilon,
            ns_steps=NEWTON_SCHULZ_STEPS,
        )
        optimizers = [muon, sgd(others, settings.plain_learning_rate, 0.9, settings.plain_weight_decay)]
    else:
        raise ValueError(f"no optimizer is called {settings.optimizer!r}")
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["initial_lr"] = group["lr"]
    return optimizers


def sgd(parameters: list[nn.Parameter], learning_rate: float, momentum: float, weight_decay: float) -> torch.optim.SGD:
    return torch.optim.SGD(parameters, learning_rate, momentum, weight_decay=weight_decay, nesterov=True)


class ConvolutionMuon(torch.optim.Muon):
    """`torch.optim.Muon` for convolutions (Jordan et al. 2024, https://kellerjordan.github.io/posts/muon/).

    Muon writes SGD's step as a matrix (output channels × the rest), and replaces it by approximately the
    nearest matrix whose singular values are 1. This is meant to speed up directions in which gradients
    are small. PyTorch computes it
    in bf16, whatever the network's precision, and only for matrices: each weight
    `(outputs, inputs, height, width)` is passed as a view.

    With `keep_norm`, the weight is rescaled to its initial norm after each step, so that steps only
    change its direction, by an angle that the learning rate sets. A weight that starts at zero is not rescaled.
    """

    def __init__(self, weights: list[nn.Parameter], keep_norm: bool = False, **settings):
        self.weights = weights
        self.norms = [weight.norm().item() for weight in weights] if keep_norm else []
        super().__init__([weight.detach().view(len(weight), -1) for weight in weights], **settings)

    def step(self) -> None:
        for weight, matrix in zip(self.weights, self.param_groups[0]["params"]):
            matrix.grad = weight.grad.view_as(matrix)
        super().step()
        for matrix, norm in zip(self.param_groups[0]["params"], self.norms):
            if norm:
                matrix.mul_(norm / matrix.norm())


class State(NamedTuple):
    """All that changes from one iteration to the next."""

    network: nn.Module
    optimizers: list[torch.optim.Optimizer]
    generator: torch.Generator
    log: torch.Tensor


def save(checkpoint: Path, run: dict, state: State, iteration: int, seconds: float) -> None:
    """Write all that the next iteration depends on."""
    content = {
        "run": run,
        "network": state.network.state_dict(),
        "optimizers": [optimizer.state_dict() for optimizer in state.optimizers],
        "generator": state.generator.get_state(),
        "log": state.log,
        "iteration": iteration,
        "seconds": seconds,
    }
    save_checkpoint(checkpoint, content)


def resume(checkpoint: Path, run: dict, state: State) -> tuple[int, float]:
    """Restore what `save` wrote if the run is the same; return the next iteration and the seconds spent so far.

    Raises `RecordError` for a damaged file; the state may then be partly restored.
    """
    content = load_checkpoint(checkpoint)
    if content is None:
        return 0, 0.0
    try:
        if content["run"] != run:
            print(f"{checkpoint} differs in code, data, settings or machine: starting again")
            return 0, 0.0
        epoch = run["images"] // run["batch_size"]
        if content["iteration"] not in [*range(epoch, run["iterations"], epoch), run["iterations"]]:
            raise ValueError
        state.network.load_state_dict(content["network"])
        for optimizer, optimizer_state in zip(state.optimizers, content["optimizers"], strict=True):
            optimizer.load_state_dict(optimizer_state)
        state.generator.set_state(content["generator"])
        state.log.copy_(content["log"])
        return content["iteration"], float(content["seconds"])
    except (LookupError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        raise RecordError(f"{checkpoint} is damaged: remove it, and it will be recreated") from error


def code_and_weights(network: nn.Module, prepare: Callable[..., torch.Tensor]) -> dict[str, str]:
    """The code and weights that determine a run's result; a checkpoint is resumed only if they are equal.

    The code is that of the training loop, the pre-processing and our own layers, without comments and
    docstrings; it excludes the scripts' output and figures. `network` is new: its weights represent the
    function that made it.
    """
    kinds = {type(layer) for layer in network.modules() if not type(layer).__module__.startswith("torch.")}
    layers = sorted(kinds, key=lambda kind: kind.__qualname__)
    code = [code_of(part) for part in (sys.modules[__name__], preprocess, gradients, prepare, *layers)]
    return {
        "network": repr(network),
        "weights": hash_of_tensors(network.state_dict()),
        "code": hashlib.sha256("".join(code).encode()).hexdigest(),
    }
