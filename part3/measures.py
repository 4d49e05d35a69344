"""Part 3's measurements: adversarial images, distances, how other networks classify them, and why.

Functions return table rows. Images are `(N, 3, 32, 32)` in 0..255; labels and categories are int64 `(N,)`.
Distances are in intensity levels; shares and accuracies are fractions.
"""

import torch
from torch.nn import functional as F

from part3.attack import BATCH, CONFIDENCE, Attacked, attack, gradient_of_pixels, predict


def as_saved(network, labels, attacked):
    """The attack rounded to 8-bit images; unchanged if ε is a whole number."""
    images = attacked.images.round()
    if images.equal(attacked.images):
        return attacked
    categories, confidences = predict(network, images)
    succeeded = (categories != labels) & (confidences >= CONFIDENCE)
    return Attacked(images, categories, confidences, attacked.iterations, succeeded)


def distances(images, labels, before, zero_gradient, attacked):
    """One row per image: predictions before and after the attack, and distances in intensity levels."""
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
    """Power of images `(N, C, H, W)` at each distance from frequency 0, in cycles per image width, `(W/2 + 1,)`.

    The mean of |F|² over images, channels and all frequencies that round to this distance. F is the Fourier transform
    of an image minus its mean, normalized so that white noise's power is its variance.
    """
    images = images.cpu().double()  # some devices lack float64
    centered = images - images.mean((2, 3), keepdim=True)
    power = torch.fft.fft2(centered, norm="ortho").abs().square().mean((0, 1))
    cycles = [torch.fft.fftfreq(size, 1 / size) for size in power.shape]
    distance = torch.hypot(cycles[0][:, None], cycles[1]).round().long()
    return torch.stack([power[distance == radius].mean() for radius in range(power.shape[1] // 2 + 1)])


def spectrum(images, attacked):
    """Rows of `radial_power`: natural images, the change by an attack, and the same change with random signs."""
    difference = attacked - images
    kinds = {"natural": images, "change": difference, "random": difference * random_signs(difference)}
    powers = {name: radial_power(kind).tolist() for name, kind in kinds.items()}
    return [{"frequency": radius, **dict(zip(powers, values))} for radius, values in enumerate(zip(*powers.values()))]


def gradients_of(network, images, labels):
    """The gradient of each image's loss with respect to its pixels, `(N, 3072)`."""
    batches = zip(images.float().split(100), labels.split(100))
    return torch.cat([gradient_of_pixels(network, *batch)[1] for batch in batches]).flatten(1)


def directions(gradients):
    """Gradients `(N, 3072)`, each divided by its largest absolute value; NaN for a gradient of 0.

    Their size reflects confidence, and may be too small to square in float32.
    """
    return gradients / gradients.abs().amax(1, keepdim=True)


def mean_cosine(first, second):
    """The mean cosine of two sets of gradients `(N, 3072)`, over the images where neither is 0."""
    return F.cosine_similarity(directions(first), directions(second)).nanmean().item()


def share_correct(network, images, labels):
    """The share of images `(N, C, H, W)` that the network assigns to their `labels` `(N,)`."""
    return (predict(network, images)[0] == labels).float().mean().item()


def zero_gradients(network, images, labels):
    """The share of each image's pixel values whose gradient is exactly 0, so no step moves them, `(N,)`."""
    return (gradients_of(network, images, labels) == 0).float().mean(1)


def sweep(network, images, labels, epsilons, max_iterations):
    """One row per step size: success before and after rounding, iterations, distances in levels."""
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
    """Random 1 or -1, float, with the shape and device of `like`; the same in every call."""
    generator = torch.Generator(like.device).manual_seed(0)
    return torch.where(torch.rand(like.shape, generator=generator, device=like.device) < 0.5, 1.0, -1.0)


def inputs_of_equal_size(images, attacked):
    """The attack's images, the originals, and controls with changes of equal size: `{kind: images}`.

    Where the opposite sign would leave 0..255, the attack's sign is kept.
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
    """The most probable wrong category of each image, int64 `(N,)`."""
    logits = torch.cat([network(batch.float()) for batch in images.split(BATCH)])
    return logits.scatter(1, labels[:, None], -torch.inf).argmax(1)


def feed(victim, source, images, attacked, labels, name, victim_name):
    """Rows for one set of images: the target's accuracy on each kind of input, and whose mistakes it makes.

    Counts the target's mistakes that equal the source's on `attacked`, and those that equal the target's
    runner-up on the original. `source_like_runner_up`: those where these two agree. `victim`: the target.
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
    """Rows that compare the first network with each of the others: similarity of gradients with respect to pixels.

    Two controls: the second network's gradient for another image, and random numbers.
    """
    gradients = {name: directions(gradients_of(network, images, labels)) for name, network in networks.items()}
    first, second, *_ = gradients
    gradients[f"{second}, another image"] = gradients[second].roll(1, 0)
    generator = torch.Generator(images.device).manual_seed(0)
    gradients["random"] = torch.randn(gradients[first].shape, generator=generator, device=images.device)
    for name, gradient in list(gradients.items())[1:]:
        cosines = F.cosine_similarity(gradients[first], gradient)
        cosines = cosines[cosines.isfinite()]  # NaN where a gradient is exactly 0
        same = (gradients[first].sign() == gradient.sign()).float().mean(1)
        # The other's loss increase for a small step along the first's signs, relative to a step along its own.
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


@torch.enable_grad()
def margins(network, images, labels):
    """Each image's margin `(N,)`, and its gradient with respect to the pixels `(N, 3072)`.

    The margin is the true category's logit minus the largest other one: at 0, the network changes its mind.
    """
    found = []
    for batch, true in zip(images.float().split(BATCH), labels.split(BATCH)):
        pixels = batch.detach().requires_grad_()
        logits = network(pixels)
        margin = logits.gather(1, true[:, None]) - logits.scatter(1, true[:, None], -torch.inf).amax(1, keepdim=True)
        found.append((margin.detach().flatten(), torch.autograd.grad(margin.sum(), pixels)[0].flatten(1)))
    margin, gradient = zip(*found)
    return torch.cat(margin), torch.cat(gradient)


def levels_to_boundary(margin, gradient, signs):
    """The median step in levels along `signs` `(N, 3072)` after which the margin is 0, to first order.

    Infinite for an image whose margin does not fall.
    """
    falls = -(signs * gradient).sum(1)
    return torch.where(falls > 0, margin / falls, torch.inf).median().item()


def shown_to_others(networks, images, labels, attacks):
    """One row per attack, source and target: the target's accuracy on the images.

    `attacks` maps names to functions like `part3.attack.attack`. A row includes the images' median L∞ distance.
    """
    for kind, attack_of in attacks.items():
        for source, attacked_network in networks.items():
            attacked = attack_of(attacked_network, images, labels, description=f"{kind}, on {source}").images.round()
            linf = (attacked - images).abs().flatten(1).amax(1).median().item()
            for victim, network in networks.items():
                accuracy = share_correct(network, attacked, labels)
                row = {"attack": kind, "source": source, "victim": victim, "images": len(labels)}
                yield row | {"linf_median": linf, "accuracy": accuracy}
