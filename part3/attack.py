"""The algorithm of question 3.1: signed gradient ascent on images until a network is sure of a wrong category."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import nn
from torch.nn import functional as F
from tqdm import tqdm

from common.networks import evaluation_mode, laid_out
from common.preprocess import Statistics

EPSILON, CONFIDENCE, MAX_ITERATIONS = 1.0, 0.99, 200  # question 3.1; the first and the last are our choice
UNREACHABLE = 2.0  # a confidence: no image stops before its last step
BATCH = 250  # images per forward pass: about the fastest on a CPU


class Attacked(NamedTuple):
    """The results of `attack` for N images, in order."""

    images: torch.Tensor  # (N, C, H, W), 0..255; float32, or the dtype of floating-point inputs
    categories: torch.Tensor  # int64 (N,): the predicted categories
    confidences: torch.Tensor  # (N,), dtype of images: their softmax
    iterations: torch.Tensor  # int64 (N,): steps taken
    succeeded: torch.Tensor  # bool (N,): wrong, with at least the confidence required


class OnPixels(nn.Module):
    """A network with its pre-processing: takes intensity levels 0..255, returns logits.

    `prepare(pixels, statistics)` is applied as in evaluation, so gradients are with respect to the pixels.
    """

    def __init__(self, network: nn.Module, prepare: Callable[..., torch.Tensor], statistics: Statistics):
        super().__init__()
        self.network = network
        self.prepare = prepare
        self.statistics = statistics

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return self.network(laid_out(self.prepare(pixels, self.statistics)))


def attack(
    network: nn.Module,
    images: torch.Tensor,
    labels: torch.Tensor,
    epsilon: float = EPSILON,
    confidence: float = CONFIDENCE,
    max_iterations: int = MAX_ITERATIONS,
    description: str | None = None,
) -> Attacked:
    """x ← x + ε·sign(∇ₓ J(x, y)) until the network is confident of a wrong category (question 3.1).

    Steps: Goodfellow et al. 2014 (https://arxiv.org/abs/1412.6572), clipped to 0..255. J is the cross-entropy
    with the true category y. Each image stops on success, or after `max_iterations` steps.

    Args:
        network: takes pixels, float `(N, C, H, W)` in 0..255, and returns logits `(N, categories)`. It is
            run in evaluation mode, where an image's logits do not depend on the others in its batch;
            its mode, weights and gradients are left unchanged.
        images, labels: uint8 or float `(N, C, H, W)` in 0..255, and the true categories, int64 `(N,)`.
        epsilon: the step in intensity levels. With a whole number, 8-bit images remain 8-bit.
        confidence: the softmax probability, 0..1, that a wrong category must reach.
        max_iterations: maximum steps per image.
        description: of the progress bar; None shows no bar.

    Raises `FloatingPointError` if a logit is not a finite number.
    """
    number, device = len(images), images.device
    images = images.clone() if images.is_floating_point() else images.float()
    categories, iterations = (torch.zeros(number, dtype=torch.int64, device=device) for _ in range(2))
    confidences = torch.zeros(number, dtype=images.dtype, device=device)
    succeeded = torch.zeros(number, dtype=torch.bool, device=device)
    active = torch.arange(number, device=device)
    bar = tqdm(total=number, desc=description, disable=None if description else True, leave=False)
    with bar, evaluation_mode(network):
        for iteration in range(max_iterations + 1):
            for batch in active.split(BATCH):
                logits, gradient = gradient_of_pixels(network, images[batch], labels[batch])
                confidences[batch], categories[batch] = logits.softmax(1).max(1)
                done = (categories[batch] != labels[batch]) & (confidences[batch] >= confidence)
                succeeded[batch], iterations[batch] = done, iteration
                if iteration < max_iterations:
                    moved = (images[batch] + epsilon * gradient.sign()).clamp(0, 255)
                    images[batch] = torch.where(done[:, None, None, None], images[batch], moved)
            if not confidences.isfinite().all():
                raise FloatingPointError(f"the network's logits are not finite after {iteration} iterations")
            active = active[~succeeded[active]]
            bar.update(number - len(active) - bar.n)
            if len(active) == 0:
                break
    return Attacked(images, categories, confidences, iterations, succeeded)


def momentum_attack(
    network: nn.Module,
    images: torch.Tensor,
    labels: torch.Tensor,
    epsilon: float = EPSILON,
    max_iterations: int = MAX_ITERATIONS,
) -> torch.Tensor:
    """The images after `max_iterations` steps along the sign of accumulated gradients (Dong et al. 2018, arXiv
    1710.06081, without decay): g ← g + ∇ₓJ/‖∇ₓJ‖₁, x ← x + ε·sign(g). Arguments as in `attack`.
    """
    images = images.float().clone()
    accumulated = torch.zeros_like(images)
    with evaluation_mode(network):
        for _ in range(max_iterations):
            for batch in torch.arange(len(images), device=images.device).split(BATCH):
                _, gradient = gradient_of_pixels(network, images[batch], labels[batch])
                # The mean is proportional to the norm. The clamp prevents division by 0 for a gradient of 0.
                size = gradient.abs().mean((1, 2, 3), keepdim=True).clamp(min=torch.finfo(gradient.dtype).tiny)
                accumulated[batch] += gradient / size
                images[batch] = (images[batch] + epsilon * accumulated[batch].sign()).clamp(0, 255)
    return images


def gradient_attack(
    network: nn.Module,
    images: torch.Tensor,
    labels: torch.Tensor,
    epsilon: float = EPSILON,
    max_iterations: int = MAX_ITERATIONS,
    orthogonal_to: nn.Module | None = None,
    control: bool = False,
) -> torch.Tensor:
    """The images after `max_iterations` steps along the gradient, not its signs: x ← x + ε·√d·∇ₓJ/‖∇ₓJ‖₂.

    With d values per image, a step is as long as one along the signs, before clipping. With `orthogonal_to`, the
    component along this other network's gradient is first removed from ∇ₓJ, so that a step does not change the other
    network's J to first order. With `control`, the step is instead turned by the same angle toward a random direction
    orthogonal to both gradients. Other arguments as in `attack`.
    """
    images = images.float().clone()
    generator = torch.Generator(images.device).manual_seed(0)
    for _ in range(max_iterations):
        for batch in torch.arange(len(images), device=images.device).split(BATCH):
            gradient = unit_gradient(network, images[batch], labels[batch])
            if orthogonal_to is not None:
                other = unit_gradient(orthogonal_to, images[batch], labels[batch])
                rest = F.normalize(without(gradient, other))
                if control:
                    random = torch.randn(gradient.shape, generator=generator, device=images.device)
                    random = F.normalize(without(without(random, other), rest))
                    cosine = (gradient * other).sum(1, keepdim=True)
                    gradient = (1 - cosine**2).sqrt() * gradient + cosine * random
                else:
                    gradient = rest
            step = epsilon * gradient.shape[1] ** 0.5 * gradient
            images[batch] = (images[batch] + step.view_as(images[batch])).clamp(0, 255)
    return images


def without(vectors: torch.Tensor, unit: torch.Tensor) -> torch.Tensor:
    """`vectors` without their components along `unit`, both `(N, d)`."""
    return vectors - (vectors * unit).sum(1, keepdim=True) * unit


def unit_gradient(network: nn.Module, images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """The gradient of each image's cross-entropy, `(N, d)`, divided by its Euclidean norm; 0 where it is 0.

    In evaluation mode, whatever the network's mode is.
    """
    with evaluation_mode(network):
        gradient = gradient_of_pixels(network, images, labels)[1].flatten(1)
    largest = gradient.abs().amax(1, keepdim=True)  # small gradients cannot be squared in float32
    return F.normalize(gradient / largest.clamp(min=torch.finfo(gradient.dtype).tiny))


@torch.enable_grad()
def gradient_of_pixels(
    network: nn.Module, images: torch.Tensor, labels: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """The logits, and the gradient of each image's cross-entropy with respect to its pixels."""
    pixels = images.detach().requires_grad_()
    logits = network(pixels)
    loss = F.cross_entropy(logits, labels, reduction="sum")  # in which each image has its own term
    return logits.detach(), torch.autograd.grad(loss, pixels)[0]


@torch.no_grad()
def predict(network: nn.Module, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The category of each of `images`, 0..255, in evaluation mode, and its softmax probability, both `(N,)`."""
    with evaluation_mode(network):
        logits = torch.cat([network(batch.float()) for batch in images.split(BATCH)])
    confidences, categories = logits.softmax(1).max(1)
    return categories, confidences
