"""Question 3.2: how does 2.1's network classify the images that were made to fool 1.4's, and why?

2.1's network was not used to make them. Its accuracy on the adversarial images is compared with that on controls: the
original images, changes of the same size at each pixel but with random signs, and the change made for another image.
This is repeated on every test image that 1.4's network classifies correctly. Also measured are how
similar the networks' gradients with respect to an image are, and how often the second network makes the same mistake
as the first. Finally, three networks, 2.4's among them, are attacked and the images are shown to the others: once
until the attacked network is sure of a wrong category, which takes a larger change for some networks than for others,
and once with an equal number of steps.

Predict before you run: does the second network give the same wrong answers as the first, or others?
"""

import sys
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import torch

from common import data, experiment, options, results
from common.plots import drawn
from part3 import adversarial, plots
from part3.attack import UNREACHABLE, attack, predict
from part3.measures import alignment, feed, shown_to_others
from part3.networks import NETWORKS, network_on_pixels, weights_of

SOURCE, VICTIM, THIRD, TWIN = "1.4", "2.1", "2.4", "1.4, seed 1"
FEW = 500  # test images for measurements that need many gradients
EQUAL_STEPS = 8  # about the mean number that it takes to fool 1.4's network
EQUAL = f"{EQUAL_STEPS} steps for all"


def shown_images(out, device):
    """The images of question 3.1 as they were saved: originals and adversarial ones, 0..255, and true categories."""
    rows, *images = zip(*plots.read_pairs(out, adversarial.tables_in(out)["adversarial"]))
    originals, attacked = (
        torch.from_numpy(255 * np.stack(kind)).round().permute(0, 3, 1, 2).to(device) for kind in images
    )
    return originals, attacked, torch.tensor([row["category"] for row in rows], device=device)


def tables_in(out):
    names = ("epsilon", "matrix", "alignment", "verdicts", "transfer")
    return {name: results.log_path(out, "3.2", name) for name in names}


def measure(networks, images, labels, shown, epsilon, max_iterations):
    """The rows of each table. `networks` is keyed by name; `shown` is the result of `shown_images`."""
    attack_of = partial(attack, epsilon=epsilon, max_iterations=max_iterations)
    three = {name: networks[name] for name in (SOURCE, VICTIM, THIRD)}
    correct = {name: predict(network, images)[0] == labels for name, network in three.items()}

    by_all = torch.stack(list(correct.values())).all(0).nonzero().flatten()[:FEW]
    aligned = alignment(three | {TWIN: networks[TWIN]}, images[by_all], labels[by_all])
    attacks = {
        "until 99 % confidence": attack_of,
        EQUAL: partial(attack_of, confidence=UNREACHABLE, max_iterations=EQUAL_STEPS),
    }
    rows = {
        "alignment": list(aligned),
        "matrix": list(shown_to_others(three, images[by_all], labels[by_all], attacks)),
        "epsilon": [],
    }

    source, victim = networks[SOURCE], networks[VICTIM]
    images, labels = images[correct[SOURCE]], labels[correct[SOURCE]]
    first, first_labels = images[: adversarial.SWEPT], labels[: adversarial.SWEPT]
    for step in adversarial.EPSILONS:
        attacked = attack_of(source, first, first_labels, epsilon=step, description=f"epsilon {step:g}").images.round()
        fed = feed(victim, source, first, attacked, first_labels, "first", VICTIM)
        rows["epsilon"] += [{"epsilon": step, **row} for row in fed]

    attacked = attack_of(source, images, labels, description="all test images").images.round()
    rows["verdicts"], rows["transfer"] = [], []
    for name in (VICTIM, THIRD):
        categories, confidences = (each.tolist() for each in predict(networks[name], shown[1]))
        for number, (category, confidence) in enumerate(zip(categories, confidences)):
            row = {"shown": number, "victim": name, "category": category, "confidence": confidence}
            rows["verdicts"].append(row)
        rows["transfer"] += feed(networks[name], source, *shown, "shown", name)
        rows["transfer"] += feed(networks[name], source, images, attacked, labels, "all", name)
    return rows


def draw(out):
    tables = tables_in(out)
    plots.transfer_accuracies(out, tables["transfer"], tables["epsilon"], VICTIM)
    plots.source_and_victim(out, tables["matrix"])


def answer(out):
    """The targets' accuracy, also on controls, whose mistakes they repeat, and the similarity of the gradients."""
    transfer, matrix, aligned, verdicts = (
        results.read_rows(tables_in(out)[name]) for name in ("transfer", "matrix", "alignment", "verdicts")
    )
    return {
        "few": matrix[0]["images"],
        "transfer": [row for row in transfer if row["victim"] == VICTIM],
        "verdicts": {
            name: [row for row in verdicts if row["victim"] == name]
            for name in dict.fromkeys(row["victim"] for row in verdicts)
        },
        "third": [row for row in transfer if row["victim"] == THIRD],
        "alignment": [{"pair": f"{row['first']} and {row['second']}", **row} for row in aligned],
    }


def main():
    arguments = adversarial.parse(__doc__)
    adversarial.run(arguments)

    def measure_all():
        cifar = data.load(arguments.data_dir, arguments.device)
        networks = {name: network_on_pixels(name, cifar, arguments) for name in NETWORKS}
        shown = shown_images(arguments.out, arguments.device)
        attack_settings = arguments.epsilon, arguments.max_iterations
        return measure(networks, cifar.test_images, cifar.test_labels, shown, *attack_settings)

    weights = weights_of(arguments.trained, *NETWORKS)
    experiment.measure_once(tables_in(arguments.out), weights, arguments.retrain, measure_all)
    draw(arguments.out)
    found = answer(arguments.out)
    for row in found["transfer"]:
        print(
            f"{row['number']:>5} images, {row['inputs']:16}: {row['accuracy']:>6.1%} right "
            f"({row['low']:.1%} to {row['high']:.1%}); "
            f"same mistake as the source: {row['wrong_like_source']} of {row['wrong']}"
        )
    for row in found["alignment"]:
        print(
            f"gradients of {row['pair']}: cosine {row['cosine_mean']:.3f}, same sign {row['same_sign']:.1%}, "
            f"loss gained {row['loss_gained']:.0%}"
        )
    print(drawn(arguments.out))


if __name__ == "__main__":
    options.run_script(main)
