"""THE training procedure of the whole assignment: one set of settings, train(), evaluate()."""

import ctypes
import math
import platform
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional as F
from tqdm import tqdm

from common.gradients import convolutions, magnitudes
from common.networks import evaluation_mode
from common.records import fingerprint, load_checkpoint, save_checkpoint

torch.backends.cudnn.allow_tf32 = False  # fp32 is fp32 on NVIDIA's GPUs too


@dataclass(frozen=True)
class Settings:
    """What a run is made of. The budget is the assignment's; part1/procedure.py chose the rest.

    Attributes:
        optimizer: of the convolutions' weights, "muon", "sgd" or "adamw".
        learning_rate, momentum, weight_decay: that optimizer's (AdamW has its own two momenta).
        plain_learning_rate, plain_weight_decay: of SGD with momentum 0.9 for all other parameters
            (BatchNorm, fully connected layers, biases) where the optimizer is Muon.
        clip_norm: to which the gradients are shortened, all together, but for Muon's: its steps have a
            length of their own. Without BatchNorm, the first steps need it (question 2.4).
    """

    iterations: int = 2000
    batch_size: int = 100
    optimizer: str = "muon"
    learning_rate: float = 0.05
    momentum: float = 0.6
    weight_decay: float = 0.1
    plain_learning_rate: float = 0.05
    plain_weight_decay: float = 0.02
    clip_norm: float = math.inf


# Plain SGD as part1/procedure.py found it best. Muon scales every step to about the same size, which might hide
# what vanished gradients do; SGD's steps are as small as they are.
PLAIN_SGD = Settings(optimizer="sgd", learning_rate=0.1, momentum=0.9, weight_decay=1e-3)


class ConvolutionMuon(torch.optim.Muon):
    """`torch.optim.Muon` for convolutions (Jordan et al. 2024, https://kellerjordan.github.io/posts/muon/).

    A convolution's gradient, as a matrix (output channels × all else), is dominated by few directions,
    and SGD mostly repeats these. Muon replaces the step by about the nearest matrix with singular
    values of 1, so that weak directions are learned nearly as fast as strong ones. torch's computes it
    in bf16, whatever the network's precision, and takes matrices only: each weight
    `(outputs, inputs, height, width)` goes in as a view of the same memory.
    """

    def __init__(self, weights: list[nn.Parameter], **settings):
        self.weights = weights
        super().__init__([weight.detach().view(len(weight), -1) for weight in weights], **settings)

    def step(self) -> None:
        for weight, matrix in zip(self.weights, self.param_groups[0]["params"]):
            matrix.grad = weight.grad.view_as(matrix)
        super().step()


def make_optimizers(network: nn.Module, settings: Settings) -> list[torch.optim.Optimizer]:
    """The one place that knows optimizers by name. All parts train with what it makes of `Settings`."""
    parameters = list(network.parameters())
    if settings.optimizer == "adamw":
        return [torch.optim.AdamW(parameters, settings.learning_rate, weight_decay=settings.weight_decay)]
    if settings.optimizer == "sgd":
        return [sgd(parameters, settings.learning_rate, settings.momentum, settings.weight_decay)]
    if settings.optimizer != "muon":
        raise ValueError(f"no optimizer is called {settings.optimizer!r}")
    weights = [layer.weight for layer in network.modules() if isinstance(layer, nn.Conv2d)]
    others = [parameter for parameter in parameters if not any(parameter is weight for weight in weights)]
    muon = ConvolutionMuon(
        weights,
        lr=settings.learning_rate,
        momentum=settings.momentum,
        weight_decay=settings.weight_decay,
        ns_steps=3,  # of the usual 5: cheaper, but far weaker directions stay somewhat weaker
    )
    return [muon, sgd(others, settings.plain_learning_rate, 0.9, settings.plain_weight_decay)]


def sgd(parameters: list[nn.Parameter], learning_rate: float, momentum: float, weight_decay: float) -> torch.optim.SGD:
    return torch.optim.SGD(parameters, learning_rate, momentum, weight_decay=weight_decay, nesterov=True)


def schedule(iteration: int, settings: Settings) -> float:
    """The factor on every learning rate: 1 at iteration 0, falling linearly to 0 after the last."""
    return 1 - iteration / settings.iterations


def train(
    make_network: Callable[[], nn.Module],
    images: torch.Tensor,
    labels: torch.Tensor,
    prepare: Callable[..., torch.Tensor],
    settings: Settings,
    seed: int,
    precision: str = "fp32",
    checkpoint: Path | None = None,
    description: str | None = None,
    log_gradients: bool = False,
) -> tuple[nn.Module, dict[str, list[float]], float]:
    """Train a new network; return it, its log (a list over iterations for each column) and the seconds it took.

    Args:
        images, labels: uint8 `(N, 3, H, W)` and int64 `(N,)`, on the device that trains.
        prepare: `prepare(images, generator=generator)` turns a batch of images into the network's input.
        seed: of the weights at the start, the order of images and the augmentation.
        precision: "fp32" or "bf16" (autocast: weights, statistics and loss stay in fp32).
        checkpoint: where the state is kept after every epoch. A run that finds its own there goes on
            from it, under the same code, and ends exactly as if it had never been stopped.
        description: of the progress bar; None shows no bar.
        log_gradients: whether the log has columns `G_conv1` … `G_convN`: question 2.2's magnitude of the
            gradients that a step is about to use, a column for each convolution in forward order.

    An epoch is `N // batch_size` iterations, drawn without replacement. The logged accuracy is that of
    the batch before its step, in training mode, augmentation included.
    """
    reuse_freed_memory()
    torch.backends.cudnn.deterministic = True  # same seed, same result on a GPU too
    device, epoch = images.device, len(images) // settings.batch_size
    if epoch == 0:
        raise ValueError(f"{len(images)} images do not fill a batch of {settings.batch_size}")
    torch.manual_seed(seed)
    network = make_network().to(device).train()
    optimizers = make_optimizers(network, settings)
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["initial_lr"] = group["lr"]
    generator = torch.Generator(device).manual_seed(seed)
    measured = convolutions(network) if log_gradients else []
    # The log stays on the device: reading a value would wait for it.
    log = torch.zeros(2 + len(measured), settings.iterations, device=device)
    start, seconds = 0, 0.0

    run = {**asdict(settings), "seed": seed, "precision": precision, "images": len(images)}
    run["log_gradients"] = log_gradients
    run |= {"device": device.type, "torch": str(torch.__version__), "code": fingerprint()}
    state = load_checkpoint(checkpoint) if checkpoint else None
    if state and state.get("run") != run:
        print(f"{checkpoint} is of other code or settings: starting again")
    elif state:
        network.load_state_dict(state["network"])
        for optimizer, optimizer_state in zip(optimizers, state["optimizers"]):
            optimizer.load_state_dict(optimizer_state)
        generator.set_state(state["generator"])
        log.copy_(state["log"])
        start, seconds = state["iteration"], state["seconds"]
    began = time.perf_counter() - seconds

    with tqdm(
        total=settings.iterations,
        initial=start,
        desc=description,
        disable=None if description else True,  # None: no bar where nobody watches
        leave=False,
    ) as bar:
        for iteration in range(start, settings.iterations):
            position = iteration % epoch
            if position == 0:
                order = torch.randperm(len(images), generator=generator, device=device)
            batch = order[position * settings.batch_size :][: settings.batch_size]
            inputs = prepare(images[batch], generator=generator).contiguous(memory_format=torch.channels_last)
            targets = labels[batch]

            with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16"):
                logits = network(inputs)
            loss = F.cross_entropy(logits.float(), targets)
            network.zero_grad()
            loss.backward()
            if measured:  # before clipping, and before a step, which may change gradients in place
                log[2:, iteration] = magnitudes(measured)
            if settings.clip_norm < math.inf:
                nn.utils.clip_grad_norm_(optimizers[-1].param_groups[0]["params"], settings.clip_norm)
            for optimizer in optimizers:
                for group in optimizer.param_groups:
                    group["lr"] = group["initial_lr"] * schedule(iteration, settings)
                optimizer.step()

            log[0, iteration] = loss.detach()
            log[1, iteration] = (logits.argmax(1) == targets).float().mean()
            bar.update()
            if position == epoch - 1 or iteration == settings.iterations - 1:
                loss_mean, accuracy_mean = log[:2, iteration - position : iteration + 1].mean(1).tolist()
                bar.set_postfix_str(f"loss {loss_mean:.3f}, training accuracy {accuracy_mean:.1%}")
                seconds = time.perf_counter() - began
                if checkpoint:
                    save_checkpoint(
                        checkpoint,
                        {
                            "run": run,
                            "network": network.state_dict(),
                            "optimizers": [optimizer.state_dict() for optimizer in optimizers],
                            "generator": generator.get_state(),
                            "log": log,
                            "iteration": iteration + 1,
                            "seconds": seconds,
                        },
                    )
    rates = [settings.learning_rate * schedule(iteration, settings) for iteration in range(settings.iterations)]
    columns = {"loss": log[0].tolist(), "train_accuracy": log[1].tolist(), "learning_rate": rates}
    columns |= {f"G_conv{number}": values.tolist() for number, values in enumerate(log[2:], start=1)}
    return network, columns, seconds


@torch.no_grad()
def evaluate(
    network: nn.Module, images: torch.Tensor, labels: torch.Tensor, prepare: Callable[..., torch.Tensor]
) -> tuple[float, float]:
    """Accuracy (a fraction) and mean cross-entropy of `network` in evaluation mode, in fp32, one view an image."""
    with evaluation_mode(network):
        logits = torch.cat(
            [network(prepare(batch).contiguous(memory_format=torch.channels_last)) for batch in images.split(500)]
        )
    return (logits.argmax(1) == labels).sum().item() / len(labels), F.cross_entropy(logits, labels).item()


def reuse_freed_memory() -> None:
    """Let glibc keep what is freed instead of returning it to the system.

    A step frees and allocates the same large activations; without this each step has its pages zeroed
    anew. Saves 7 % of a step in bf16 and more in fp32 (CPU).
    """
    if platform.libc_ver()[0] == "glibc":
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(-3, 32 * 2**20)  # M_MMAP_THRESHOLD: at its largest
        mallopt(-1, 2**31 - 1)  # M_TRIM_THRESHOLD: never
