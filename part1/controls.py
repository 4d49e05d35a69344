"""Controls for 1.2 to 1.4: does BatchNorm cancel the input's scale? Are augmented images harder, or only new?

`--normalization` trains all or the named ones of six controls: Table 1's network with BatchNorm on pixels divided by
255 (divided), and without it (…_without_batchnorm) on raw pixels (raw), on pixels divided by 255 (divided), on the
same minus their mean (centered), on pixels divided by their root mean square, as large as normalized ones but not
centered (scaled), and on normalized images (normalize). If BatchNorm explains why raw pixels do as well
as normalized ones, raw pixels must do worse without it, especially with `--optimizer sgd`, whose steps grow with the
gradient.

`--augmentation` trains Table 1's network in all or the named ones of four ways. crop_alone has the crops of 1.4 but
no flips. If crops gain less in 1.4 only because they are added to flips, crops alone must gain as much as flips
alone. flip_fixed flips half of the images, the same ones each time; crop_fixed has flips and crops, but each image is
cropped at the same position each time. roll_fixed shifts images likewise but loses no pixels: what leaves the image on
one side enters it on the other. If flips help because the network sees both orientations, and crops because it
learns to tolerate shifts, these must gain as much as 1.3 and 1.4. If they help because changing images are hard to
memorize, they must gain little.

`--shifts` evaluates the trained networks of 1.2 to 1.4 and that of crop_fixed on the first 5,000 training images and
the first 5,000 test images: unchanged, flipped, and shifted sideways by 2, 4 or 8 pixels, where the border is filled
with zeros or repeats the image's edge. A change that makes images harder lowers the accuracy on both. A change that was
never seen in training reduces the gap between the two.
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


def center_and_divide(images, statistics, generator=None):
    return normalize.center(images, statistics) / 255


def scale(images, statistics, generator=None):
    return preprocess.raw(images) / (statistics.mean**2 + statistics.std**2).mean().sqrt()


def crop_alone(images, statistics, generator=None):
    images = preprocess.normalize(images, statistics)
    return images if generator is None else preprocess.random_crop(images, generator)


def flip_fixed(images, statistics, generator=None):
    normalized = preprocess.normalize(images, statistics)
    if generator is None:
        return normalized
    heads = images.sum(dim=(1, 2, 3)) % 2 == 0
    return torch.where(heads.view(-1, 1, 1, 1), normalized.flip(-1), normalized)


def crop_fixed(images, statistics, generator=None):
    normalized = flip.prepare(images, statistics, generator)
    if generator is None:
        return normalized
    number = images.sum(dim=(1, 2, 3))  # differs between images, and is the same for an image and its mirror image
    return preprocess.crop(normalized, number % 9, number // 9 % 9, padding=4)


def roll_fixed(images, statistics, generator=None):
    normalized = flip.prepare(images, statistics, generator)
    if generator is None:
        return normalized
    number = images.sum(dim=(1, 2, 3)).view(-1, 1)  # as in crop_fixed
    position = torch.arange(images.shape[-1], device=images.device)
    rows, columns = ((position + offset - 4) % images.shape[-1] for offset in (number % 9, number // 9 % 9))
    image = torch.arange(len(images), device=images.device).view(-1, 1, 1)
    return normalized[image, :, rows[:, :, None], columns[:, None]].permute(0, 3, 1, 2)  # indexed as (N, H, W, 3)


INPUTS = {
    "raw": raw.prepare,
    "divided": divide,
    "centered": center_and_divide,
    "scaled": scale,
    "normalize": normalize.prepare,
}
WITHOUT = {
    name: Experiment("1.2", f"{name}_without_batchnorm", network_without_batchnorm, prepare)
    for name, prepare in INPUTS.items()
}
DIVIDED = Experiment("1.2", "divided", table1_network, divide)
AUGMENTATIONS = {
    each.name: each
    for each in (
        Experiment("1.3", "flip_fixed", table1_network, flip_fixed),
        Experiment("1.4", "crop_alone", table1_network, crop_alone),
        Experiment("1.4", "crop_fixed", table1_network, crop_fixed),
        Experiment("1.4", "roll_fixed", table1_network, roll_fixed),
    )
}
EXPERIMENTS = {each.name: each for each in (*WITHOUT.values(), DIVIDED)}
AUGMENTED = (*(script.EXPERIMENT for script in (normalize, flip, crop)), AUGMENTATIONS["crop_fixed"])


def shift(images: torch.Tensor, right: int, mode: str = "constant") -> torch.Tensor:
    """Shift images `(N, C, H, W)` by `right` pixels (negative: left).

    The border is filled with zeros, or in mode "replicate" with the image's edge.
    """
    width, padding = images.shape[-1], abs(right)
    return F.pad(images, [padding, padding, 0, 0], mode)[..., padding - right :][..., :width]


def measure_shifts(network, cifar):
    """Rows of accuracy on the first training and test images: unchanged, flipped, and shifted right or left."""

    def changed(images, statistics, generator=None, flipped=False, right=0, mode="constant"):
        inputs = preprocess.normalize(images, statistics)
        return shift(inputs.flip(-1) if flipped else inputs, right, mode)

    changes = {"none": [{}], "flip": [{"flipped": True}]}
    for mode, name in [("constant", "shift"), ("replicate", "shift with edge")]:
        for pixels in SHIFTS:
            changes[f"{name} {pixels}"] = [{"right": right, "mode": mode} for right in (pixels, -pixels)]
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

    `flip_fixed` is the gain from flipping always the same images, over 1.2; `crop_alone`, that from crops without
    flips, over 1.2; `crop_fixed` and `roll_fixed`, those from fixed crops and fixed circular shifts, over 1.3.
    """
    augmented = {name: results.log_path(out, each.question, name) for name, each in AUGMENTATIONS.items()}
    logs = {
        "with BatchNorm": {
            "raw": raw.CURVE.log(out),
            "divided": results.log_path(out, "1.2", DIVIDED.name),
            "centered": results.log_path(out, "1.2", normalize.CONTROL.name),
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
        **{
            " minus ".join(pair): results.paired_difference(*(logs["with BatchNorm"][name] for name in pair))
            for pair in [("divided", "raw"), ("centered", "divided")]
        },
        "flip_fixed": results.paired_difference(augmented["flip_fixed"], normalize.CURVE.log(out)),
        "crop_alone": results.paired_difference(augmented["crop_alone"], normalize.CURVE.log(out)),
        "crop_fixed": results.paired_difference(augmented["crop_fixed"], flip.CURVE.log(out)),
        "roll_fixed": results.paired_difference(augmented["roll_fixed"], flip.CURVE.log(out)),
        "shifts": {" ".join(key): results.mean_of(accuracies) for key, accuracies in shifts.items()},
    }


def main():
    parser = options.parser(__doc__)
    control = parser.add_mutually_exclusive_group(required=True)
    text = "train without BatchNorm, and on pixels / 255"
    control.add_argument("--normalization", nargs="*", choices=EXPERIMENTS, metavar="NAME", help=text)
    text = "train with crops but without flips, and with fixed flips, crops and shifts"
    control.add_argument("--augmentation", nargs="*", choices=AUGMENTATIONS, metavar="NAME", help=text)
    control.add_argument("--shifts", action="store_true", help="evaluate networks on flipped and shifted images")
    arguments = options.parse(parser)
    if arguments.normalization is not None:
        for name in arguments.normalization or EXPERIMENTS:
            experiment.run(EXPERIMENTS[name], arguments)
    elif arguments.augmentation is not None:
        for name in arguments.augmentation or AUGMENTATIONS:
            experiment.run(AUGMENTATIONS[name], arguments)
    else:
        table = results.log_path(arguments.out, "1.4", "shifts")
        for each in AUGMENTED:
            experiment.run(each, arguments)
            experiment.measure_trained(each, table, measure_shifts, arguments)
    found = answer(arguments.out)
    for kind, accuracies in found["inputs"].items():
        for name, accuracy in accuracies.items():
            print(f"{kind:<18} {name:<10} {accuracy}")
    for name, what in [
        ("flip_fixed", "flipping the same images each time, over 1.2"),
        ("crop_alone", "crops without flips, over 1.2"),
        ("crop_fixed", "crops at fixed positions, over 1.3"),
        ("roll_fixed", "fixed circular shifts, over 1.3"),
    ]:
        print(f"gain from {what}: {found[name] or 'unknown: needs two common seeds'}")
    for key, accuracy in found["shifts"].items():
        print(f"{key:<24} {accuracy}")


if __name__ == "__main__":
    options.run_script(main)
