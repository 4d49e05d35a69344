"""The network designed for question 2.1, the same with 20 more convolutions (2.3), and the cures (2.4).

All take images `(N, 3, 32, 32)` and return logits `(N, 10)`; the softmax is part of the loss.
"""

import math
from collections.abc import Callable, Sequence

import torch
from torch import nn
from torch.nn import functional as F

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
) -> nn.Sequential:
    """The plan of all networks of Part 2: a convolution, then `added`, then three groups of two convolutions.

    Pooling follows the first convolution of each group and ends the network; `norm` follows every
    convolution, which then needs no bias. A layer's name has the number of the last convolution so far.
    """
    network = nn.Sequential()

    def append(kind: str, layer: nn.Module) -> None:
        network.add_module(f"{kind}{len(convolutions(network)) + len(convolutions(layer))}", layer)

    def append_convolution(inputs: int, outputs: int, pool: bool) -> None:
        append("conv", convolution(inputs, outputs, kernel_size=3, padding=1, bias=norm is None))
        if pool:
            append("pool", pooling(2))  # before the other two, which then have a quarter of the work
        if norm:
            append("norm", norm(outputs))
        append("relu", nn.ReLU())

    append_convolution(3, width, pool=False)
    for layer in added:
        append({nn.ReLU: "relu", Residual: "residual"}.get(type(layer), "conv"), layer)
    inputs = width
    for outputs in groups:
        append_convolution(inputs, outputs, pool=True)
        append_convolution(outputs, outputs, pool=False)
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


def vanishing_network(added: int = ADDED) -> nn.Sequential:
    """Question 2.3: 2.1's network without BatchNorm, with `added` convolutions 5×5 behind its first.

    Weights and biases are PyTorch's default: uniform in ±1/√(inputs · kernel size).
    """
    return assemble([layer for _ in range(added) for layer in (added_convolution(), nn.ReLU())])


def added_convolution(convolution: Callable[..., nn.Conv2d] = nn.Conv2d) -> nn.Conv2d:
    return convolution(WIDTH, WIDTH, kernel_size=5, padding=2)


def he_initialized() -> nn.Sequential:
    """Cure 1: weights of variance 2/fan_in, to make up for the half that ReLU takes, biases 0 (He et al. 2015)."""
    return initialize_he(vanishing_network())


def initialize_he(network: nn.Sequential) -> nn.Sequential:
    for layer in convolutions(network):
        nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
        nn.init.zeros_(layer.bias)
    return network


def identity_initialized() -> nn.Sequential:
    """Cure 2: He initialisation, and added convolutions that pass their input on unchanged (Xiao et al. 2018).

    The kernel is 1 where an output channel meets its own input channel in the middle, else 0. ReLU
    keeps what comes, for it comes from a ReLU and is not negative.
    """
    network = he_initialized()
    for layer in convolutions(network)[1 : 1 + ADDED]:
        nn.init.dirac_(layer.weight)
    return network


class Residual(nn.Module):
    """ReLU(x + convolution(ReLU(convolution(x)))) with two of the added convolutions (He et al. 2015)."""

    def __init__(self, convolution: Callable[..., nn.Conv2d] = nn.Conv2d):
        super().__init__()
        self.conv1 = added_convolution(convolution)
        self.conv2 = added_convolution(convolution)

    def forward(self, activations: torch.Tensor) -> torch.Tensor:
        return F.relu(activations + self.conv2(F.relu(self.conv1(activations))))


def residual() -> nn.Sequential:
    """Cure 3: pairs of added convolutions as residual blocks whose second one starts at zero (Zhang et al. 2019)."""
    network = initialize_he(assemble([Residual() for _ in range(ADDED // 2)]))
    for layer in network:
        if isinstance(layer, Residual):
            nn.init.zeros_(layer.conv2.weight)
    return network


class ScaledConv2d(nn.Conv2d):
    """A convolution with scaled weight standardisation (Brock et al. 2021, https://arxiv.org/abs/2102.06171).

    It convolves with weights of mean 0 and variance `scale`²/fan_in in each output channel, where fan_in is
    the number of weights of a channel: weights are normalised, activations never. With a scale of
    √(2/(1 - 1/π)), the output of a ReLU leaves with the variance that it had before the ReLU. What a
    channel learns to add to its scale is subject to weight decay, which thus draws it back to its start.
    """

    def __init__(self, *arguments, **settings):
        super().__init__(*arguments, **settings)
        nn.init.kaiming_normal_(self.weight, nonlinearity="linear")
        nn.init.zeros_(self.bias)
        self.scale = (2 / (1 - 1 / math.pi)) ** 0.5
        self.gain = nn.Parameter(torch.zeros(self.out_channels, 1, 1, 1))

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        variance, mean = torch.var_mean(self.weight, dim=(1, 2, 3), keepdim=True, correction=0)
        scale = (self.scale + self.gain) * torch.rsqrt(variance * self.weight[0].numel() + 1e-8)
        return F.conv2d(inputs, (self.weight - mean) * scale, self.bias, self.stride, self.padding)


def scaled() -> nn.Sequential:
    """Cure 4: all convolutions with scaled weight standardisation, the added ones in blocks that start at zero."""
    network = assemble([Residual(ScaledConv2d) for _ in range(ADDED // 2)], convolution=ScaledConv2d)
    for layer in network:
        if isinstance(layer, Residual):
            layer.conv2.scale = 0.0
    return network
