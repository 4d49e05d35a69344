"""Question 3.2: what does 2.1's network make of the images that were made to fool 1.4's, and why?

It has seen neither the other network nor a gradient of it. Its accuracy on the adversarial images stands
beside controls that tell what it means: the same images before; the same changes of the same pixels, but
with random signs; and all of it on the whole test set. Then why: how alike the two networks' gradients
with respect to the image are, and how often the second makes the very mistake of the first. Last, each of
three networks is attacked and shown to the others, the one of 2.4 with its 20 more convolutions among them.
"""

import sys
from functools import partial
from itertools import product
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
from torch.nn import functional as F
from torchvision.io import read_image

from common import data, image_plots, options
from common.experiment import log_path
from common.networks import evaluation_mode
from common.records import read_csv, write_rows
from part3 import adversarial
from part3.attack import attack, gradient_of_pixels, predict
from part3.networks import EXPERIMENTS, trained_network

SOURCE, VICTIM = "1.4", "2.1"
FEW = 500  # test images for what needs many gradients


def interval(share, number):
    """The 95 % interval of a share of `number` images (Wilson 1927)."""
    z2 = 1.96**2
    centre = share + z2 / (2 * number)
    half = (z2 * (share * (1 - share) / number + z2 / (4 * number**2))) ** 0.5
    return (centre - half) / (1 + z2 / number), (centre + half) / (1 + z2 / number)


def random_signs(images, attacked, seed=0):
    """The originals, changed by as much at each pixel as the attack changed them, but up or down at random."""
    difference = attacked - images
    generator = torch.Generator(difference.device).manual_seed(seed)
    signs = torch.randint(2, difference.shape, generator=generator, device=difference.device) * 2 - 1
    return (images + signs * difference).clamp(0, 255)


def shown_images(out, table, device):
    """The images of question 3.1 as they were saved: originals, adversarial ones, and true categories."""
    rows = read_csv(table)
    folder = out / "figures" / "adversarial"
    originals, attacked = (
        torch.stack([read_image(str(folder / name)) for name in names]).to(device)
        for names in zip(*map(image_plots.pair_names, rows))
    )
    return originals, attacked.float(), torch.tensor([int(row["category"]) for row in rows], device=device)


def feed(victim, source, images, attacked, labels, name):
    """Rows for one set of images: the victim's accuracy on originals, random signs and adversarial images."""
    mistakes, _ = predict(source, attacked)
    for kind, inputs in [
        ("original", images),
        ("random signs", random_signs(images, attacked)),
        ("adversarial", attacked),
    ]:
        categories, _ = predict(victim, inputs)
        wrong = categories != labels
        accuracy = 1 - wrong.double().mean().item()
        low, high = interval(accuracy, len(labels))
        yield {
            "images": name,
            "number": len(labels),
            "inputs": kind,
            "accuracy": accuracy,
            "low": low,
            "high": high,
            "wrong": wrong.sum().item(),
            "wrong_like_source": (wrong & (categories == mistakes)).sum().item(),
        }


def alignment(networks, images, labels):
    """Rows for pairs of networks: how alike their gradients with respect to the pixels of an image are."""
    gradients = {}
    for name, network in networks.items():
        with evaluation_mode(network):
            gradients[name] = torch.cat(
                [gradient_of_pixels(network, *batch)[1] for batch in zip(images.float().split(100), labels.split(100))]
            ).flatten(1)
    generator = torch.Generator(images.device).manual_seed(0)
    first, *others = gradients
    gradients["random"] = torch.randn(gradients[first].shape, generator=generator, device=images.device)
    for other in [*others, "random"]:
        cosines = F.cosine_similarity(gradients[first], gradients[other])
        same = (gradients[first].sign() == gradients[other].sign()).double().mean(1)
        yield {
            "first": first,
            "second": other,
            "images": len(labels),
            "cosine_mean": cosines.mean().item(),
            "cosine_deviation": cosines.std().item(),
            "same_sign": same.mean().item(),
        }


def run(arguments, tables):
    cifar = data.load(arguments.data_dir, arguments.device)
    images, labels = cifar.test_images, cifar.test_labels
    networks = {question: trained_network(question, arguments, cifar) for question in EXPERIMENTS}
    source, victim = networks[SOURCE], networks[VICTIM]
    attack_of = partial(attack, epsilon=arguments.epsilon, max_iterations=arguments.max_iterations)

    few, few_labels = images[:FEW], labels[:FEW]
    same_kind = {f"{SOURCE}, seed 1": trained_network(SOURCE, arguments, cifar, seed=1)}
    write_rows(tables["alignment"], list(alignment(networks | same_kind, few, few_labels)))

    inputs = {"none": few}
    for name, network in networks.items():
        inputs[name] = attack_of(network, few, few_labels, description=f"attacking {name}").images
    rows = []
    for attacked, (name, network) in product(inputs, networks.items()):
        accuracy = (predict(network, inputs[attacked])[0] == few_labels).double().mean().item()
        rows.append({"source": attacked, "victim": name, "images": FEW, "accuracy": accuracy})
    write_rows(tables["matrix"], rows)

    swept, swept_labels = images[: adversarial.SWEPT], labels[: adversarial.SWEPT]
    rows = []
    for epsilon in adversarial.EPSILONS:
        attacked = attack_of(source, swept, swept_labels, epsilon=epsilon, description=f"epsilon {epsilon:g}").images
        rows += [{"epsilon": epsilon, **row} for row in feed(victim, source, swept, attacked, swept_labels, "first")]
    write_rows(tables["epsilon"], rows)

    attacked = attack_of(source, images, labels, description="test images").images
    rows = list(feed(victim, source, *shown_images(arguments.out, tables["shown"], arguments.device), "shown"))
    write_rows(tables["transfer"], rows + list(feed(victim, source, images, attacked, labels, "all")))


def answer(tables):
    """The victim's accuracy beside its controls, whose mistakes it repeats, and how alike the gradients are."""
    for row in read_csv(tables["transfer"]):
        accuracy, low, high = (100 * float(row[name]) for name in ("accuracy", "low", "high"))
        print(f"{row['number']:>6} images, {row['inputs']:12}: {accuracy:5.1f} % right ({low:.1f} to {high:.1f})")
    share = int(row["wrong_like_source"]) / max(int(row["wrong"]), 1)
    print(f"of its mistakes on the adversarial ones, {share:.0%} are the very mistake of the network attacked")
    for row in read_csv(tables["alignment"]):
        cosine, same = float(row["cosine_mean"]), float(row["same_sign"])
        print(f"gradients of {row['first']} and {row['second']}: cosine {cosine:.3f}, same sign {same:.1%}")


def main():
    arguments = adversarial.parse(__doc__)
    out = arguments.out
    tables = {name: log_path(out, "3.2", name) for name in ("transfer", "epsilon", "matrix", "alignment")}
    tables["shown"] = adversarial.run(arguments)["adversarial"]
    if arguments.retrain or not tables["transfer"].exists():
        run(arguments, tables)
    else:
        print(f"{tables['transfer']} is there already: --retrain or another --out does it again")
    image_plots.transfer(out, tables["transfer"], tables["epsilon"])
    image_plots.source_and_victim(out, tables["matrix"])
    answer(tables)


if __name__ == "__main__":
    options.run_script(main)
