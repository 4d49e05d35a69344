"""The magnitude of gradients of question 2.2, and what is left of a signal after each convolution (2.3, 2.4)."""

import torch
from torch import nn
from torch.nn import functional as F

# What PyTorch's default initialisation leaves of a mean square in a layer of convolution and ReLU (question 2.3):
# a sum of n terms with weights of variance 1/(3n) has a third of it, and ReLU passes half of that.
DEFAULT_FACTOR = 1 / 6


def convolutions(network: nn.Module) -> list[nn.Conv2d]:
    """The convolutional layers in the order in which the network holds them: the forward order, here."""
    return [layer for layer in network.modules() if isinstance(layer, nn.Conv2d)]


def magnitudes(layers: list[nn.Conv2d]) -> torch.Tensor:
    """G = max_i |∂L/∂w_i| of each layer's weights (question 2.2), of the gradients in `.grad`; float `(layers,)`."""
    return torch.stack([torch.linalg.vector_norm(layer.weight.grad, torch.inf) for layer in layers])


@torch.no_grad()
def active_channels(network: nn.Sequential, inputs: torch.Tensor) -> list[float]:
    """The share of channels that each ReLU of `network` lets pass anything of, at any position of any of `inputs`.

    A channel that is 0 for all images has no gradient, nor has what feeds it alone: it stays as it is.
    """
    shares = []
    for layer in network:
        inputs = layer(inputs)
        if isinstance(layer, nn.ReLU):
            shares.append((inputs > 0).any(0).flatten(1).any(1).float().mean().item())
    return shares


def signals(network: nn.Sequential, inputs: torch.Tensor, labels: torch.Tensor) -> list[dict[str, float]]:
    """How much of a signal is left after each convolution, or residual block of such, with the weights as they are.

    Give it a network and inputs in float64 where signals vanish: float32 rounds off what differs from
    one image to the next once it is below 1e-7 of the whole.

    Returns a row for each part of `network` that holds convolutions, z being the part's output:
        convolution: how many there are up to here.
        gradient: root mean square of ∂L/∂z over images, channels and positions, where z > 0 (else no
            gradient passes), L the *sum* of the images' cross-entropies (so that their number does not matter).
        mean_square: of ReLU(z), over images, channels and positions.
        image_variance: what of that differs from image to image: the variance of ReLU(z) over images,
            averaged over channels and positions.
        active: share of z above zero, which is what ReLU lets pass.
    """
    parts = [part for part in network if convolutions(part)]
    outputs = []
    hooks = [part.register_forward_hook(lambda _part, _inputs, output: outputs.append(output)) for part in parts]
    loss = F.cross_entropy(network(inputs), labels, reduction="sum")
    for hook in hooks:
        hook.remove()
    gradients = torch.autograd.grad(loss, outputs)

    rows = []
    for depth, (output, gradient) in enumerate(zip(outputs, gradients), start=1):
        activations = output.detach().relu()
        row = {
            "convolution": sum(len(convolutions(part)) for part in parts[:depth]),
            "gradient": (gradient * (output > 0)).square().mean().sqrt().item(),
            "mean_square": activations.square().mean().item(),
            "image_variance": activations.var(0, correction=0).mean().item(),
            "active": (output > 0).double().mean().item(),
        }
        rows.append(row)
    return rows
