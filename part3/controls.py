"""Controls for question 3.2: when does an adversarial image fool a network that was not attacked?

Each network below is attacked with an equal number of steps of one level, on the same test images. All networks
that are not "source only" classify these images correctly. Each of them is shown the adversarial images crafted on
every other:

1.2, 1.3, 1.4, seed 1     Table 1's network with the pre-processing of 1.2, 1.3 and 1.4; 1.4 with another seed
first half (two seeds)    1.4, trained on the first 5,000 training images
last half                 1.4, trained on the last 5,000 training images
2.1, without BatchNorm    the designed network, and the same without BatchNorm (2.3's with no added layer); two seeds
2.4                       the solution
1,000 images, 2,500 …     1.2, trained on the first 1,000 or 2,500 training images; source only
…, shuffled labels        the same two with shuffled labels, which they memorize; source only
untrained                 1.4's network before training; source only

A source is a network that images are crafted on, and a target one that they are shown to. Accuracies are compared with
three possible causes (Demontis et al. 2019): the similarity of the two networks' gradients on the originals, the size
of the target's gradient, and the accuracy of the source; and with the distance of the target's decision boundary in the
direction of the source's first step. The similarity is also removed: steps along the source's gradient are compared
with steps along the part of it that is orthogonal to the target's. Finally, one step, many steps, and steps with
momentum are compared at equal total size.

Predict before you run: must the two networks have seen the same training images?
"""

import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import torch

from common import data, experiment, options, results
from common.experiment import weights_path
from common.networks import table1_network
from common.plots import drawn
from common.records import RecordError
from part1 import crop, flip, normalize
from part2 import accuracy, controls, solution
from part3 import plots
from part3.attack import UNREACHABLE, OnPixels, attack, gradient_attack, momentum_attack, predict
from part3.measures import gradients_of, levels_to_boundary, margins, mean_cosine, random_signs, share_correct
from part3.networks import on_pixels
from part3.transfer import EQUAL_STEPS as STEPS

IMAGES = 500  # test images
FEW, MORE = 1000, 2500  # training images of the networks that are only sources
RESAMPLED = 1000  # bootstrap samples of networks


def only(cifar, images):
    """The training images in this slice, and all test images."""
    return replace(cifar, train_images=cifar.train_images[images], train_labels=cifar.train_labels[images])


def half(cifar, which):
    """The first (0) or the last (1) half of the training images, and all test images."""
    middle = len(cifar.train_labels) // 2
    return only(cifar, slice(middle, None) if which else slice(middle))


def first(cifar, number):
    """The first training images, and all test images."""
    return only(cifar, slice(number))


def shuffled(cifar, number):
    """The first training images with shuffled labels, and all test images."""
    cifar = first(cifar, number)
    order = torch.randperm(len(cifar.train_labels), generator=torch.Generator().manual_seed(0))
    return replace(cifar, train_labels=cifar.train_labels[order.to(cifar.train_labels.device)])


def trained_otherwise(usual, name, trained_on):
    return usual._replace(question="3.2", name=name, trained_on=trained_on)


HALVES = [
    trained_otherwise(crop.EXPERIMENT, name, partial(half, which=which))
    for which, name in enumerate(("first_half", "last_half"))
]
SOURCES_ONLY = {
    label: trained_otherwise(normalize.EXPERIMENT, name, partial(images, number=number))
    for label, name, images, number in (
        ("1,000 images", "few_images", first, FEW),
        ("2,500 images", "more_images", first, MORE),
        ("1,000 images, shuffled labels", "shuffled_labels", shuffled, FEW),
        ("2,500 images, shuffled labels", "more_shuffled", shuffled, MORE),
    )
}
NETWORKS = {
    "1.2": (normalize.EXPERIMENT, 0),
    "1.3": (flip.EXPERIMENT, 0),
    "1.4": (crop.EXPERIMENT, 0),
    "1.4, seed 1": (crop.EXPERIMENT, 1),
    "1.4, first half": (HALVES[0], 0),
    "1.4, first half, seed 1": (HALVES[0], 1),
    "1.4, last half": (HALVES[1], 0),
    "2.1": (accuracy.EXPERIMENT, 0),
    "2.1, seed 1": (accuracy.EXPERIMENT, 1),
    "2.1 without BatchNorm": (controls.of_depth(0), 0),
    "2.1 without BatchNorm, seed 1": (controls.of_depth(0), 1),
    "2.4": (solution.experiment_of(solution.SOLUTION), 0),
}
UNTRAINED = "untrained"
FLOORS = (*SOURCES_ONLY, UNTRAINED)  # not shown any images, and not in the correlations
CAUSES = {
    "cosine": "cosine of the gradients",
    "levels": "distance of boundary (levels)",
    "victim_gradient": "target's gradient ($L_1$, 1/level)",
    "source_accuracy": "source's test accuracy (%)",
}


def tables_in(out):
    return {name: results.log_path(out, "3.2", name) for name in ("steps", "pairs")}


def pairs(networks, images, labels, accuracies):
    """Rows for each source and each target that is not in `FLOORS`: the target's accuracy, and the causes.

    `levels` and `own_levels` are `levels_to_boundary` of the target along the signs of the source's loss gradient and
    of the target's margin gradient.
    """
    gradients = {name: gradients_of(network, images, labels) for name, network in networks.items()}
    margins_of = {name: margins(network, images, labels) for name, network in networks.items() if name not in FLOORS}
    for source, attacked in networks.items():
        made = attack(attacked, images, labels, 1.0, UNREACHABLE, STEPS, source).images
        for victim, network in networks.items():
            if victim == source or victim in FLOORS:
                continue
            margin, slope = margins_of[victim]
            yield {
                "source": source,
                "victim": victim,
                "images": len(labels),
                "accuracy": share_correct(network, made, labels),
                "cosine": mean_cosine(gradients[source], gradients[victim]),
                "levels": levels_to_boundary(margin, slope, gradients[source].sign()),
                "own_levels": levels_to_boundary(margin, slope, -slope.sign()),
                "source_accuracy": accuracies[source],
                "victim_gradient": gradients[victim].abs().sum(1).mean().item(),
            }


def kinds_of_steps(networks, images, labels):
    """Rows for attacks on 1.4's network whose steps add up to `STEPS` levels, and for random signs of this size.

    A step along the gradient has the Euclidean length of a step of one level along the gradient's signs.
    """
    network, target = networks["1.4"], networks["2.1"]
    along_gradient = partial(gradient_attack, network, images, labels, 1.0, STEPS)
    made = {
        "random signs": (images + STEPS * random_signs(images)).clamp(0, 255),
        "one step": attack(network, images, labels, STEPS, UNREACHABLE, 1).images,
        f"{STEPS} steps": attack(network, images, labels, 1.0, UNREACHABLE, STEPS).images,
        f"{STEPS} steps with momentum": momentum_attack(network, images, labels, 1.0, STEPS),
        "along the gradient": along_gradient(),
        "orthogonal to 2.1's gradient": along_gradient(orthogonal_to=target),
        "turned by the same angle": along_gradient(orthogonal_to=target, control=True),
    }
    for kind, inputs in made.items():
        for victim in ("1.4", "2.1", "2.4"):
            yield {
                "attack": kind,
                "victim": victim,
                "images": len(labels),
                "linf_median": (inputs - images).abs().flatten(1).amax(1).median().item(),
                "l2_median": (inputs - images).flatten(1).norm(dim=1).median().item(),
                "accuracy": share_correct(networks[victim], inputs, labels),
            }


def measure(networks, images, labels):
    """The rows of each table."""
    right = {name: predict(network, images)[0] == labels for name, network in networks.items()}
    accuracies = {name: correct.float().mean().item() for name, correct in right.items()}
    trained = [correct for name, correct in right.items() if name not in FLOORS]
    by_all = torch.stack(trained).all(0).nonzero().flatten()[:IMAGES]
    if len(by_all) == 0:
        raise RecordError("no test image is classified correctly by all networks: none to attack")
    images, labels = images[by_all], labels[by_all]
    return {
        "steps": list(kinds_of_steps(networks, images, labels)),
        "pairs": list(pairs(networks, images, labels, accuracies)),
    }


def rank_correlation(first, second):
    """Spearman's rank correlation; equal values get their mean rank; NaN where all values are equal."""
    values = np.stack([first, second])[:, :, None]
    below, equal_or_below = (values.mT < values).sum(2), (values.mT <= values).sum(2)
    centered = (below + equal_or_below - len(first)) / 2  # minus their mean
    size = np.sqrt((centered**2).sum(1).prod())
    return centered.prod(0).sum() / size if size else np.nan


def correlations(rows):
    """For each cause, the rank correlation with the share of images that fool the target, and a 95 % interval.

    All pairs of networks outside `FLOORS` are used. Pairs that share a network are not independent, so the
    interval is from a bootstrap over networks, not pairs.
    """
    rows = [row for row in rows if row["source"] not in FLOORS]
    names = sorted({row["victim"] for row in rows})
    of_pair = {(row["source"], row["victim"]): row for row in rows}
    generator, found = np.random.default_rng(0), {}

    def correlation(drawn, cause):
        chosen = [of_pair[pair] for first in drawn for second in drawn if (pair := (first, second)) in of_pair]
        columns = [np.array([row[name] for row in chosen]) for name in (cause, "accuracy")]
        return rank_correlation(columns[0], -columns[1])

    for cause in CAUSES:
        resampled = [correlation(generator.choice(names, len(names)), cause) for _ in range(RESAMPLED)]
        low, high = np.nanpercentile(resampled, [2.5, 97.5])
        found[cause] = {"correlation": correlation(names, cause), "low": low, "high": high}
    return found


def draw(out):
    plots.causes_of_transfer(out, tables_in(out)["pairs"], CAUSES, FLOORS)


def answer(out):
    """The accuracy for each source and target, its correlations with the causes, and the attacks of equal size."""
    rows = results.read_rows(tables_in(out)["pairs"])
    return {
        "images": rows[0]["images"],
        "steps_taken": STEPS,
        "resampled": RESAMPLED,
        "accuracy": by_pair(rows, "accuracy"),
        "cosine": by_pair(rows, "cosine"),
        "levels": by_pair(rows, "levels"),
        "own_levels": by_pair(rows, "own_levels"),
        "compared": list(NETWORKS),
        "compared_pairs": sum(row["source"] not in FLOORS for row in rows),
        "correlations": correlations(rows),
        "steps": results.read_rows(tables_in(out)["steps"]),
    }


def by_pair(rows, column):
    """The column's values by source and target."""
    found = {}
    for row in rows:
        found.setdefault(row["source"], {})[row["victim"]] = row[column]
    return found


def main():
    arguments = options.parse(options.parser(__doc__))
    for each in (*HALVES, *SOURCES_ONLY.values()):
        experiment.run(each, arguments)

    def measure_all():
        cifar = data.load(arguments.data_dir, arguments.device)
        networks = {name: on_pixels(*of, cifar, arguments) for name, of in trained.items()}
        torch.manual_seed(0)
        new = table1_network().to(arguments.device)
        networks[UNTRAINED] = OnPixels(new, crop.EXPERIMENT.prepare, cifar.statistics).eval()
        return measure(networks, cifar.test_images, cifar.test_labels)

    trained = NETWORKS | {name: (each, 0) for name, each in SOURCES_ONLY.items()}
    weights = [weights_path(arguments.trained, *of) for of in trained.values()]
    experiment.measure_once(tables_in(arguments.out), weights, arguments.retrain, measure_all)
    draw(arguments.out)
    found = answer(arguments.out)
    for source, accuracies in found["accuracy"].items():
        line = ", ".join(f"{victim} {accuracy:.0%}" for victim, accuracy in accuracies.items())
        print(f"images crafted on {source}: {line}")
    for cause, row in found["correlations"].items():
        name = cause.replace("_", " ").replace("victim", "target")
        print(f"rank correlation of the share fooled with the {name}: {row['correlation']:.2f}", end=" ")
        print(f"({row['low']:.2f} to {row['high']:.2f})")
    for row in found["steps"]:
        print(f"{row['attack']}, shown to {row['victim']}: {row['accuracy']:.1%} right")
    print(drawn(arguments.out))


if __name__ == "__main__":
    options.run_script(main)
