"""The network designed for question 2.1, and the same with 20 more convolutions (2.3).

All take images `(N, 3, 32, 32)` and return logits `(N, 10)`; the softmax is part of the loss.
"""

from collections.abc import Callable, Sequence

import torch
from torch import nn

from common.gradients import convolutions

WIDTH = 16  # channels of the first convolution, and so of those that are added behind it
GROUPS = (64, 256, 256)  # channels of the two convolutions of each group that follows
ADDED = 20  # question 2.3
GHOST = 25  # images that BatchNorm takes its statistics over


def assemble(
    added: Sequence[nn.Module] = (),
    norm: Callable[[int], nn.Module] | None = None,
    convolution: Callable[..., nn.Conv2d] = nn.Conv2d,
    width: int = WIDTH,
    groups: Sequence[int] = GROUPS,
    pooling: Callable[[int], nn.Module] = nn.MaxPool2d,
    around: Callable[[nn.Conv2d], nn.Module] | None = None,
) -> nn.Sequential:
    """The plan of all networks of Part 2: a convolution, then `added`, then three groups of two convolutions.

    Pooling follows the first convolution of each group and ends the network; `norm` follows every
    convolution, which then needs no bias; `around` may make the second convolution of a group part of
    something else. A layer's name has the number of the last convolution so far.
    """
    network = nn.Sequential()

    def append(kind: str, layer: nn.Module) -> None:
        network.add_module(f"{kind}{len(convolutions(network)) + len(convolutions(layer))}", layer)

    def append_convolution(inputs: int, outputs: int, pool: bool = False, wrap: Callable | None = None) -> None:
        layer = convolution(inputs, outputs, kernel_size=3, padding=1, bias=norm is None)
        append("conv", wrap(layer) if wrap else layer)
        if pool:
            append("pool", pooling(2))  # before the other two, which then have a quarter of the work
        if norm:
            append("norm", norm(outputs))
        append("relu", nn.ReLU())

    append_convolution(3, width)
    for layer in added:
        append("conv" if isinstance(layer, nn.Conv2d) else type(layer).__name__.lower(), layer)
    inputs = width
    for outputs in groups:
        append_convolution(inputs, outputs, pool=True)
        append_convolution(outputs, outputs, wrap=around)
        inputs = outputs
    network.add_module("pool", pooling(4))
    network.add_module("flatten", nn.Flatten())
    network.add_module("softmax", nn.Linear(inputs, 10))
    return network


class GhostBatchNorm2d(nn.BatchNorm2d):
    """BatchNorm whose statistics in training are those of every `GHOST` images by themselves (Hoffer et al. 2017).

    It is what BatchNorm does where several GPUs share a batch. Statistics of fewer images are noisier,
    and that noise keeps a network from learning 10,000 images by heart. In evaluation it is BatchNorm.
    """

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        normalize = super().forward
        return torch.cat([normalize(part) for part in inputs.split(GHOST)]) if self.training else normalize(inputs)


def designed_network() -> nn.Sequential:
    """Question 2.1: convolution, BatchNorm, ReLU, pooling and softmax only."""
    return assemble(norm=GhostBatchNorm2d)


def vanishing_network(added: int = ADDED, norm: Callable[[int], nn.Module] | None = None) -> nn.Sequential:
    """Question 2.3: 2.1's network without BatchNorm, with `added` convolutions 5×5 behind its first.

    Weights and biases are PyTorch's default: uniform in ±1/√(inputs · kernel size). With `norm` it is the
    control: BatchNorm is back, behind the added convolutions too.
    """
    normalized = (lambda: [norm(WIDTH)]) if norm else list
    layers = [layer for _ in range(added) for layer in (added_convolution(), *normalized(), nn.ReLU())]
    return assemble(layers, norm)


def added_convolution(convolution: Callable[..., nn.Conv2d] = nn.Conv2d) -> nn.Conv2d:
    return convolution(WIDTH, WIDTH, kernel_size=5, padding=2)
