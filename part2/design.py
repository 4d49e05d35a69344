"""Before question 2.1: what carries the designed network? Chosen without a look at the test images.

Trains the network, and variants that differ from it in one thing each, for the full 2,000 iterations
on the first 8,000 images of train batch 1, and evaluates on its last 2,000.
"""

import sys
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from torch import nn

from common import options
from common.choice import Candidate, compare
from common.gradients import convolutions
from common.training import PLAIN_SGD
from part2.accuracy import prepare
from part2.networks import GhostBatchNorm2d, assemble, designed_network


def identity_started():
    """Kernels that at first pass their input channels on, as far as they have output channels for them."""
    network = designed_network()
    for layer in convolutions(network)[1:]:
        nn.init.dirac_(layer.weight[: layer.in_channels])
    return network


variant = partial(assemble, norm=GhostBatchNorm2d)
CANDIDATES = {
    "the designed network": Candidate(designed_network, prepare),
    "BatchNorm over the whole batch": Candidate(partial(variant, norm=nn.BatchNorm2d), prepare),
    "no cutout": Candidate(designed_network, partial(prepare, cutout=0)),
    "cutout 12": Candidate(designed_network, partial(prepare, cutout=12)),
    "24 channels in the first convolution": Candidate(partial(variant, width=24), prepare),
    "half as wide": Candidate(partial(variant, width=8, groups=(32, 128, 128)), prepare),
    "average pooling": Candidate(partial(variant, pooling=nn.AvgPool2d), prepare),
    "identity initialisation": Candidate(identity_started, prepare),
    "plain SGD": Candidate(designed_network, prepare, PLAIN_SGD),
}


def main():
    arguments = options.parse(options.parser(__doc__))
    compare("2.0", "design", CANDIDATES, arguments)


if __name__ == "__main__":
    options.run_script(main)
