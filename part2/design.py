"""Before questions 2.1 and 2.4: what carries the designed network, and how is its cure trained?

Trains the network, and variants that differ from it in one thing each, for the full 2,000 iterations on
four fifths of train batch 1, and evaluates on the fifth held out: chosen without a look at the test
images. Then the same for the solution of 2.4. `--folds 0` to look for good ones, `--folds 0 1 2 3 4
--candidates …` to decide between the best.
"""

import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from torch import nn

from common import held_out, options
from common.experiment import Experiment
from common.gradients import convolutions
from common.settings import PLAIN_SGD, Settings
from part2.accuracy import prepare, with_ordinary_batchnorm
from part2.cures import scaled
from part2.networks import designed_network
from part2.solution import CLIPPED


def identity_started():
    """Kernels that at first pass their input channels on, as far as they have output channels for them."""
    network = designed_network()
    for layer in convolutions(network)[1:]:
        nn.init.dirac_(layer.weight[: layer.in_channels])
    return network


KEPT = replace(Settings(), learning_rate=0.07, weight_decay=0.0, keep_norm=True)
SOLUTION, HALVED = "2.4's solution", "2.4's solution, Muon's learning rate halved"
CANDIDATES = {
    "the designed network": (designed_network, prepare, Settings()),
    "BatchNorm over the whole batch": (with_ordinary_batchnorm, prepare, Settings()),
    "no cutout": (designed_network, partial(prepare, cutout=0), Settings()),
    "identity initialization": (identity_started, prepare, Settings()),
    "norms kept": (designed_network, prepare, KEPT),
    "plain SGD": (designed_network, prepare, PLAIN_SGD),
    SOLUTION: (scaled, prepare, CLIPPED),
    HALVED: (scaled, prepare, replace(CLIPPED, learning_rate=0.025)),
    "2.4's solution, norms kept": (scaled, prepare, replace(KEPT, clip_norm=CLIPPED.clip_norm)),
}
CHOSEN = "the designed network"


def main():
    arguments = held_out.parse(__doc__, list(CANDIDATES))
    held_out.compare("2.0", [Experiment("2.0", name, *CANDIDATES[name]) for name in arguments.candidates], arguments)


if __name__ == "__main__":
    options.run_script(main)
