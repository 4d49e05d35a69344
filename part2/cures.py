"""The cures of question 2.4: 2.1's network with 20 more convolutions, without BatchNorm, that learns."""

import math
from collections.abc import Callable

import torch
from torch import nn
from torch.nn import functional as F

from common.gradients import convolutions
from part2.networks import ADDED, added_convolution, assemble, vanishing_network


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


class Residual(nn.Sequential):
    """ReLU(x + f(x)), where f are the layers given, one after another (He et al. 2015)."""

    def forward(self, activations: torch.Tensor) -> torch.Tensor:
        return F.relu(activations + super().forward(activations))


def added_blocks(convolution: Callable[..., nn.Conv2d] = nn.Conv2d) -> list[Residual]:
    """The 20 added convolutions, two in each residual block."""
    return [
        Residual(added_convolution(convolution), nn.ReLU(), added_convolution(convolution)) for _ in range(ADDED // 2)
    ]


def residual() -> nn.Sequential:
    """Cure 3: pairs of added convolutions as residual blocks whose second one starts at zero (Zhang et al. 2019)."""
    blocks = added_blocks()
    network = initialize_he(assemble(blocks))
    for block in blocks:
        nn.init.zeros_(block[-1].weight)
    return network


class ScaledConv2d(nn.Conv2d):
    """A convolution with scaled weight standardisation (Brock et al. 2021, https://arxiv.org/abs/2102.06171).

    It convolves with weights of mean 0 and variance (scale + gain)²/fan_in in each output channel, where
    fan_in is the number of weights of a channel: weights are normalised, activations never. With a scale of
    √(2/(1 - 1/π)), ReLU's output has the variance of what came in. What a channel learns to add to its scale,
    its gain, is subject to weight decay, which thus draws the sum back to where it started.
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
    """Cure 4: all convolutions with scaled weight standardisation, and residual blocks wherever the shape allows.

    The added blocks start at zero, those around the second convolution of each group at half the scale.
    """
    blocks = added_blocks(ScaledConv2d)
    for block in blocks:
        block[-1].scale = 0.0

    def half(convolution: ScaledConv2d) -> Residual:
        convolution.scale /= 2
        return Residual(convolution)

    return assemble(blocks, convolution=ScaledConv2d, around=half)
