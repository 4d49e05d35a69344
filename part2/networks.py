"""The network designed for question 2.1, and the same without BatchNorm for 2.3; both take added layers.

All take images `(N, 3, 32, 32)` and return logits `(N, 10)`; the softmax is part of the loss. Added layers are
created before the network's own, because they are its arguments. This order determines the weights of a seed.
"""

from collections.abc import Sequence

import torch
from torch import nn

from common.gradients import convolutions
from common.networks import evaluation_mode

ADDED = 20  # convolutions (question 2.3)
GHOST = 25  # images per set of BatchNorm statistics


class GhostBatchNorm2d(nn.BatchNorm2d):
    """BatchNorm with separate training statistics for each group of `ghost` images (Hoffer et al. 2017).

    BatchNorm does the same when several GPUs share a batch. Statistics of fewer images are noisier, and this
    noise may make the images harder to memorize. In evaluation it is plain BatchNorm. Its running
    statistics are updated once per group: with 4 groups per batch, a momentum of 0.1 acts as 1 - 0.9⁴ = 0.34.
    """

    def __init__(self, channels: int, ghost: int = GHOST):
        super().__init__(channels)
        self.ghost = ghost

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        normalize = super().forward
        return torch.cat([normalize(part) for part in inputs.split(self.ghost)]) if self.training else normalize(inputs)

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, ghost={self.ghost}"


def designed_network(added: Sequence[nn.Module] = ()) -> nn.Sequential:
    """Question 2.1: convolution, BatchNorm, ReLU, pooling and softmax only.

    Except at the end, pooling precedes BatchNorm and ReLU, which process a quarter of the values. With
    `added` layers of 16 channels, it is question 2.3's deep control with BatchNorm.
    """
    return numbered(
        nn.Conv2d(3, 16, kernel_size=3, padding=1, bias=False),
        GhostBatchNorm2d(16),
        nn.ReLU(),
        *added,
        nn.Conv2d(16, 64, kernel_size=3, padding=1, bias=False),
        nn.MaxPool2d(2),
        GhostBatchNorm2d(64),
        nn.ReLU(),
        nn.Conv2d(64, 64, kernel_size=3, padding=1, bias=False),
        GhostBatchNorm2d(64),
        nn.ReLU(),
        nn.Conv2d(64, 256, kernel_size=3, padding=1, bias=False),
        nn.MaxPool2d(2),
        GhostBatchNorm2d(256),
        nn.ReLU(),
        nn.Conv2d(256, 256, kernel_size=3, padding=1, bias=False),
        GhostBatchNorm2d(256),
        nn.ReLU(),
        nn.Conv2d(256, 256, kernel_size=3, padding=1, bias=False),
        nn.MaxPool2d(2),
        GhostBatchNorm2d(256),
        nn.ReLU(),
        nn.Conv2d(256, 256, kernel_size=3, padding=1, bias=False),
        GhostBatchNorm2d(256),
        nn.ReLU(),
        pool=nn.MaxPool2d(4),
        flatten=nn.Flatten(),
        softmax=nn.Linear(256, 10),
    )


def deep_network(added: Sequence[nn.Module]) -> nn.Sequential:
    """Question 2.3: the designed network with biases in place of BatchNorm, and with `added` layers.

    Initialization is PyTorch's default: uniform in ±1/√(in_channels · kernel area).
    """
    return numbered(
        nn.Conv2d(3, 16, kernel_size=3, padding=1),
        nn.ReLU(),
        *added,
        nn.Conv2d(16, 64, kernel_size=3, padding=1),
        nn.MaxPool2d(2),
        nn.ReLU(),
        nn.Conv2d(64, 64, kernel_size=3, padding=1),
        nn.ReLU(),
        nn.Conv2d(64, 256, kernel_size=3, padding=1),
        nn.MaxPool2d(2),
        nn.ReLU(),
        nn.Conv2d(256, 256, kernel_size=3, padding=1),
        nn.ReLU(),
        nn.Conv2d(256, 256, kernel_size=3, padding=1),
        nn.MaxPool2d(2),
        nn.ReLU(),
        nn.Conv2d(256, 256, kernel_size=3, padding=1),
        nn.ReLU(),
        pool=nn.MaxPool2d(4),
        flatten=nn.Flatten(),
        softmax=nn.Linear(256, 10),
    )


def batchnorm_network() -> nn.Sequential:
    """A control for 2.3: 2.1's network with 20 added convolutions, each with BatchNorm, which cancels the bias."""
    layers = []
    for _ in range(ADDED):
        layers += [nn.Conv2d(16, 16, kernel_size=5, padding=2, stride=1), GhostBatchNorm2d(16), nn.ReLU()]
    return designed_network(layers)


def numbered(*layers: nn.Module, **last: nn.Module) -> nn.Sequential:
    """A Sequential whose layers are named after their kind and the number of convolutions so far: conv1, relu1, …

    A second layer of a kind between two convolutions gets a longer name. Layers in `last` keep their given names.
    """
    kinds = {nn.Conv2d: "conv", nn.BatchNorm2d: "norm", nn.MaxPool2d: "pool"}
    network, count = nn.Sequential(), 0
    for layer in layers:
        count += len(convolutions(layer))
        kind = next((kinds[kind] for kind in kinds if isinstance(layer, kind)), type(layer).__name__.lower())
        name = f"{kind}{count}"
        while hasattr(network, name):
            name += "_"
        network.add_module(name, layer)
    for name, layer in last.items():
        network.add_module(name, layer)
    return network


def describe(network: nn.Module) -> list[dict[str, str | int]]:
    """The layers of the built network, a row for each in forward order, for a report's table.

    Columns: layer (name), kind, kernel, channels (of the output), stride, padding, output (size of
    one image's output), parameters. A column that does not apply to a layer is "".
    """
    names = {layer: name for name, layer in network.named_modules() if not list(layer.children())}
    rows = []

    def setting(layer: nn.Module, attribute: str) -> str:
        value = getattr(layer, attribute, "")
        return "×".join(map(str, value if isinstance(value, tuple) else (value,) * 2)) if value != "" else ""

    def note(layer: nn.Module, _inputs, output: torch.Tensor) -> None:
        rows.append(
            {
                "layer": names[layer],
                "kind": type(layer).__name__,
                "kernel": setting(layer, "kernel_size"),
                "channels": output.shape[1],
                "stride": setting(layer, "stride"),
                "padding": setting(layer, "padding"),
                "output": "×".join(map(str, output.shape[1:])),
                "parameters": sum(parameter.numel() for parameter in layer.parameters()),
            }
        )

    hooks = [layer.register_forward_hook(note) for layer in names]
    parameter = next(network.parameters())
    with torch.no_grad(), evaluation_mode(network):
        network(torch.zeros(1, 3, 32, 32, device=parameter.device, dtype=parameter.dtype))
    for hook in hooks:
        hook.remove()
    return rows
