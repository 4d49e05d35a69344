"""Question 3.2: what does 2.1's network make of the images that were made to fool 1.4's, and why?

It has seen neither the other network nor a gradient of it. Its accuracy on the adversarial images stands
beside controls that tell what it means: the same images before; changes of the same size at each pixel, but
of random sign; the change that was made for another image; and all of it on every test image that 1.4's
network classifies correctly. Then why: how alike the networks' gradients with respect to an image are, and how
often the second makes the very mistake of the first. Last, each of three networks is attacked and the images
shown to the others, the one of 2.4 with its 20 more convolutions among them: once until it is sure of a wrong
category, which takes more of a change in some networks than in others, and once with equally many steps for all.
"""

import sys
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import torch

from common import data, image_plots, options
from common.experiment import log_path
from common.records import read_csv, write_rows
from part3 import adversarial
from part3.attack import attack, predict
from part3.measures import alignment, feed, shown_to_others
from part3.networks import EXPERIMENTS, trained_network

SOURCE, VICTIM = "1.4", "2.1"
FEW = 500  # test images for what needs many gradients
EQUAL_STEPS = 8  # about as many as it takes on average to fool 1.4's network
EQUAL = f"{EQUAL_STEPS} steps for all"
UNREACHABLE = 2.0  # a confidence: no image leaves before its last step


def shown_images(out, table, device):
    """The images of question 3.1 as they were saved: originals and adversarial ones, 0..255, and true categories."""
    rows, *images = zip(*image_plots.read_pairs(out, table))
    originals, attacked = (
        torch.from_numpy(255 * np.stack(kind)).round().permute(0, 3, 1, 2).to(device) for kind in images
    )
    return originals, attacked, torch.tensor([int(row["category"]) for row in rows], device=device)


def tables_in(out):
    return {name: log_path(out, "3.2", name) for name in ("transfer", "epsilon", "matrix", "alignment")}


def run(arguments):
    """Measure, and write the tables; the last says that all is there."""
    tables, shown = tables_in(arguments.out), adversarial.tables_in(arguments.out)["adversarial"]
    cifar = data.load(arguments.data_dir, arguments.device)
    networks = {question: trained_network(question, arguments, cifar) for question in EXPERIMENTS}
    twin = {f"{SOURCE}, seed 1": trained_network(SOURCE, arguments, cifar, seed=1)}
    source, victim = networks[SOURCE], networks[VICTIM]
    attack_of = partial(attack, epsilon=arguments.epsilon, max_iterations=arguments.max_iterations)
    tables["transfer"].unlink(missing_ok=True)

    known = [predict(network, cifar.test_images)[0] == cifar.test_labels for network in networks.values()]
    by_all = torch.stack(known).all(0).nonzero().flatten()[:FEW]
    images, labels = cifar.test_images[by_all], cifar.test_labels[by_all]
    write_rows(tables["alignment"], list(alignment(networks | twin, images, labels)))
    attacks = {
        "until 99 % sure": attack_of,
        EQUAL: partial(attack_of, confidence=UNREACHABLE, max_iterations=EQUAL_STEPS),
    }
    write_rows(tables["matrix"], list(shown_to_others(networks, images, labels, attacks)))

    images, labels = cifar.test_images[known[0]], cifar.test_labels[known[0]]
    first, first_labels = images[: adversarial.SWEPT], labels[: adversarial.SWEPT]
    rows = []
    for epsilon in adversarial.EPSILONS:
        attacked = attack_of(source, first, first_labels, epsilon=epsilon, description=f"epsilon {epsilon:g}").images
        for row in feed(victim, source, first, attacked.round(), first_labels, "first"):
            rows.append({"epsilon": epsilon, **row})
    write_rows(tables["epsilon"], rows)

    attacked = attack_of(source, images, labels, description="all test images").images.round()
    rows = list(feed(victim, source, *shown_images(arguments.out, shown, arguments.device), "shown"))
    write_rows(tables["transfer"], rows + list(feed(victim, source, images, attacked, labels, "all")))


def draw(out):
    tables = tables_in(out)
    image_plots.transfer(out, tables["transfer"], tables["epsilon"])
    image_plots.source_and_victim(out, tables["matrix"])


def answer(out):
    """The victim's accuracy and its controls, whose mistakes it repeats, how alike the gradients are; as text."""
    tables = tables_in(out)
    matrix, percent = read_csv(tables["matrix"]), ("accuracy", "low", "high")
    return {
        "few": matrix[0]["images"],
        "matrix": {  # with equally many steps for all
            f"{row['source']} to {row['victim']}": f"{100 * float(row['accuracy']):.0f} %"
            for row in matrix
            if row["attack"] == EQUAL
        },
        "transfer": [
            {**row, **{name: f"{100 * float(row[name]):.1f}" for name in percent}}
            for row in read_csv(tables["transfer"])
        ],
        "alignment": [
            {
                "pair": f"{row['first']} and {row['second']}",
                "cosine": f"{float(row['cosine_mean']):.3f}",
                "same_sign": f"{100 * float(row['same_sign']):.1f} %",
                "loss_gained": f"{round(100 * float(row['loss_gained']))} %",
            }
            for row in read_csv(tables["alignment"])
        ],
    }


def main():
    arguments = adversarial.parse(__doc__)
    adversarial.run(arguments)
    last = tables_in(arguments.out)["transfer"]
    if arguments.retrain or not last.exists():
        run(arguments)
    else:
        print(f"{last} is there already: --retrain or another --out does it again")
    draw(arguments.out)
    found = answer(arguments.out)
    for row in found["transfer"]:
        print(
            "{number:>5} images, {inputs:16}: {accuracy:>5} % right ({low} to {high}); "
            "wrong like the attacked network: {wrong_like_source} of {wrong}".format(**row)
        )
    for row in found["alignment"]:
        print("gradients of {pair}: cosine {cosine}, same sign {same_sign}, loss gained {loss_gained}".format(**row))


if __name__ == "__main__":
    options.run_script(main)
