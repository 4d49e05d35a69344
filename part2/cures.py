"""The cures of question 2.4: 2.3's network, all 27 convolutions and no BatchNorm, so that it learns.

Each is a function without arguments that returns a new network. Another cure is another function here, and a line
in `CURES` of part2/solution.py.
"""

import torch
from torch import nn
from torch.nn import functional as F

from common.gradients import convolutions
from part2.networks import ADDED, deep_network, numbered


def he_initialized() -> nn.Sequential:
    """Cure i: weights of variance 2/fan_in, to make up for the half that ReLU takes, biases 0 (He et al. 2015)."""
    added = []
    for _ in range(ADDED):
        added += [nn.Conv2d(16, 16, kernel_size=5, padding=2), nn.ReLU()]
    return initialize_he(deep_network(added))


def initialize_he(network: nn.Sequential) -> nn.Sequential:
    for layer in convolutions(network):
        nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
        nn.init.zeros_(layer.bias)
    return network


def identity_initialized() -> nn.Sequential:
    """Cure ii: He initialization, and added convolutions that pass their input on unchanged (Xiao et al. 2018).

    The kernel is 1 where an output channel meets its own input channel in the middle, else 0. ReLU
    keeps what comes, because it comes from a ReLU and is not negative.
    """
    network = he_initialized()
    for layer in convolutions(network)[1 : 1 + ADDED]:
        nn.init.dirac_(layer.weight)
    return network


class Block(nn.Sequential):
    """x + f(x), where f are the layers given, one after another (He et al. 2015). ReLU follows it in the network."""

    def forward(self, activations: torch.Tensor) -> torch.Tensor:
        return activations + super().forward(activations)


def residual() -> nn.Sequential:
    """Cure iii: pairs of added convolutions as residual blocks whose second one starts at zero (Zhang et al. 2019)."""
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
    fan_in is the number of weights of a channel: weights are normalized, activations never. With a scale of
    √(2/(1 - 1/π)), ReLU's output has the variance of the input. What a channel learns to add to its scale,
    its gain, is subject to weight decay, which thus draws the sum back to where it started.
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
    """Cure iv: all convolutions with scaled weight standardization; residual blocks around two kinds of them.

    Pairs of added convolutions, whose second one starts at zero, so that the block starts as the identity; and the
    second convolution of each of the three groups that follow, at half the scale.
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
    """Cure iv without its skips: a plain chain with scaled weight standardization."""
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
    """A convolution with weights/slowness: a step of Muon changes what it does by so many times less."""

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
