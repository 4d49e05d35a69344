"""Compare question 3.1's attack with a library's: do both produce the same images?

    pip install torchattacks scipy requests && python tests/compare_torchattacks.py

Only this script needs torchattacks, which is not in requirements.txt. It attacks the first 1,000 test images that
1.4's network classifies correctly, with 8 steps of one level, and writes report/logs/3.1_torchattacks.csv. It uses
float32, where the library's other pixel scale rounds some gradients near 0 to other signs, and float64.
"""

import importlib.metadata
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
from torch import nn

from common import data, options, results
from common.records import RecordError, write_rows
from part3.attack import BATCH, attack, predict
from part3.networks import network_on_pixels

IMAGES, STEPS = 1000, 8


class OfUnitPixels(nn.Module):
    """A network that takes pixels in 0..1, as the library does."""

    def __init__(self, network: nn.Module):
        super().__init__()
        self.network = network

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return self.network(255 * pixels)


def normalized(pixels, statistics):
    """`common.preprocess.normalize`, in the precision of `pixels`."""
    return (pixels - statistics.mean) / statistics.std


def main():
    arguments = options.parse(options.parser(__doc__, seeds=False))
    try:
        from torchattacks import BIM
    except ImportError as error:
        raise RecordError(f"torchattacks cannot be imported ({error})") from error
    cifar = data.load(arguments.data_dir, arguments.device)
    network = network_on_pixels("1.4", cifar, arguments)
    correct = (predict(network, cifar.test_images)[0] == cifar.test_labels).nonzero().flatten()[:IMAGES]
    images, labels = cifar.test_images[correct], cifar.test_labels[correct]
    network.prepare = normalized
    rows = []
    for precision in (torch.float32, torch.float64):
        network, images = network.to(precision), images.to(precision)
        ours = attack(network, images, labels, epsilon=1.0, confidence=2.0, max_iterations=STEPS).images
        library = BIM(OfUnitPixels(network).eval(), eps=STEPS / 255, alpha=1 / 255, steps=STEPS)
        batches = zip(images.split(BATCH), labels.split(BATCH))
        theirs = torch.cat([255 * library(batch / 255, of_batch) for batch, of_batch in batches]).round()
        differs = (theirs != ours).flatten(1)
        row = {
            "version": importlib.metadata.version("torchattacks"),
            "precision": str(precision).removeprefix("torch."),
            "images": len(images),
            "steps": STEPS,
            "same_images": len(images) - differs.any(1).sum().item(),
            "same_values": 1 - differs.double().mean().item(),
            "largest": (theirs - ours).abs().max().item(),
        }
        rows.append(row)
        print(row)
    write_rows(results.log_path(arguments.out, "3.1", "torchattacks"), rows)


if __name__ == "__main__":
    options.run_script(main)
