"""Table 1's network, and reading any network's layers off into a table."""

import contextlib
from collections import OrderedDict
from collections.abc import Iterator

import torch
from torch import nn


def convolution_block(inputs: int, outputs: int) -> list[tuple[str, nn.Module]]:
    """Convolution 5×5, BatchNorm, ReLU, and 2×2 average pooling, as in a pair of rows of Table 1.

    Padding 2 keeps the size, so that only the pooling halves it; the table's "Padding = 0" is the
    pooling's. The convolution has no bias: BatchNorm would subtract it again and adds its own.
    """
    return [
        ("conv", nn.Conv2d(inputs, outputs, kernel_size=5, padding=2, bias=False)),
        ("norm", nn.BatchNorm2d(outputs)),
        ("relu", nn.ReLU(inplace=True)),
        ("pool", nn.AvgPool2d(kernel_size=2, stride=2)),
    ]


def table1_network() -> nn.Sequential:
    """The network of the assignment's Table 1: images `(N, 3, 32, 32)` to logits `(N, 10)`.

    The softmax is part of the loss (cross-entropy) in training, and taken of the logits elsewhere.
    """
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    for number, (inputs, outputs) in enumerate([(3, 32), (32, 32), (32, 64)], start=1):
        for name, layer in convolution_block(inputs, outputs):
            layers[f"{name}{number}"] = layer
    layers["flatten"] = nn.Flatten()
    layers["fc"] = nn.Linear(64 * 4 * 4, 64, bias=False)
    layers["norm4"] = nn.BatchNorm1d(64)
    layers["relu4"] = nn.ReLU(inplace=True)
    layers["softmax"] = nn.Linear(64, 10)
    return nn.Sequential(layers)


@contextlib.contextmanager
def evaluation_mode(network: nn.Module) -> Iterator[None]:
    """The network in evaluation mode, in which an image's logits depend on no other image; then as it was before."""
    modes = [(layer, layer.training) for layer in network.modules()]
    network.eval()
    try:
        yield
    finally:
        for layer, training in modes:
            layer.training = training


def describe(network: nn.Module, input_shape: tuple[int, ...] = (3, 32, 32)) -> list[dict[str, str | int]]:
    """What the built network is: a row for each layer in forward order, for a report's table.

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
        network(torch.zeros(1, *input_shape, device=parameter.device, dtype=parameter.dtype))
    for hook in hooks:
        hook.remove()
    return rows
