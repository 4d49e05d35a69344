"""Before questions 2.3 and 2.4: what does a deep network do to gradients and images, before any training?

Builds 2.3's network or a variant, runs a forward and a backward pass on 32 images, and draws each layer's gradient,
variance between images and share of live channels (above 0 for any image), and histograms of the activation's inputs
for the first and every fifth added layer.

    python part2/explore.py                                  2.3's network
    python part2/explore.py --compare default he dirac       three initializations
    python part2/explore.py --init he --added 50 --slope 0.2
    python part2/explore.py --norm batch                     with theory's prediction
    python part2/explore.py --animate --iterations 200       during training, as a GIF

Predict before you run: with 20 added layers, by how many powers of ten is the first convolution's gradient smaller
than the last one's? Does it help to train longer?
"""

import argparse
import functools
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import torch
from torch import nn

from common import data, options
from common.gradients import convolutions
from common.plots import BLACK, BLUE, GREEN, PURPLE, SKY, VERMILION
from common.records import within
from common.settings import Settings
from part2 import plots
from part2.accuracy import prepare
from part2.cures import Block, ScaledConv2d
from part2.networks import numbered
from part2.signals import BATCHNORM_FACTOR, measured_on, signals

INITIALIZATIONS = {"default": VERMILION, "he": SKY, "dirac": GREEN, "orthogonal": PURPLE}
FRAMES = 24  # of an animation


def deep_variant(added=20, init="default", slope=0.0, norm="none", skip=False, bias=True, width=16):
    """2.3's network with another depth, width, initialization, activation or normalization, or with skips.

    With the defaults a seed gives the same weights as in 2.3. With `skip`, every two added convolutions form a
    residual block, and the second starts at zero.
    """

    def convolution(inputs, outputs, kernel_size, scale=ScaledConv2d.RELU):
        if norm == "weights":
            return ScaledConv2d(inputs, outputs, kernel_size, padding=kernel_size // 2, scale=scale)
        return nn.Conv2d(inputs, outputs, kernel_size, padding=kernel_size // 2, bias=bias)

    def after(channels):
        return [nn.BatchNorm2d(channels)] if norm == "batch" else []

    def activation():
        return nn.LeakyReLU(slope) if slope else nn.ReLU()

    layers = []
    for _ in range(added // 2 if skip else added):
        if skip:
            first, last = convolution(width, width, 5), convolution(width, width, 5, scale=0.0)
            layers += [Block(first, *after(width), activation(), last, *after(width)), activation()]
        else:
            layers += [convolution(width, width, 5), *after(width), activation()]
    network = numbered(
        *(convolution(3, width, 3), *after(width), activation()),
        *layers,
        *(convolution(width, 64, 3), nn.MaxPool2d(2), *after(64), activation()),
        *(convolution(64, 64, 3), *after(64), activation()),
        *(convolution(64, 256, 3), nn.MaxPool2d(2), *after(256), activation()),
        *(convolution(256, 256, 3), *after(256), activation()),
        *(convolution(256, 256, 3), nn.MaxPool2d(2), *after(256), activation()),
        *(convolution(256, 256, 3), *after(256), activation()),
        pool=nn.MaxPool2d(4),
        flatten=nn.Flatten(),
        softmax=nn.Linear(256, 10),
    )
    initialize(network, init, slope, added)
    for block in network:
        if isinstance(block, Block) and norm != "weights":
            nn.init.zeros_(block[-1].weight)  # of the convolution, or of its BatchNorm
    return network


def initialize(network, init, slope, added):
    if init == "default":
        return
    for number, layer in enumerate(convolutions(network)):
        if init == "dirac" and 1 <= number <= added:
            nn.init.dirac_(layer.weight)
        elif init == "orthogonal":
            nn.init.orthogonal_(layer.weight, gain=nn.init.calculate_gain("leaky_relu", slope))
        else:
            nn.init.kaiming_normal_(layer.weight, a=slope)
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)


def factor_of_theory(init, slope, norm, skip):
    """Theory's factor on a gradient's scale per added layer of a wide network; None if there is no theory.

    A sum of n terms with weights of variance v has n·v times their mean square; the activation passes (1 + slope²)/2
    of it (He et al. 2015). For BatchNorm and ReLU, see Yang et al. 2019.
    """
    if skip or norm == "weights" or (norm == "batch" and slope):
        return None
    if norm == "batch":
        return BATCHNORM_FACTOR**0.5
    variance = {"default": 1 / 3, "he": 2 / (1 + slope**2), "orthogonal": 2 / (1 + slope**2)}.get(init)
    return variance and (variance * (1 + slope**2) / 2) ** 0.5


def measure(network, images, labels, added):
    """`signals`, and about 2,000 inputs of the activation after the first convolution and every fifth added one."""
    received = {}

    def note(number, _layer, inputs):
        flat = inputs[0].detach().flatten()
        received[number] = flat[:: max(1, len(flat) // 2000)].numpy()

    count, hooks = 0, []
    for layer in network:
        count += len(convolutions(layer))
        if isinstance(layer, nn.ReLU | nn.LeakyReLU) and (count - 1) % plots.EVERY == 0 and count <= 1 + added:
            hooks.append(layer.register_forward_pre_hook(functools.partial(note, count)))
    rows = signals(network.double(), images, labels)
    for hook in hooks:
        hook.remove()
    return rows, received


def choose(arguments):
    """The networks to look at, by name: (a function that makes one, color, theory's factor or None)."""
    given = {name: getattr(arguments, name) for name in ("added", "slope", "norm", "skip", "bias", "width")}
    chosen = {}
    for init in arguments.compare or [arguments.init]:
        make_network = functools.partial(deep_variant, init=init, **given)
        of_norm = {} if arguments.compare else {"batch": BLACK, "weights": BLUE}
        theory = factor_of_theory(init, arguments.slope, arguments.norm, arguments.skip)
        chosen[init] = make_network, of_norm.get(arguments.norm, INITIALIZATIONS[init]), theory
    return chosen


def title_of(arguments):
    """The settings that are not in the legend."""
    norm = {"none": "", "batch": ", BatchNorm", "weights": ", standardized weights"}[arguments.norm]
    departing = [
        f", slope {arguments.slope}" if arguments.slope else "",
        norm,
        ", skips" if arguments.skip else "",
        "" if arguments.bias else ", no biases",
        f", {arguments.width} channels" if arguments.width != 16 else "",
        ", generated images" if arguments.synthetic else "",
    ]
    return f"{arguments.added} added layers{''.join(departing)}"


def look(chosen, cifar, seed, added):
    """Measurements of each network, by name: (rows of signals, inputs of activations, color, theory)."""
    images, labels = measured_on(cifar, prepare)
    found = {}
    for name, (make_network, color, theory) in chosen.items():
        torch.manual_seed(seed)
        found[name] = *measure(make_network(), images, labels, added), color, theory
    return found


def animate(chosen, cifar, arguments, path):
    """Train the network, and write a GIF of its signals during training."""
    from common.training import train  # here, because a look at new networks needs no trainer

    ((name, (make_network, color, _)),) = chosen.items()
    last = arguments.iterations
    after = sorted({round(iteration) for iteration in np.geomspace(1, last, FRAMES)})
    images, labels = measured_on(cifar, prepare)
    with tempfile.TemporaryDirectory() as folder:
        snapshots = {iteration: Path(folder) / f"{iteration}.pt" for iteration in after}
        settings = Settings(iterations=last, clip_norm=arguments.clip_norm)
        precision = options.fastest_precision(torch.device("cpu"))
        train(make_network, prepare, cifar, settings, arguments.seed, precision, description=name, snapshots=snapshots)
        frames = [look({name: chosen[name]}, cifar, arguments.seed, arguments.added)]
        for snapshot in snapshots.values():
            network = make_network()
            network.load_state_dict(torch.load(snapshot, weights_only=True))
            frames.append({name: (*measure(network, images, labels, arguments.added), color, None)})
    plots.animation(path, frames, [0, *after], title_of(arguments))


def parse():
    parser = options.Parser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    add = parser.add_argument
    add("--added", type=within(int, 1, 200), default=20, metavar="N", help="added layers (default: %(default)s)")
    add("--init", choices=INITIALIZATIONS, default="default", help="initial weights (default: PyTorch's)")
    add("--compare", choices=INITIALIZATIONS, nargs="+", metavar="INIT", help="draw several initializations")
    text = "activation's slope below 0; 0 is ReLU (default: 0)"
    add("--slope", type=within(float, 0, 1), default=0.0, help=text)
    text = "BatchNorm, or scaled weight standardization (default: none)"
    add("--norm", choices=["none", "batch", "weights"], default="none", help=text)
    add("--skip", action="store_true", help="form residual blocks of two added layers that start as the identity")
    add(
        "--bias",
        choices=["yes", "no"],
        default="yes",
        help="biases in convolutions; no effect with --norm weights (default: yes)",
    )
    add("--width", type=within(int, 1, 256), default=16, metavar="N", help="channels of added layers (default: 16)")
    add("--seed", type=within(int, 0, 2**32 - 1), default=0, help="random seed (default: 0)")
    add("--animate", action="store_true", help="train the network, and write a GIF")
    add("--iterations", type=within(int, 1, 2000), default=100, metavar="N", help="steps of --animate (default: 100)")
    text = "with --animate, clipping norm of SGD's gradients; 0.1 in 2.4's solution (default: no clipping)"
    add("--clip-norm", type=within(float, 0, float("inf")), default=float("inf"), metavar="NORM", help=text)
    add("--data-dir", type=options.printable, metavar="DIR", help="as in the other scripts; nothing is downloaded")
    text = "a PNG, or a GIF with --animate (default: explore.png, explore.gif)"
    add("--out", type=options.printable_path, metavar="FILE", help=text)
    arguments = parser.parse_args()
    if arguments.skip and arguments.added % 2:
        parser.error("argument --added: must be even with --skip (residual blocks have two layers each)")
    if arguments.animate and arguments.compare:
        parser.error("argument --animate: not allowed with --compare (it shows one network)")
    suffix = ".gif" if arguments.animate else ".png"
    arguments.out = arguments.out or Path(f"explore{suffix}")
    if arguments.out.suffix != suffix:
        parser.error(f"argument --out: {arguments.out} does not end in {suffix}")
    if not arguments.out.resolve().parent.is_dir():
        parser.error(f"argument --out: {arguments.out.parent} is not a folder")
    arguments.bias = arguments.bias == "yes"
    return arguments


def main():
    arguments = parse()
    cifar, arguments.synthetic = data.load_at_hand(arguments.data_dir)
    chosen = choose(arguments)
    if arguments.animate:
        animate(chosen, cifar, arguments, arguments.out)
        return
    found = look(chosen, cifar, arguments.seed, arguments.added)
    first, last = 0, -1
    print(f"{'':<12}{'gradient':>12}{'images':>12}{'live':>8}   gradient: first/last; images: last/first; live: least")
    for name, (rows, *_) in found.items():
        gradient = rows[first]["gradient"] / rows[last]["gradient"] if rows[last]["gradient"] else 0.0
        variance = rows[first]["image_variance"]
        share = (rows[last]["image_variance"] / variance) ** 0.5 if variance else 0.0
        live = min(row["live"] for row in rows)
        print(f"{name:<12}{gradient:>12.1e}{share:>12.1e}{live:>8.0%}")
    plots.exploration(arguments.out, found, title_of(arguments))


if __name__ == "__main__":
    options.run_script(main)
