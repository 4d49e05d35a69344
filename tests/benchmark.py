"""Compare the speed of the training loop with a tutorial's: Table 1's network with flip, normalize and crop.

(a) `common.training.train`; (b) a typical tutorial's loop: DataLoader with two workers, torchvision's
transforms image by image, fp32, `loss.item()` at each step, in a separate process without (a)'s
allocator settings. Both train epochs of 100 × 100 images in turn, so that a change in the machine's
speed affects both. Results are medians over the rounds. Images are synthetic, at the same cost.

    python tests/benchmark.py
"""

import argparse
import functools
import statistics
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset
from torch.utils.flop_counter import FlopCounterMode
from torchvision import transforms

from common import data, options
from common.networks import table1_network
from common.records import within
from common.settings import Settings
from common.training import train
from part1.crop import prepare

ITERATIONS, BATCH_SIZE = 100, 100


class Images(Dataset):
    """Transforms one image at a time, as a PIL image."""

    def __init__(self, images, labels, channels):
        self.images, self.labels = images, labels.tolist()
        self.transform = transforms.Compose(
            [
                transforms.ToPILImage(),
                transforms.RandomHorizontalFlip(),
                transforms.ToTensor(),
                transforms.Normalize((channels.mean / 255).flatten(), (channels.std / 255).flatten()),
                transforms.RandomCrop(32, padding=4),
            ]
        )

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        return self.transform(self.images[index]), self.labels[index]


@functools.cache
def tutorial(device):
    """Network, optimizer and data loader, made at the first call in a process."""
    cifar = data.load("synthetic")
    images = Images(cifar.train_images, cifar.train_labels, cifar.statistics)
    network = table1_network().to(device)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.05, momentum=0.9)
    return network, optimizer, DataLoader(images, BATCH_SIZE, shuffle=True, num_workers=2)


def tutorial_epoch(device):
    """Train (b) for an epoch; return the seconds it took."""
    network, optimizer, loader = tutorial(device)
    start = time.perf_counter()
    for inputs, labels in loader:
        inputs, labels = inputs.to(device), labels.to(device)
        optimizer.zero_grad()
        logits = network(inputs)
        loss = F.cross_entropy(logits, labels)
        loss.backward()
        optimizer.step()
        loss.item()
    return time.perf_counter() - start


def peak(device, dtype, size=2048):
    """Floating-point operations per second of this machine's fastest product of two size × size matrices."""
    a, b = torch.randn(2, size, size, device=device).to(dtype)
    seconds = []
    for _ in range(8):
        synchronize(device)
        start = time.perf_counter()
        a @ b
        synchronize(device)
        seconds.append(time.perf_counter() - start)
    return 2 * size**3 / min(seconds)


def synchronize(device):
    if device.type != "cpu":
        torch.accelerator.synchronize()


def main():
    parser = options.Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=within(int, 1, 1000), default=7, help="default: %(default)s")
    parser.add_argument("--device", type=options.device_named, default="auto")
    arguments = parser.parse_args()
    device = arguments.device
    precision = options.fastest_precision(device)
    cifar = data.load("synthetic", device)

    def this_epoch():
        settings = Settings(iterations=ITERATIONS, batch_size=BATCH_SIZE)
        _, _, seconds = train(table1_network, prepare, cifar, settings, seed=0, precision=precision)
        return seconds

    with FlopCounterMode(display=False) as counter:
        network = table1_network().to(device)
        inputs = prepare(cifar.train_images[:BATCH_SIZE], cifar.statistics)
        F.cross_entropy(network(inputs), cifar.train_labels[:BATCH_SIZE]).backward()
    operations = counter.get_total_flops()  # of one iteration's convolutions and matrix products

    rates, tutorial_rates, shares = [], [], []
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    with ProcessPoolExecutor(1, get_context("spawn")) as elsewhere:
        this_epoch(), elsewhere.submit(tutorial_epoch, device).result()  # warm up
        for _ in range(arguments.rounds):
            top = peak(device, dtype)
            seconds = this_epoch()
            tutorial_seconds = elsewhere.submit(tutorial_epoch, device).result()
            rates.append(ITERATIONS * BATCH_SIZE / seconds)
            tutorial_rates.append(ITERATIONS * BATCH_SIZE / tutorial_seconds)
            shares.append(operations * ITERATIONS / seconds / top)
    ratio = statistics.median(rate / tutorial for rate, tutorial in zip(rates, tutorial_rates))
    print(f"{torch.get_num_threads()} threads of {device.type}, PyTorch {torch.__version__}, {arguments.rounds} rounds")
    print(f"(a) this loop, {precision}: {statistics.median(rates):,.0f} images/s")
    print(f"(b) tutorial loop, fp32: {statistics.median(tutorial_rates):,.0f} images/s")
    print(f"ratio (a) / (b): {ratio:.2f}")
    print(f"share of the {dtype} matrix-product peak of this machine: {statistics.median(shares):.0%}")


if __name__ == "__main__":
    options.run_script(main)
