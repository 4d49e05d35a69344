"""Question 2.2's gradient magnitude, G = max_i |∂L/∂w_i|, and the convolutions that it is computed for."""

import torch
from torch import nn


def convolutions(network: nn.Module) -> list[nn.Conv2d]:
    """The convolutional layers in the order of the network's modules, here the forward order."""
    return [layer for layer in network.modules() if isinstance(layer, nn.Conv2d)]


def magnitudes(layers: list[nn.Conv2d]) -> torch.Tensor:
    """G = max_i |∂L/∂w_i| of each layer's weights (question 2.2), from `.grad`; float `(layers,)`."""
    return torch.stack([torch.linalg.vector_norm(layer.weight.grad, torch.inf) for layer in layers])
