"""Table 1's network, and evaluation of any network."""

import contextlib
from collections import OrderedDict
from collections.abc import Callable, Iterator

import torch
from torch import nn
from torch.nn import functional as F

from common.preprocess import Statistics


def table1_network() -> nn.Sequential:
    """The network of the assignment's Table 1: images `(N, 3, 32, 32)` to logits `(N, 10)`.

    With padding 2, convolutions keep the image size, and only pooling halves it; the table's "Padding = 0"
    refers to pooling. Layers before BatchNorm have no bias, because BatchNorm would subtract it and adds its
    own. The softmax is part of the loss (cross-entropy) in training, and is applied to the logits elsewhere.
    """
    return nn.Sequential(
        OrderedDict(
            conv1=nn.Conv2d(3, 32, kernel_size=5, padding=2, bias=False),
            norm1=nn.BatchNorm2d(32),
            relu1=nn.ReLU(inplace=True),
            pool1=nn.AvgPool2d(kernel_size=2, stride=2),
            conv2=nn.Conv2d(32, 32, kernel_size=5, padding=2, bias=False),
            norm2=nn.BatchNorm2d(32),
            relu2=nn.ReLU(inplace=True),
            pool2=nn.AvgPool2d(kernel_size=2, stride=2),
            conv3=nn.Conv2d(32, 64, kernel_size=5, padding=2, bias=False),
            norm3=nn.BatchNorm2d(64),
            relu3=nn.ReLU(inplace=True),
            pool3=nn.AvgPool2d(kernel_size=2, stride=2),
            flatten=nn.Flatten(),
            fc=nn.Linear(64 * 4 * 4, 64, bias=False),
            norm4=nn.BatchNorm1d(64),
            relu4=nn.ReLU(inplace=True),
            softmax=nn.Linear(64, 10),
        )
    )


@contextlib.contextmanager
def evaluation_mode(network: nn.Module) -> Iterator[None]:
    """Set evaluation mode, in which an image's logits depend on no other image; then restore the previous mode."""
    modes = [(layer, layer.training) for layer in network.modules()]
    network.eval()
    try:
        yield
    finally:
        for layer, training in modes:
            layer.training = training


def laid_out(images: torch.Tensor) -> torch.Tensor:
    """Images in channels-last layout on CPUs, where it is faster; contiguous elsewhere, where this was not measured."""
    layout = torch.channels_last if images.device.type == "cpu" else torch.contiguous_format
    return images.contiguous(memory_format=layout)


@torch.no_grad()
def logits_of(network: nn.Module, prepare: Callable, images: torch.Tensor, statistics: Statistics) -> torch.Tensor:
    """Logits `(N, 10)` of `network` in evaluation mode, in fp32, one view per image; see `evaluate`."""
    with evaluation_mode(network):
        return torch.cat([network(laid_out(prepare(batch, statistics))) for batch in images.split(500)])


def evaluate(
    network: nn.Module, prepare: Callable, images: torch.Tensor, labels: torch.Tensor, statistics: Statistics
) -> tuple[float, float]:
    """Accuracy (a fraction) and mean cross-entropy of `network` in evaluation mode, in fp32, one view per image.

    `images` are uint8 `(N, 3, H, W)`, `labels` int64 `(N,)`. `common.preprocess` describes `prepare` and the
    training set's `statistics`. Without a generator, nothing is augmented.
    """
    logits = logits_of(network, prepare, images, statistics)
    return (logits.argmax(1) == labels).sum().item() / len(labels), F.cross_entropy(logits, labels).item()
