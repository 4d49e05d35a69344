"""The cures tried in 2.4, which keep all 27 convolutions and add no BatchNorm, and one control.

Each is a function without arguments that returns a new network. To add a cure, add a function here and a line to
`CURES` in part2/solution.py.
"""

import torch
from torch import nn
from torch.nn import functional as F

from common.gradients import convolutions
from part2.networks import ADDED, deep_network, numbered


def he_initialized() -> nn.Sequential:
    """Cure i: zero biases, and weights of variance 2/fan_in to offset ReLU's factor of 1/2 (He et al. 2015)."""
    added = []
    for _ in range(ADDED):
        added += [nn.Conv2d(16, 16, kernel_size=5, padding=2), nn.ReLU()]
    return initialize_he(deep_network(added))


def initialize_he(network: nn.Module) -> nn.Module:
    for layer in convolutions(network):
        nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
        nn.init.zeros_(layer.bias)
    return network


def identity_initialized() -> nn.Sequential:
    """Cure ii: He initialization, but added convolutions start as the identity (Xiao et al. 2018).

    The kernel is 1 at its center where output and input channel are the same, else 0. ReLU keeps the
    values, because they come from a ReLU and are not negative.
    """
    network = he_initialized()
    for layer in convolutions(network)[1 : 1 + ADDED]:
        nn.init.dirac_(layer.weight)
    return network


class Block(nn.Sequential):
    """x + f(x), where f applies the given layers in order (He et al. 2015). In the network, a ReLU follows."""

    def forward(self, activations: torch.Tensor) -> torch.Tensor:
        return activations + super().forward(activations)


def residual() -> nn.Sequential:
    """Cure iii: cure i with residual blocks, whose second convolution starts at 0 (Zhang et al. 2019)."""
    added = []
    for _ in range(ADDED // 2):
        first, second = (nn.Conv2d(16, 16, kernel_size=5, padding=2) for _ in range(2))
        added += [Block(first, nn.ReLU(), second), nn.ReLU()]
    network = initialize_he(deep_network(added))
    for block in network:
        if isinstance(block, Block):
            nn.init.zeros_(block[-1].weight)
    return network


class ScaledConv2d(nn.Conv2d):
    """A convolution with scaled weight standardization (Brock et al. 2021, https://arxiv.org/abs/2102.06171).

    It convolves with weights of mean 0 and variance (scale + gain)²/fan_in in each output channel, where
    fan_in is the number of weights of a channel. Only weights are normalized, not activations. With a scale of
    √(2/(1 - 1/π)), ReLU's output has the variance of the layer's input. Each channel adds a learned
    gain to its scale. Weight decay of the gain pulls the sum back to its initial value.
    """

    RELU = (2 / (1 - 1 / torch.pi)) ** 0.5

    def __init__(self, inputs: int, outputs: int, kernel_size: int, padding: int, scale: float = RELU):
        super().__init__(inputs, outputs, kernel_size, padding=padding)
        nn.init.kaiming_normal_(self.weight, nonlinearity="linear")
        nn.init.zeros_(self.bias)
        self.scale = scale
        self.gain = nn.Parameter(torch.zeros(outputs, 1, 1, 1))

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        variance, mean = torch.var_mean(self.weight, dim=(1, 2, 3), keepdim=True, correction=0)
        scale = (self.scale + self.gain) * torch.rsqrt(variance * self.weight[0].numel() + 1e-8)
        return F.conv2d(inputs, (self.weight - mean) * scale, self.bias, self.stride, self.padding)

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, scale={self.scale:.4f}"


def scaled() -> nn.Sequential:
    """Cure iv: scaled weight standardization in all convolutions, and two kinds of residual blocks.

    One kind has two added convolutions; the second starts at zero, so that the block starts as the identity.
    The other has one original convolution (the third, fifth or seventh), at half the scale.
    """
    added = []
    for _ in range(ADDED // 2):
        first = ScaledConv2d(16, 16, kernel_size=5, padding=2)
        second = ScaledConv2d(16, 16, kernel_size=5, padding=2, scale=0.0)
        added += [Block(first, nn.ReLU(), second), nn.ReLU()]
    half = ScaledConv2d.RELU / 2
    return numbered(
        ScaledConv2d(3, 16, kernel_size=3, padding=1),
        nn.ReLU(),
        *added,
        ScaledConv2d(16, 64, kernel_size=3, padding=1),
        nn.MaxPool2d(2),
        nn.ReLU(),
        Block(ScaledConv2d(64, 64, kernel_size=3, padding=1, scale=half)),
        nn.ReLU(),
        ScaledConv2d(64, 256, kernel_size=3, padding=1),
        nn.MaxPool2d(2),
        nn.ReLU(),
        Block(ScaledConv2d(256, 256, kernel_size=3, padding=1, scale=half)),
        nn.ReLU(),
        ScaledConv2d(256, 256, kernel_size=3, padding=1),
        nn.MaxPool2d(2),
        nn.ReLU(),
        Block(ScaledConv2d(256, 256, kernel_size=3, padding=1, scale=half)),
        nn.ReLU(),
        pool=nn.MaxPool2d(4),
        flatten=nn.Flatten(),
        softmax=nn.Linear(256, 10),
    )


def scaled_chain() -> nn.Sequential:
    """A control, cure iv without its skips: a plain chain with scaled weight standardization."""
    added = []
    for _ in range(ADDED):
        added += [ScaledConv2d(16, 16, kernel_size=5, padding=2), nn.ReLU()]
    return numbered(
        ScaledConv2d(3, 16, kernel_size=3, padding=1),
        nn.ReLU(),
        *added,
        ScaledConv2d(16, 64, kernel_size=3, padding=1),
        nn.MaxPool2d(2),
        nn.ReLU(),
        ScaledConv2d(64, 64, kernel_size=3, padding=1),
        nn.ReLU(),
        ScaledConv2d(64, 256, kernel_size=3, padding=1),
        nn.MaxPool2d(2),
        nn.ReLU(),
        ScaledConv2d(256, 256, kernel_size=3, padding=1),
        nn.ReLU(),
        ScaledConv2d(256, 256, kernel_size=3, padding=1),
        nn.MaxPool2d(2),
        nn.ReLU(),
        ScaledConv2d(256, 256, kernel_size=3, padding=1),
        nn.ReLU(),
        pool=nn.MaxPool2d(4),
        flatten=nn.Flatten(),
        softmax=nn.Linear(256, 10),
    )


class SlowConv2d(nn.Conv2d):
    """A convolution that divides its weights by SLOWNESS, and thus also the effect of a step of Muon."""

    SLOWNESS = 10

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return self._conv_forward(inputs, self.weight / self.SLOWNESS, self.bias)


def slowed_identity() -> nn.Sequential:
    """Cure v: a plain chain that starts as cure ii, but whose added layers change slowly."""
    added = []
    for _ in range(ADDED):
        added += [SlowConv2d(16, 16, kernel_size=5, padding=2), nn.ReLU()]
    network = initialize_he(deep_network(added))
    for layer in convolutions(network)[1 : 1 + ADDED]:
        nn.init.dirac_(layer.weight)
        layer.weight.data *= layer.SLOWNESS
    return network
