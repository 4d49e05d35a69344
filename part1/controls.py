"""Controls for 1.2 to 1.4: what hides the scale of the input, and are augmented images harder or only new?

`--normalization` trains Table 1's network without BatchNorm on raw pixels, on pixels divided by 255 and on normalized
images, and with BatchNorm on pixels divided by 255 (`divided`); all of them, unless some are named. If BatchNorm
explains why raw pixels do as well as normalized ones, raw pixels must do worse without it, especially with
`--optimizer sgd`, whose steps grow with the gradient.

`--crops-alone` trains it with the crops of 1.4 but without flips. If crops gain less than flips in 1.4 only because
they come second, they must gain as much without flips.

`--shifts` evaluates the trained networks of 1.2, 1.3 and 1.4 on the first 5,000 training images and the first 5,000
test images: unchanged, flipped, and shifted by up to 8 pixels. A change that makes images harder lowers the accuracy on
both. A change that was never seen in training reduces the gap between the two.
"""

import sys
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
from torch import nn
from torch.nn import functional as F

from common import experiment, options, preprocess, results
from common.experiment import Experiment
from common.networks import evaluate, table1_network
from part1 import crop, flip, normalize, raw

IMAGES = 5000  # of each set
SHIFTS = (2, 4, 8)  # pixels


def network_without_batchnorm():
    """Table 1's network; biases take the place of BatchNorm."""
    return nn.Sequential(
        nn.Conv2d(3, 32, kernel_size=5, padding=2),
        nn.ReLU(),
        nn.AvgPool2d(kernel_size=2, stride=2),
        nn.Conv2d(32, 32, kernel_size=5, padding=2),
        nn.ReLU(),
        nn.AvgPool2d(kernel_size=2, stride=2),
        nn.Conv2d(32, 64, kernel_size=5, padding=2),
        nn.ReLU(),
        nn.AvgPool2d(kernel_size=2, stride=2),
        nn.Flatten(),
        nn.Linear(64 * 4 * 4, 64),
        nn.ReLU(),
        nn.Linear(64, 10),
    )


def divide(images, statistics, generator=None):
    return preprocess.raw(images) / 255


def crop_alone(images, statistics, generator=None):
    images = preprocess.normalize(images, statistics)
    return images if generator is None else preprocess.random_crop(images, generator)


INPUTS = {"raw": raw.prepare, "divided": divide, "normalize": normalize.prepare}
WITHOUT = {
    name: Experiment("1.2", f"{name}_without_batchnorm", network_without_batchnorm, prepare)
    for name, prepare in INPUTS.items()
}
DIVIDED = Experiment("1.2", "divided", table1_network, divide)
CROP_ALONE = Experiment("1.4", "crop_alone", table1_network, crop_alone)
EXPERIMENTS = {each.name: each for each in (*WITHOUT.values(), DIVIDED)}
AUGMENTED = {script.EXPERIMENT.name: script.EXPERIMENT for script in (normalize, flip, crop)}


def shift(images: torch.Tensor, right: int) -> torch.Tensor:
    """Shift images `(N, C, H, W)` to the right (to the left if negative), filling with zeros."""
    return F.pad(images, [right, -right, 0, 0])


def measure_shifts(network, cifar):
    """Rows of accuracy on the first training and test images: unchanged, flipped, and shifted right or left."""

    def changed(images, statistics, generator=None, flipped=False, right=0):
        inputs = preprocess.normalize(images, statistics)
        return shift(inputs.flip(-1) if flipped else inputs, right)

    changes = {"none": [{}], "flip": [{"flipped": True}]}
    changes |= {f"shift {pixels}": [{"right": pixels}, {"right": -pixels}] for pixels in SHIFTS}
    rows = []
    for batch, images, labels in [
        ("train", cifar.train_images, cifar.train_labels),
        ("test", cifar.test_images, cifar.test_labels),
    ]:
        for change, variants in changes.items():
            found = [
                evaluate(network, partial(changed, **variant), images[:IMAGES], labels[:IMAGES], cifar.statistics)[0]
                for variant in variants
            ]
            rows.append({"batch": batch, "change": change, "accuracy": sum(found) / len(found)})
    return rows


def answer(out):
    """Test accuracy by input with and without BatchNorm; mean accuracy over seeds by network, set and change.

    `crops_alone` is the gain from crops without flips, over 1.2.
    """
    alone = results.log_path(out, "1.4", CROP_ALONE.name)
    logs = {
        "with BatchNorm": {
            "raw": raw.CURVE.log(out),
            "divided": results.log_path(out, "1.2", DIVIDED.name),
            "normalize": normalize.CURVE.log(out),
        },
        "without BatchNorm": {name: results.log_path(out, "1.2", each.name) for name, each in WITHOUT.items()},
    }
    shifts = {}
    for row in results.read_rows(results.log_path(out, "1.4", "shifts")):
        shifts.setdefault((row["name"], row["batch"], row["change"]), []).append(row["accuracy"])
    return {
        "inputs": {
            kind: {name: results.final_accuracy(log) for name, log in of.items() if results.finished(log)}
            for kind, of in logs.items()
        },
        "divided minus raw": results.paired_difference(*(logs["with BatchNorm"][name] for name in ("divided", "raw"))),
        "crops_alone": results.paired_difference(alone, normalize.CURVE.log(out)),
        "shifts": {" ".join(key): results.mean_of(accuracies) for key, accuracies in shifts.items()},
    }


def main():
    parser = options.parser(__doc__)
    control = parser.add_mutually_exclusive_group(required=True)
    text = "train without BatchNorm, and on pixels / 255"
    control.add_argument("--normalization", nargs="*", choices=EXPERIMENTS, metavar="NAME", help=text)
    control.add_argument("--crops-alone", action="store_true", help="train with crops but without flips")
    control.add_argument("--shifts", action="store_true", help="evaluate networks on flipped and shifted images")
    arguments = options.parse(parser)
    if arguments.normalization is not None:
        for name in arguments.normalization or EXPERIMENTS:
            experiment.run(EXPERIMENTS[name], arguments)
    elif arguments.crops_alone:
        experiment.run(CROP_ALONE, arguments)
    else:
        table = results.log_path(arguments.out, "1.4", "shifts")
        for each in AUGMENTED.values():
            experiment.run(each, arguments)
            experiment.measure_trained(each, table, measure_shifts, arguments)
    found = answer(arguments.out)
    for kind, accuracies in found["inputs"].items():
        for name, accuracy in accuracies.items():
            print(f"{kind:<18} {name:<10} {accuracy}")
    print(f"crops without flips, minus 1.2: {found['crops_alone']}")
    for key, accuracy in found["shifts"].items():
        print(f"{key:<24} {accuracy}")


if __name__ == "__main__":
    options.run_script(main)
