"""Before questions 2.1 and 2.4: what carries the designed network, and how is its cure trained?

Trains the network, and variants that differ from it in one thing each, for the full 2,000 iterations
on the first 8,000 images of train batch 1, and evaluates on its last 2,000: chosen without a look at the
test images. Then the same for the solution of 2.4.
"""

import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from torch import nn

from common import options
from common.choice import Candidate, compare
from common.gradients import convolutions
from common.training import PLAIN_SGD
from part2.accuracy import prepare
from part2.cures import scaled
from part2.networks import GhostBatchNorm2d, assemble, designed_network
from part2.solution import CAREFUL


def identity_started():
    """Kernels that at first pass their input channels on, as far as they have output channels for them."""
    network = designed_network()
    for layer in convolutions(network)[1:]:
        nn.init.dirac_(layer.weight[: layer.in_channels])
    return network


CANDIDATES = {
    "the designed network": Candidate(designed_network, prepare),
    "BatchNorm over the whole batch": Candidate(partial(assemble, norm=nn.BatchNorm2d), prepare),
    "no cutout": Candidate(designed_network, partial(prepare, cutout=0)),
    "half as wide": Candidate(partial(assemble, norm=GhostBatchNorm2d, width=8, groups=(32, 128, 128)), prepare),
    "identity initialisation": Candidate(identity_started, prepare),
    "plain SGD": Candidate(designed_network, prepare, PLAIN_SGD),
    "2.4's solution": Candidate(scaled, prepare, CAREFUL),
    "2.4's solution, learning rate not halved": Candidate(scaled, prepare, replace(CAREFUL, learning_rate=0.05)),
}


def main():
    arguments = options.parse(options.parser(__doc__))
    compare("2.0", "design", CANDIDATES, arguments)


if __name__ == "__main__":
    options.run_script(main)
