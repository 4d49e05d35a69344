"""The networks of part2/controls.py: those of 2.3 and 2.4 with one more change each.

All take images `(N, 3, 32, 32)` and return logits `(N, 10)`, as in part2/networks.py.
"""

import torch
from torch import nn

from common.gradients import convolutions
from part2 import cures, signals, vanishing
from part2.cures import Block, ScaledConv2d
from part2.networks import ADDED, GhostBatchNorm2d, deep_network, designed_network

GAIN = signals.DEFAULT_FACTOR**-0.5  # √6
SLOWNESS = 100  # what `slow_softmax`, `slow_start` and `slow_others` divide gradients by
SLOW_STEPS = 10  # for how many steps `slow_start` does so


def batchnorm_residual_network():
    """`batchnorm_network` with its added layers in ten residual blocks.

    Each block starts as the identity: its last BatchNorm scales by 0.
    """
    layers = []
    for _ in range(ADDED // 2):
        first, second = (nn.Conv2d(16, 16, kernel_size=5, padding=2, stride=1) for _ in range(2))
        last = GhostBatchNorm2d(16)
        nn.init.zeros_(last.weight)
        layers += [Block(first, GhostBatchNorm2d(16), nn.ReLU(), second, last), nn.ReLU()]
    return designed_network(layers)


class Mend(nn.Module):
    """Multiplies differences between the images of a batch by `forward_gain`, and gradients by `backward_gain`.

    Neither affects the other. It uses batch statistics, in evaluation as well.
    """

    def __init__(self, forward_gain: float = 1.0, backward_gain: float = 1.0):
        super().__init__()
        self.forward_gain, self.backward_gain = forward_gain, backward_gain

    def forward(self, activations: torch.Tensor) -> torch.Tensor:
        constant = activations.detach()
        difference = constant - constant.mean(0, keepdim=True)
        # The first line adds 0, with gradient `backward_gain`. The second adds a term that has no gradient.
        mended = constant + self.backward_gain * (activations - constant)
        return mended + (self.forward_gain - 1) * difference

    def extra_repr(self) -> str:
        return f"forward_gain={self.forward_gain:.4f}, backward_gain={self.backward_gain:.4f}"


def mended_network(forward_gain, backward_gain):
    """2.3's network with a gain after each added layer."""
    layers = []
    for _ in range(ADDED):
        layers += [nn.Conv2d(16, 16, kernel_size=5, padding=2, stride=1), nn.ReLU(), Mend(forward_gain, backward_gain)]
    return deep_network(layers)


def unbiased_network():
    network = vanishing.vanishing_network()
    for layer in convolutions(network):
        layer.bias = None
    return network


def slow_network(of_softmax):
    """2.4's solution with gradients in the softmax layer, or in convolutions' biases and gains, divided by `SLOWNESS`.

    SGD's steps in these parameters are smaller by the same factor. Muon trains the convolutions' weights as before.
    """
    network = cures.scaled()
    of_layer = list(network.softmax.parameters())
    others = [value for layer in convolutions(network) for value in (layer.bias, layer.gain)]
    for parameter in of_layer if of_softmax else others:
        parameter.register_hook(divide)
    return network


def divide(gradient):
    return gradient / SLOWNESS


class SlowStartLinear(nn.Linear):
    """A linear layer that divides its gradients by `SLOWNESS` in the first `SLOW_STEPS` steps.

    The steps are counted in a buffer, so that a resumed run continues to count.
    """

    def __init__(self, inputs: int, outputs: int):
        super().__init__(inputs, outputs)
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))
        for parameter in self.parameters():
            parameter.register_hook(self.divide_early)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        if self.training:
            self.steps += 1
        return super().forward(inputs)

    def divide_early(self, gradient: torch.Tensor) -> torch.Tensor:
        return torch.where(self.steps <= SLOW_STEPS, gradient / SLOWNESS, gradient)


def slow_start_network():
    """2.4's solution with its softmax layer's gradients divided by `SLOWNESS` in the first `SLOW_STEPS` steps only."""
    network = cures.scaled()
    softmax = SlowStartLinear(network.softmax.in_features, network.softmax.out_features)
    softmax.load_state_dict(network.softmax.state_dict(), strict=False)  # all but the buffer
    network.softmax = softmax
    return network


def fewer_skips_network():
    """2.4's solution, where only the added layers have residual blocks."""
    network = cures.scaled()
    for name, layer in network.named_children():
        if isinstance(layer, Block) and len(layer) == 1:
            layer[0].scale = ScaledConv2d.RELU
            setattr(network, name, layer[0])
    return network


def standardized_added_network():
    """`fewer_skips_network`, with ordinary weights and He initialization in the original convolutions."""
    layers = []
    for _ in range(ADDED // 2):
        first = ScaledConv2d(16, 16, kernel_size=5, padding=2)
        second = ScaledConv2d(16, 16, kernel_size=5, padding=2, scale=0.0)
        layers += [Block(first, nn.ReLU(), second), nn.ReLU()]
    network = deep_network(layers)
    cures.initialize_he(nn.ModuleList(each for each in convolutions(network) if not isinstance(each, ScaledConv2d)))
    return network


def standardized_shallow_network():
    """`fewer_skips_network` without its added layers (the residual blocks and the ReLUs that follow them)."""
    network = fewer_skips_network()
    for name, layer in list(network.named_children()):
        if isinstance(layer, Block):
            delattr(network, name)
            delattr(network, name.replace("block", "relu"))
    return network


def random_start_network():
    """2.4's solution, where the blocks of added convolutions do not start as the identity.

    The second convolution of each has half the usual scale, as do the original convolutions with a skip.
    """
    network = cures.scaled()
    for layer in convolutions(network):
        layer.scale = layer.scale or ScaledConv2d.RELU / 2
    return network


class CenteredConv2d(nn.Conv2d):
    """A convolution that only centers its weights: in each output channel, it subtracts their mean.

    At the start, its weights equal those of a `ScaledConv2d` of scale RELU up to random fluctuations.
    """

    def __init__(self, inputs: int, outputs: int, kernel_size: int, padding: int):
        super().__init__(inputs, outputs, kernel_size, padding=padding)
        nn.init.kaiming_normal_(self.weight, nonlinearity="linear")
        self.weight.data *= ScaledConv2d.RELU
        nn.init.zeros_(self.bias)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return self._conv_forward(inputs, self.weight - self.weight.mean((1, 2, 3), keepdim=True), self.bias)


class NormalizedConv2d(ScaledConv2d):
    """A `ScaledConv2d` that does not center its weights: it divides them by their norm in each output channel.

    With a scale of √2, weights have the size of He initialization.
    """

    def __init__(self, inputs: int, outputs: int, kernel_size: int, padding: int):
        super().__init__(inputs, outputs, kernel_size, padding, scale=2**0.5)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        squares = self.weight.square().sum((1, 2, 3), keepdim=True)
        weight = self.weight * (self.scale + self.gain) * torch.rsqrt(squares + 1e-8)
        return self._conv_forward(inputs, weight, self.bias)


class GainedConv2d(nn.Conv2d):
    """A convolution with He initialization and, as in `ScaledConv2d`, a learned gain for each output channel."""

    def __init__(self, inputs: int, outputs: int, kernel_size: int, padding: int):
        super().__init__(inputs, outputs, kernel_size, padding=padding)
        nn.init.kaiming_normal_(self.weight, nonlinearity="relu")
        nn.init.zeros_(self.bias)
        self.gain = nn.Parameter(torch.zeros(outputs, 1, 1, 1))

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return self._conv_forward(inputs, self.weight * (1 + self.gain / 2**0.5), self.bias)


def shallow_network(kind=None):
    """2.3's network without added layers: with He initialization, or with another kind of convolution."""
    network = cures.initialize_he(deep_network([]))
    for name, layer in network.named_children():
        if kind is not None and isinstance(layer, nn.Conv2d):
            setattr(network, name, kind(layer.in_channels, layer.out_channels, kernel_size=3, padding=1))
    return network
