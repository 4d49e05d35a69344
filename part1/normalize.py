"""Question 1.2: normalize images to zero mean and unit standard deviation; what changes, and why so little?

The BatchNorm after the first convolution removes any shift of the convolution's input and any scale that all channels
share. Its backward pass gives the convolution the same gradient regardless of both. Two differences from raw pixels
remain: the border (the convolution pads with zeros, which are black in raw images and the mean color in normalized
images) and the unequal scales of the channels.

At the start of training, the first convolution's gradient on normalized images is compared (by cosine similarity) with
that on raw images: unchanged; with the mean color at the border; and with that border and each channel divided by its
standard deviation. In the last case only a shift remains. A control, "centered", is trained on pixels minus their mean.
BatchNorm removes this shift except at the border. If the border explains the difference, the control reaches the
accuracy of 1.2's network. (`--precision fp32` shows the effect of rounding to bf16.)

Predict before you run (with `--seeds 0 1 2`): how many points does normalization gain for a network with BatchNorm?
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
from torch.nn import functional as F

from common import data, experiment, options, plots, preprocess, results
from common.networks import table1_network


def prepare(images, statistics, generator=None):
    return preprocess.normalize(images, statistics)


def center(images, statistics, generator=None):
    return preprocess.raw(images) - statistics.mean


EXPERIMENT = experiment.Experiment("1.2", "normalize", table1_network, prepare)
CONTROL = experiment.Experiment("1.2", "centered", table1_network, center)
CURVE = plots.Curve("1.2", "normalize", "+ normalization", plots.VERMILION, "--", tick="1.2")


def first_gradient(inputs, border, labels):
    """Gradient `(2400,)` of conv1 at seed 0's initialization, fp32; `inputs` padded with `border` (3, 1, 1)."""
    torch.manual_seed(0)
    network = table1_network().to(inputs.device)
    network.conv1.padding = 0  # the images are padded below instead
    padded = F.pad(inputs - border, [2] * 4) + border
    F.cross_entropy(network(padded), labels).backward()
    return network.conv1.weight.grad.flatten()


def compare_gradients(images, labels, statistics):
    """Rows for variants of raw images: cosine and norm ratio of the gradients on them and on normalized images."""
    mean, std = statistics
    raw, black = preprocess.raw(images), torch.zeros_like(mean)
    expected = first_gradient(prepare(images, statistics), black, labels)
    rows = []
    for variant, inputs, border in [
        ("raw pixels", raw, black),
        ("raw pixels with mean border", raw, mean),
        ("raw pixels with mean border over std", raw / std, mean / std),
    ]:
        gradient = first_gradient(inputs, border, labels)
        cosine = F.cosine_similarity(gradient, expected, dim=0).item()
        rows.append({"input": variant, "cosine": cosine, "norm_ratio": (gradient.norm() / expected.norm()).item()})
    return rows


def channel_rows(statistics):
    """Rows: mean and standard deviation of each channel over the training images, in intensity levels."""
    mean, std = (values.flatten().tolist() for values in statistics)
    return [dict(zip(("channel", "mean", "std"), row)) for row in zip(("red", "green", "blue"), mean, std)]


def tables_in(out):
    return {name: results.log_path(out, "1.2", name) for name in ("gradients", "statistics")}


def draw(out):
    plots.accuracy_curves(out, CURVE, "Normalized")


def answer(out):
    """Test accuracy over the seeds, paired differences between the three inputs, cosines, and the statistics."""
    raw, normalized, centered = (
        results.log_path(out, question, name)
        for question, name in [("1.1", "raw"), ("1.2", "normalize"), ("1.2", "centered")]
    )
    gradients, statistics = (results.read_rows(table) for table in tables_in(out).values())
    return {
        "test": results.final_accuracy(normalized),
        "normalized minus raw": results.paired_difference(normalized, raw),
        "centered minus raw": results.paired_difference(centered, raw),
        "normalized minus centered": results.paired_difference(normalized, centered),
        "cosines": {row["input"]: row["cosine"] for row in gradients},
        "statistics": statistics,
    }


def main():
    arguments = options.parse(options.parser(__doc__))
    experiment.run(EXPERIMENT, arguments)
    experiment.run(CONTROL, arguments)

    def measure():
        cifar = data.load(arguments.data_dir, arguments.device)
        gradients = compare_gradients(cifar.train_images[:1000], cifar.train_labels[:1000], cifar.statistics)
        return {"gradients": gradients, "statistics": channel_rows(cifar.statistics)}

    experiment.measure_once(tables_in(arguments.out), (), arguments.retrain, measure)
    draw(arguments.out)
    found = answer(arguments.out)
    for name, cosine in found["cosines"].items():
        print(f"cosine between conv1's gradients on normalized images and on {name}: {cosine:.3f}")
    for name in ("normalized minus raw", "centered minus raw", "normalized minus centered"):
        print(f"{name}: {found[name] or 'unknown: needs two common seeds'}")
    print(plots.drawn(arguments.out))


if __name__ == "__main__":
    options.run_script(main)
