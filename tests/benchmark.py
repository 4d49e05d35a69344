"""How fast is the training loop? Table 1's network with flip, normalise and crop, side by side with a tutorial's.

(a) `common.training.train`; (b) the loop every tutorial has: DataLoader with two workers, torchvision's
transforms image by image, fp32, `loss.item()` at each step. Both train an epoch of 100 × 100 images in
turn, so that a change of the machine's speed hits both; figures are medians over the rounds. Images are
synthetic, which costs the same.

    python tests/benchmark.py
"""

import argparse
import platform
import resource
import statistics
import sys
import time
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset
from torch.utils.flop_counter import FlopCounterMode
from torchvision import transforms

from common import data, options
from common.networks import table1_network
from common.preprocess import Statistics, channel_statistics
from common.training import Settings, train
from part1.crop import prepare

ITERATIONS, BATCH_SIZE = 100, 100


class Images(Dataset):
    """One image at a time, as PIL images through transforms."""

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


def tutorial_epoch(network, optimizer, loader, device):
    for inputs, labels in loader:
        inputs, labels = inputs.to(device), labels.to(device)
        optimizer.zero_grad()
        logits = network(inputs)
        loss = F.cross_entropy(logits, labels)
        loss.backward()
        optimizer.step()
        loss.item()


def peak(device, dtype, size=2048):
    """Floating-point operations a second of this machine's best matrix product of two size × size matrices."""
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
    parser.add_argument("--rounds", type=options.whole_number(1, 1000), default=7, help="default: %(default)s")
    parser.add_argument("--device", type=options.device, default="auto")
    arguments = parser.parse_args()
    device = arguments.device
    precision = options.fastest_precision(device)
    cifar = data.load("synthetic", device)
    channels = channel_statistics(cifar.train_images)

    def this_epoch():
        _, _, seconds = train(
            table1_network,
            cifar.train_images,
            cifar.train_labels,
            partial(prepare, statistics=channels),
            Settings(iterations=ITERATIONS, batch_size=BATCH_SIZE),
            seed=0,
            precision=precision,
        )
        return seconds

    this_epoch()  # warm up
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if platform.system() == "Darwin" else 1024)

    network = table1_network().to(device)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.05, momentum=0.9)
    dataset = Images(cifar.train_images.cpu(), cifar.train_labels, Statistics(*(value.cpu() for value in channels)))
    loader = DataLoader(dataset, BATCH_SIZE, shuffle=True, num_workers=2)

    with FlopCounterMode(display=False) as counter:
        inputs = prepare(cifar.train_images[:BATCH_SIZE], channels)
        F.cross_entropy(network(inputs), cifar.train_labels[:BATCH_SIZE]).backward()
    operations = counter.get_total_flops()

    rates, tutorial_rates, shares = [], [], []
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    for _ in range(arguments.rounds):
        top = peak(device, dtype)
        seconds = this_epoch()
        start = time.perf_counter()
        tutorial_epoch(network, optimizer, loader, device)
        tutorial_seconds = time.perf_counter() - start
        rates.append(ITERATIONS * BATCH_SIZE / seconds)
        tutorial_rates.append(len(dataset) / tutorial_seconds)
        shares.append(operations * ITERATIONS / seconds / top)
    ratio = statistics.median(rate / tutorial for rate, tutorial in zip(rates, tutorial_rates))
    print(f"{torch.get_num_threads()} threads of {device.type}, PyTorch {torch.__version__}, {arguments.rounds} rounds")
    print(f"(a) this loop, {precision}: {statistics.median(rates):,.0f} images/s")
    print(f"(b) tutorial loop, fp32: {statistics.median(tutorial_rates):,.0f} images/s")
    print(f"ratio (a) / (b): {ratio:.2f}")
    print(f"share of the {dtype} matrix-product peak of this machine: {statistics.median(shares):.0%}")
    print(f"peak memory of (a): {memory / 1e9:.2f} GB")


if __name__ == "__main__":
    options.run(main)
