"""Question 2.3: 20 more convolutions between the first and the second, and no BatchNorm: what happens, and why?

The network learns nothing: gradients vanish toward the input, differences between images toward the output.

(a) Backward, measured on new networks before any training (5 initializations, 32 images). PyTorch draws a
    convolution's weights from U(-1/√n, 1/√n), n = channels · 5 · 5, which has variance 1/(3n). In the backward
    pass a gradient becomes a sum of n terms with a third of its mean square, and ReLU passes half of that. A layer
    thus leaves √(1/6) = 0.41 of the gradient's scale, and 20 layers leave 1.7e-8. In later layers, growing widths
    leave more, and max pooling passes a gradient to one position of four, which halves its scale
    (`signals.predicted_gradient`). Measured factors differ because the share of active ReLUs is not exactly half,
    and because kernels extend over the zero padding at the border, where part of a gradient is lost.
(b) Forward, on the same networks. Differences between images shrink in the same way, and faster at first: ReLU
    leaves 0.34 of the variance of values centered on zero, and half where values differ little. The contribution
    of biases does not, because each layer adds new ones. So the last outputs, and the prediction, are the same for all
    images. With 10 classes, the lowest loss of one prediction for all images is ln 10 = 2.303.
(c) In training, Muon scales small gradients up, so the added layers change, and G of the first
    convolution rises for a while. But a channel that is equal for all images also dies for all: once a step makes it
    negative, its ReLU passes no gradient that could revive it. When no channel of a layer is live, G is exactly 0
    from this layer back to the first, and in the next layer, whose input is 0. After 1, 10, … 2,000 iterations, (a),
    (b) and each layer's share of live channels (above zero anywhere for any of 32 training images) are measured.

Predict before you run: by how many powers of ten is the gradient smaller after the first convolution than after the
last?

part2/explore.py shows this for other networks. part2/controls.py has the controls: other depths, BatchNorm, plain SGD,
and networks in which (a) or (b) is repaired. With half of Muon's learning rate and with clipping, every seed learns
something if (b) is repaired, but only some seeds do if only (a) is.
"""

import math
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import torch
from torch import nn

from common import data, experiment, options, results
from common.experiment import Experiment
from common.plots import BLACK, SKY, VERMILION, Curve, accuracy_curves, drawn
from common.settings import Settings
from part2 import cures, plots, signals
from part2.accuracy import prepare
from part2.networks import ADDED, batchnorm_network, deep_network

TITLE = "20 added convolutions, no BatchNorm"


def vanishing_network(added=ADDED):
    """2.1's network without BatchNorm, with `added` 5×5 convolutions (16 to 16 channels) after the first."""
    layers = []
    for _ in range(added):
        layers += [nn.Conv2d(16, 16, kernel_size=5, padding=2, stride=1), nn.ReLU()]
    return deep_network(layers)


def circular_network():
    """2.3's network with circular padding in the added layers: no kernel extends over zeros at the border."""
    layers = []
    for _ in range(ADDED):
        layers += [nn.Conv2d(16, 16, kernel_size=5, padding=2, stride=1, padding_mode="circular"), nn.ReLU()]
    return deep_network(layers)


def watch(network, cifar):
    """Gradients and differences between images during training, measured as in new networks."""
    return signals.signals(network.double(), *signals.measured_on(cifar, prepare))


EXPERIMENT = Experiment("2.3", "vanishing", vanishing_network, prepare, log_gradients=True, watch=watch)
CURVE = Curve("2.3", "vanishing", "20 added layers", VERMILION, "--", tick="2.3")
NEW_NETWORKS = {  # whose signals are measured, and how they are drawn
    "vanishing": (vanishing_network, CURVE._replace(label="PyTorch's default")),
    "he": (cures.he_initialized, Curve("2.4", "he", "He initialization", SKY, (0, (1, 1)))),
    "batchnorm": (batchnorm_network, Curve("2.3", "batchnorm", "BatchNorm", BLACK, (0, (5, 1)))),
}


def draw(out):
    accuracy_curves(out, CURVE, TITLE)
    draw_training(out)
    plots.heat_map(out, "2.3", CURVE.log(out), TITLE)
    curves = {name: curve for name, (_, curve) in NEW_NETWORKS.items()}
    theory = {"vanishing": signals.predicted_gradient(vanishing_network())}
    theory["batchnorm"] = signals.BATCHNORM_FACTOR ** (np.arange(ADDED, -1, -1) / 2)
    plots.signal_curves(out, "2.3", curves, theory)


def draw_training(out):
    """Draw the run with Muon and, if any, with clipped SGD (part2/controls.py)."""
    curves = [CURVE._replace(label="Muon"), Curve("2.3", "sgd_clipped", "clipped SGD")]
    logs = {curve.label: curve.log(out) for curve in curves if results.finished(curve.log(out))}
    plots.gradient_curves(out, "2.3", logs)
    plots.course(out, "2.3", curves)


def answer(out):
    """The outcome of training, and how gradients and image differences vanish."""
    log, table = CURVE.log(out), results.log_path(out, "2.3", "signals")
    start, _ = signals.start_and_end(log)
    first, last = 0, ADDED  # the first convolution, and the last added one
    gradient, square, variance = (
        signals.geometric_mean(signals.column(table, "vanishing", name), axis=0)
        for name in ("gradient", "mean_square", "image_variance")
    )
    predicted = signals.predicted_gradient(vanishing_network())
    return {
        "test": results.final_accuracy(log),
        "train_accuracy": results.last_epoch(log, "train_accuracy"),
        "loss": results.last_epoch(log, "loss"),
        "first_step": {"first": start[0], "last": start[-1]},  # G
        "last_nonzero": signals.last_nonzero(log),
        "last_nonzero_of_last": signals.last_nonzero(log, layer=-1),
        "peak": signals.peak(log),
        "dead_from": signals.dead_from(out, "2.3", EXPERIMENT.name),
        "dead_and_zero": signals.dead_and_zero(out, "2.3", EXPERIMENT.name),
        "gradient_factor": signals.gradient_factor(table, "vanishing", ADDED),
        "circular": {
            "difference_factor": signals.difference_factor(table, "circular", ADDED),
            "difference_theory": signals.active_factor(table, "circular", slice(1, 1 + ADDED)),
        },
        "theory": signals.DEFAULT_FACTOR**0.5,
        "left": {  # gradient at the last added and the first convolution, over the last one's
            "measured": {"last_added": gradient[last] / gradient[-1], "first": gradient[first] / gradient[-1]},
            "theory": {"last_added": predicted[last], "first": predicted[first]},
        },
        "batchnorm": {
            "gradient_factor": signals.gradient_factor(table, "batchnorm", ADDED),
            "theory": signals.BATCHNORM_FACTOR**0.5,
            "softmax_input": signals.softmax_input(table, "batchnorm"),
        },
        "theory_with_active": signals.active_factor(table, "vanishing", slice(ADDED)),
        "difference_factor": signals.difference_factor(table, "vanishing", ADDED),
        "image_share": {"first": variance[first] / square[first], "last": variance[last] / square[last]},
    }


def new_network(cifar):
    """Measure (a) and (b) in a new network: the scales after each convolution, and those that theory predicts.

    Gradients are relative to the last convolution, differences between images to the first.
    """
    torch.manual_seed(0)
    rows = watch(vanishing_network(), cifar)
    predicted = signals.predicted_gradient(vanishing_network())
    return [
        {
            "convolution": row["convolution"],
            "gradient": row["gradient"] / rows[-1]["gradient"],
            "gradient_theory": predicted[row["convolution"] - 1],
            "images": (row["image_variance"] / rows[0]["image_variance"]) ** 0.5,
            "images_theory": signals.DEFAULT_FACTOR ** ((row["convolution"] - 1) / 2),
        }
        for row in rows[: 1 + ADDED]
    ]


def show_new_network(rows):
    print("Measured now, in a new network: the scale of the gradient relative to that at the last convolution,")
    print("and of the differences between images relative to that after the first.")
    print("convolution   gradient    theory     images    theory")
    for row in rows[::5]:
        backward = f"{row['gradient']:8.1e}   {row['gradient_theory']:7.1e}"
        print(f"{row['convolution']:>11}   {backward}   {row['images']:8.1e}   {row['images_theory']:7.1e}")


def show_how_to_run(cifar, arguments):
    """Two commands, and how long they take on this device, estimated from a few steps."""
    from common.training import train  # here, because drawing from logs needs no trainer

    steps = 4
    cifar = cifar.to(arguments.device)
    *_, seconds = train(vanishing_network, prepare, cifar, Settings(iterations=steps), 0, arguments.precision)
    short, full = (math.ceil(seconds / steps / 60 * iterations) for iterations in (300, Settings().iterations))
    print(f"To see it fail on this machine (about {short} min): python part2/vanishing.py --iterations 300")
    print(f"To train one seed in full (about {full} min): python part2/vanishing.py --retrain --out mine")


def show_answer(found):
    start, share, batchnorm = found["first_step"], found["image_share"], found["batchnorm"]
    print(f"1. Training fails: training accuracy is {found['train_accuracy']:.1%} in the last epoch, the loss")
    print(f"   {found['loss']:.4f}; without any information about the images the loss is ln 10 = 2.3026.")
    print(f"2. Gradients vanish: G at the first step is {start['last']:.1e} in the last convolution and")
    print(
        f"   {start['first']:.1e} in the first. Each added layer scales the gradient by {found['gradient_factor']:.3f}"
    )
    print(f"   (theory: {found['theory']:.3f}).")
    print(f"   With BatchNorm, by {batchnorm['gradient_factor']:.3f} (theory: {batchnorm['theory']:.3f}).")
    print(f"3. Image differences vanish: variance / mean square is {share['first']:.2g} after the first")
    print(f"   convolution, {share['last']:.1e} after the last added one.")
    print("4. ReLUs die: the last iteration at which G of the first convolution is not 0 is")
    print(f"   {', '.join(map(str, found['last_nonzero']))} (by seed).")


def main():
    arguments = options.parse(options.parser(__doc__))
    at_hand, _ = data.load_at_hand(arguments.data_dir)
    show_new_network(new_network(at_hand))
    experiment.run(EXPERIMENT, arguments)
    table = results.log_path(arguments.out, "2.3", "signals")  # (a) and (b): of new networks
    makers = {name: make_network for name, (make_network, _) in NEW_NETWORKS.items()} | {"circular": circular_network}
    signals.update_table(table, makers, prepare, arguments)
    draw(arguments.out)
    print(f"\nFrom the logs ({results.origin(CURVE.log(arguments.out))}):")
    show_answer(answer(arguments.out))
    print(drawn(arguments.out))
    if not results.departures(arguments.out):
        show_how_to_run(at_hand, arguments)


if __name__ == "__main__":
    options.run_script(main)
