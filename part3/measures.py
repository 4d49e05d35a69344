"""What Part 3 measures: an attack's images, how far they moved, what another network makes of them, and why.

Functions give the rows of a table. Images are `(N, 3, 32, 32)` in 0..255, labels and categories
int64 `(N,)`, distances in intensity levels, shares and accuracies fractions.
"""

import torch
from torch.nn import functional as F

from part3.attack import BATCH, CONFIDENCE, Attacked, attack, gradient_of_pixels, predict


def as_saved(network, labels, attacked):
    """What is left of an attack in images of 8 bits: with a whole ε, all of it."""
    images = attacked.images.round()
    if images.equal(attacked.images):
        return attacked
    categories, confidences = predict(network, images)
    succeeded = (categories != labels) & (confidences >= CONFIDENCE)
    return Attacked(images, categories, confidences, attacked.iterations, succeeded)


def distances(images, labels, before, zero_gradient, attacked):
    """One row an image: what it was taken for, what it is taken for now, and how far it moved, in levels."""
    difference = (attacked.images - images).flatten(1)
    columns = {
        "index": torch.arange(len(images)),
        "category": labels,
        "category_before": before[0],
        "confidence_before": before[1],
        "zero_gradient": zero_gradient,
        "category_after": attacked.categories,
        "confidence_after": attacked.confidences,
        "iterations": attacked.iterations,
        "succeeded": attacked.succeeded.int(),
        "linf": difference.abs().amax(1),
        "l2": difference.norm(dim=1),
        "psnr_db": 10 * (255**2 / difference.square().mean(1)).log10(),
    }
    return [dict(zip(columns, row)) for row in zip(*(column.tolist() for column in columns.values()))]


def radial_power(images):
    """The power of images `(N, C, H, W)` at each distance from frequency 0, in cycles an image's width, `(W/2 + 1,)`.

    The mean of |F|² over images, channels and all frequencies that round to this distance; F is the Fourier transform
    of an image less its mean, and normalized: white noise has its variance at every distance.
    """
    images = images.cpu().double()  # which not every device has
    centered = images - images.mean((2, 3), keepdim=True)
    power = torch.fft.fft2(centered, norm="ortho").abs().square().mean((0, 1))
    cycles = [torch.fft.fftfreq(size, 1 / size) for size in power.shape]
    distance = torch.hypot(cycles[0][:, None], cycles[1]).round().long()
    return torch.stack([power[distance == radius].mean() for radius in range(power.shape[1] // 2 + 1)])


def spectrum(images, attacked):
    """Rows of `radial_power` of natural images, of what an attack changed, and of the same change with random signs."""
    difference = attacked - images
    kinds = {"natural": images, "change": difference, "random": difference * random_signs(difference)}
    powers = {name: radial_power(kind).tolist() for name, kind in kinds.items()}
    return [{"frequency": radius, **dict(zip(powers, values))} for radius, values in enumerate(zip(*powers.values()))]


def gradients_of(network, images, labels):
    """The gradient of each image's loss with respect to its pixels, `(N, 3072)`."""
    batches = zip(images.float().split(100), labels.split(100))
    return torch.cat([gradient_of_pixels(network, *batch)[1] for batch in batches]).flatten(1)


def directions(gradients):
    """Gradients `(N, 3072)`, each divided by its largest absolute value; NaN where all of it is 0.

    Their size says how sure a network is, and may be too small for float32 to square.
    """
    return gradients / gradients.abs().amax(1, keepdim=True)


def zero_gradients(network, images, labels):
    """The share of each image's pixel values whose gradient is exactly 0, whose sign moves nothing, `(N,)`."""
    return (gradients_of(network, images, labels) == 0).float().mean(1)


def sweep(network, images, labels, epsilons, max_iterations):
    """One row a step size: success before and after rounding, iterations, and distances in levels."""
    for epsilon in epsilons:
        attacked = attack(network, images, labels, epsilon, CONFIDENCE, max_iterations, f"epsilon {epsilon:g}")
        difference = (attacked.images - images).flatten(1)
        yield {
            "epsilon": epsilon,
            "images": len(images),
            "succeeded": attacked.succeeded.float().mean().item(),
            "succeeded_rounded": as_saved(network, labels, attacked).succeeded.float().mean().item(),
            "iterations_mean": attacked.iterations.float().mean().item(),
            "iterations_max": attacked.iterations.max().item(),
            "linf_median": difference.abs().amax(1).median().item(),
            "l2_median": difference.norm(dim=1).median().item(),
        }


def wilson_interval(share, number):
    """The 95 % interval of a share of `number` images (Wilson 1927)."""
    z2 = 1.96**2
    center = share + z2 / (2 * number)
    half = (z2 * (share * (1 - share) / number + z2 / (4 * number**2))) ** 0.5
    return (center - half) / (1 + z2 / number), (center + half) / (1 + z2 / number)


def random_signs(like):
    """1 or -1 with equal probability, float of the shape of `like` and on its device; the same in every call."""
    generator = torch.Generator(like.device).manual_seed(0)
    return torch.where(torch.rand(like.shape, generator=generator, device=like.device) < 0.5, 1.0, -1.0)


def inputs_of_equal_size(images, attacked):
    """The attack's images, and controls that differ from the originals by as much: `{kind: images}`.

    Random signs are the attack's own where 0 or 255 leaves no room for the opposite.
    """
    difference = attacked - images
    heads, opposite = random_signs(difference) > 0, images - difference
    return {
        "original": images,
        "random signs": torch.where(heads & (opposite >= 0) & (opposite <= 255), opposite, attacked),
        "another's change": (images + difference.roll(1, 0)).clamp(0, 255),
        "adversarial": attacked,
    }


@torch.no_grad()
def runner_up(network, images, labels):
    """The most probable of the wrong categories of each image, int64 `(N,)`."""
    logits = torch.cat([network(batch.float()) for batch in images.split(BATCH)])
    return logits.scatter(1, labels[:, None], -torch.inf).argmax(1)


def feed(victim, source, images, attacked, labels, name, victim_name):
    """Rows for one set of images: the victim's accuracy on each kind of input, and whose mistakes it makes.

    The mistakes are counted that are the source's, and those that are the runner-up of the victim itself on the
    original; `source_like_runner_up` counts, of the wrong ones, where these two are the same.
    """
    mistakes, _ = predict(source, attacked)
    second = runner_up(victim, images, labels)
    for kind, inputs in inputs_of_equal_size(images, attacked).items():
        categories, _ = predict(victim, inputs)
        wrong = categories != labels
        accuracy = 1 - wrong.float().mean().item()
        low, high = wilson_interval(accuracy, len(labels))
        yield {
            "images": name,
            "number": len(labels),
            "inputs": kind,
            "victim": victim_name,
            "accuracy": accuracy,
            "low": low,
            "high": high,
            "wrong": wrong.sum().item(),
            "wrong_like_source": (wrong & (categories == mistakes)).sum().item(),
            "wrong_like_runner_up": (wrong & (categories == second)).sum().item(),
            "source_like_runner_up": (wrong & (mistakes == second)).sum().item(),
        }


def alignment(networks, images, labels):
    """Rows for the first network and each other: how alike their gradients with respect to an image's pixels are.

    Two controls: the second network's gradient for another image, and random numbers.
    """
    gradients = {name: directions(gradients_of(network, images, labels)) for name, network in networks.items()}
    first, second, *_ = gradients
    gradients[f"{second}, another image"] = gradients[second].roll(1, 0)
    generator = torch.Generator(images.device).manual_seed(0)
    gradients["random"] = torch.randn(gradients[first].shape, generator=generator, device=images.device)
    for name, gradient in list(gradients.items())[1:]:
        cosines = F.cosine_similarity(gradients[first], gradient)
        cosines = cosines[cosines.isfinite()]  # not so where a gradient is exactly 0
        same = (gradients[first].sign() == gradient.sign()).float().mean(1)
        # What a small step along the first's signs adds to the other's loss, as a share of what one along its own does.
        gained = (gradients[first].sign() * gradient).sum(1) / gradient.abs().sum(1)
        yield {
            "first": first,
            "second": name,
            "images": len(cosines),
            "cosine_mean": cosines.mean().item(),
            "cosine_deviation": cosines.std().item(),
            "same_sign": same.mean().item(),
            "loss_gained": gained.nanmean().item(),
        }


def shown_to_others(networks, images, labels, attacks):
    """One row an attack, a network attacked, and a network that is shown the images: its accuracy.

    `attacks` are named functions like `part3.attack.attack`; a row tells how far the images moved, in the median.
    """
    for kind, attack_of in attacks.items():
        for source, attacked_network in networks.items():
            attacked = attack_of(attacked_network, images, labels, description=f"{kind}, on {source}").images.round()
            linf = (attacked - images).abs().flatten(1).amax(1).median().item()
            for victim, network in networks.items():
                accuracy = (predict(network, attacked)[0] == labels).float().mean().item()
                row = {"attack": kind, "source": source, "victim": victim, "images": len(labels)}
                yield row | {"linf_median": linf, "accuracy": accuracy}
