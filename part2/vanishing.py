"""Question 2.3: 20 more convolutions between the first and the second, and no BatchNorm: what happens, and why?

The network learns nothing, because no gradient reaches its first layers and no image its last. Why,
measured on new networks before any training (5 initialisations, 32 images):

(a) Backward. PyTorch draws a convolution's weights from U(-1/√n, 1/√n), n = channels · 5 · 5, which has
    variance 1/(3n). A gradient that goes back through it becomes a sum of n terms with a third of its mean
    square, and ReLU lets half of that pass: a layer leaves √(1/6) = 0.41 of the gradient's scale, 20 layers
    2e-8. Measured factors differ by what theory leaves out: the share of ReLUs that are active is not
    exactly half, and at the border a kernel reaches over zeros, where part of a gradient is lost.
(b) Forward. What distinguishes one image from another shrinks in the same way, and at first faster: ReLU
    leaves 0.34 of the variance of what is centred on zero, half of what differs little. Biases do not
    shrink: each layer adds new ones. So deep outputs are the same for every image, and so is the answer;
    the best that one answer for all can do on 10 classes is a loss of ln 10 = 2.303.
(c) It takes both: `--depth 0` trains the network without the added layers and without BatchNorm, `--batchnorm`
    with both.
(d) In training, what is the same for all images also dies for all: a ReLU that one step switches off gets no
    gradient that could switch it on again. Once a layer has none left, G is exactly 0 from there back to the
    first. Measured on the trained networks, as the share of each layer's channels that let pass anything of
    any of 500 training images. What no gradient holds, weight decay shrinks besides. `--sgd` trains without
    it, and with steps as small as the gradients are (Muon, the procedure's optimizer, gives every step the
    same size, unless the gradient's norm is far below 1e-7): G ends in the same way.
"""

import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np

from common import experiment, options, plots
from common.experiment import (
    Experiment,
    geometric_mean,
    last_epoch,
    least_active,
    left_by_a_layer,
    log_path,
    magnitudes_of,
    signals_of,
)
from common.gradients import DEFAULT_FACTOR
from common.training import PLAIN_SGD, Settings
from part2.accuracy import prepare
from part2.cures import he_initialized
from part2.networks import ADDED, GhostBatchNorm2d, vanishing_network

MOST = 100  # added layers that `--depth` takes
SUMMARY = """\
training: accuracy {training}, loss {loss} in the last epoch, that of chance is ln 10; no gradient at all reaches \
the first convolution after iteration {silent} (of each seed); of the layer with least of them, {active} of the \
channels are active
gradients: G is {first} in the first convolution at the first step, {last} in the last; an added layer leaves {left} \
of the scale (theory: {theory}, with the measured share of active ReLUs {theory_active})
images: of the outputs' mean square, a share of {varies_first} varies from image to image after the first \
convolution, {varies_last} after the last added one"""


def name_of(added, sgd=False):
    return ("sgd_" if sgd else "") + ("vanishing" if added == ADDED else f"depth{added}")


def experiment_of(added=ADDED, sgd=False):
    settings = replace(PLAIN_SGD, weight_decay=0.0) if sgd else Settings()
    make_network = partial(vanishing_network, added)
    return Experiment("2.3", name_of(added, sgd), make_network, prepare, settings, log_gradients=True)


def train(arguments):
    if arguments.batchnorm:
        control = partial(vanishing_network, norm=GhostBatchNorm2d)
        experiment.run(Experiment("2.3", "batchnorm", control, prepare, log_gradients=True), arguments)
        return
    for added in arguments.depth:
        experiment.run(experiment_of(added, arguments.sgd), arguments)
        if added == ADDED:
            experiment.measure_active(experiment_of(added, arguments.sgd), arguments)


def trained(out):
    """The finished logs by number of added layers."""
    logs = {added: log_path(out, "2.3", name_of(added)) for added in range(MOST + 1)}
    return {added: log for added, log in logs.items() if log.exists() and experiment.finished(log)}


def draw(out):
    """The figures of what has been trained."""
    logs, sgd = trained(out), log_path(out, "2.3", name_of(ADDED, sgd=True))
    normalized = {0: log_path(out, "2.1", "accuracy"), ADDED: log_path(out, "2.3", "batchnorm")}
    normalized = {added: log for added, log in normalized.items() if experiment.finished(log)}
    if len(logs) > 1:
        plots.depths(out, {"no BatchNorm": logs, "BatchNorm": normalized})
    if ADDED in logs:
        title = "20 more convolutions, no BatchNorm"
        plots.accuracy_curves(out, "2.3", "vanishing", title)
        gradients = {"Muon, the procedure": logs[ADDED]} | ({"plain SGD": sgd} if experiment.finished(sgd) else {})
        plots.gradient_curves(out, "2.3", gradients)
        plots.heat_map(out, "2.3", logs[ADDED], title)
        labels = {"vanishing": "PyTorch's default", "he": "He initialisation"}
        plots.signals(out, "2.3", labels, theory=("vanishing", ADDED))


def last_gradients(log):
    """The last iteration at which G of the first convolution is not exactly 0, for each seed."""
    return ", ".join(str(np.max(np.flatnonzero(seed) + 1, initial=0)) for seed in magnitudes_of(log)[:, 0])


def answer(out):
    """What training came to, what becomes of the gradients, and what becomes of the images; numbers as text."""
    log, signals, table = (log_path(out, "2.3", name) for name in ("vanishing", "signals", "active"))
    start, _ = experiment.start_and_end(log)
    square, variance, active = (
        geometric_mean(signals_of(signals, "vanishing", column), axis=0)
        for column in ("mean_square", "image_variance", "active")
    )
    return {
        "training": f"{100 * last_epoch(log, 'train_accuracy'):.1f} %",
        "loss": f"{last_epoch(log, 'loss'):.4f}",
        "silent": last_gradients(log),
        "active": least_active(table, "vanishing"),
        "active_sgd": least_active(table, name_of(ADDED, sgd=True)),
        "first": f"{start[0]:.1e}",
        "last": f"{start[-1]:.1e}",
        "left": f"{left_by_a_layer(signals, 'vanishing', ADDED):.3f}",
        "theory": f"{DEFAULT_FACTOR**0.5:.3f}",
        "theory_active": f"{geometric_mean(active[:ADDED] / 3, axis=0) ** 0.5:.3f}",
        "varies_first": f"{variance[0] / square[0]:.2g}",
        "varies_last": f"{variance[ADDED] / square[ADDED]:.1e}",
        "differs_last": f"{(variance[ADDED] / square[ADDED]) ** 0.5:.1e}",
    }


def with_batchnorm(out):
    """G of the first convolution at the first step with all added layers and BatchNorm, as text."""
    start, _ = experiment.start_and_end(log_path(out, "2.3", "batchnorm"))
    return f"{start[0]:.2g}"


def main():
    parser = options.parser(__doc__)
    variant = parser.add_mutually_exclusive_group()
    variant.add_argument(
        "--depth",
        type=options.whole_number(0, MOST),
        nargs="+",
        default=[ADDED],
        metavar="N",
        help="train with N added layers (default: 20)",
    )
    variant.add_argument("--sgd", action="store_true", help="train with plain SGD and without weight decay")
    variant.add_argument("--batchnorm", action="store_true", help="train with the added layers and with BatchNorm")
    arguments = options.parse(parser)
    train(arguments)
    networks = {"vanishing": vanishing_network, "he": he_initialized}
    experiment.measure_signals("2.3", networks, prepare, arguments)
    draw(arguments.out)
    if ADDED in trained(arguments.out):
        print(SUMMARY.format(**answer(arguments.out)))


if __name__ == "__main__":
    options.run_script(main)
