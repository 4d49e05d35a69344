"""What Part 3 measures, checked against small cases by hand."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from part3 import controls, measures
from part3.attack import gradient_attack, momentum_attack


class Given(nn.Module):
    """A network whose logits are an image's first values."""

    def forward(self, pixels):
        return pixels.flatten(1)[:, :3]


def test_momentum_is_that_of_the_equation():
    """Gradients by hand: +1 and then -0.5 for one value, 0 and then 2 for the other; sizes are means of magnitudes."""

    class Scripted(nn.Module):
        slopes = iter([torch.tensor([1.0, 0.0]), torch.tensor([-0.5, 2.0])])

        def forward(self, pixels):
            first = (pixels.flatten(1) * next(self.slopes)).sum(1, keepdim=True)
            # The slope of the loss with respect to the first logit is 1/2 - 1 at equal logits: -2 undoes it.
            return torch.cat([-2 * (first - first.detach()), torch.zeros(len(pixels), 1)], 1)

    images = torch.full((1, 1, 1, 2), 100.0)
    attacked = momentum_attack(Scripted(), images, torch.tensor([0]), epsilon=3, max_iterations=2)
    # Accumulated: (1, 0)/0.5 = (2, 0), a step of (3, 0); then (2, 0) + (-0.5, 2)/1.25 = (1.6, 1.6), one of (3, 3).
    assert attacked.flatten().tolist() == [106, 103]


def test_steps_along_a_gradient_have_the_length_of_steps_along_signs_and_may_avoid_another_gradient():
    """By hand, for linear losses: the gradient is along the values that a network looks at."""

    class Looking(nn.Module):
        def __init__(self, *slopes):
            super().__init__()
            self.slopes = torch.tensor(slopes)

        def forward(self, pixels):
            return torch.stack([-(pixels.flatten(1) - 100) @ self.slopes, torch.zeros(len(pixels))], 1)

    images, labels = torch.full((2, 1, 1, 4), 100.0), torch.tensor([0, 0])
    network, other = Looking(0.03, 0.04, 0.0, 0.0), Looking(0.0, 0.05, 0.0, 0.0)
    moved = gradient_attack(network, images, labels, epsilon=5, max_iterations=2) - images
    assert moved[0].flatten().tolist() == pytest.approx([12, 16, 0, 0], abs=1e-4)  # 2 · 5 · √4 = 20 long
    avoiding = gradient_attack(network, images, labels, 5, 2, orthogonal_to=other) - images
    assert avoiding[1].flatten().tolist() == pytest.approx([20, 0, 0, 0], abs=1e-4)
    turned = gradient_attack(network, images, labels, 5, 1, orthogonal_to=other, control=True) - images
    # The cosine of the gradients is 0.8. A step of 10 is turned so that 0.6 of it remain along the first.
    assert turned[0].flatten().tolist()[:2] == pytest.approx([10 * 0.6 * 0.6, 10 * 0.6 * 0.8], abs=1e-4)
    assert turned[0].norm().item() == pytest.approx(10, abs=1e-4)


def test_a_margin_and_the_distance_to_the_boundary_are_those_computed_by_hand():
    """The first image's margin is 9 - 5 = 4. A level off the first value and one onto the third lower it by 2."""
    images = torch.tensor([[9.0, 1, 5], [2, 8, 1], [1, 7, 6]]).view(3, 1, 1, 3)
    margin, gradient = measures.margins(Given(), images, torch.tensor([0, 1, 1]))
    assert margin.tolist() == [4, 6, 1]
    assert gradient.tolist() == [[1, 0, -1], [-1, 1, 0], [0, 1, -1]]
    assert not images.requires_grad
    assert measures.levels_to_boundary(margin, gradient, -gradient.sign()) == 2  # the median of 2, 3 and 0.5
    assert measures.levels_to_boundary(margin, gradient, torch.tensor([[-1.0, 0, 0]]).repeat(3, 1)) == math.inf


def test_the_runner_up_is_the_most_probable_wrong_category():
    images = torch.tensor([[9.0, 1, 5], [2, 8, 1], [3, 4, 9]]).view(3, 1, 1, 3)
    assert measures.runner_up(Given(), images, torch.tensor([0, 1, 1])).tolist() == [2, 0, 2]


def test_power_is_that_of_waves_and_of_noise():
    """A wave of amplitude A has A²/4 of the energy at each of ±f; noise has its variance at every frequency."""
    place = torch.arange(32.0)
    wave = 10 * torch.cos(2 * math.pi * 5 * place / 32).expand(2, 3, 32, 32)
    power = measures.radial_power(wave + 100)
    ring = sum(round(math.hypot(x, y)) == 5 for x in range(-16, 16) for y in range(-16, 16))
    assert power[5].item() == pytest.approx(2 * 10**2 / 4 * 32 * 32 / ring)
    assert power.sum() - power[5] < 1e-9
    noise = measures.radial_power(3 * torch.randn(200, 3, 32, 32, generator=torch.Generator().manual_seed(0)))
    assert noise[1:].tolist() == pytest.approx([9] * 16, rel=0.1)


def test_random_signs_have_the_power_of_white_noise():
    images = torch.full((50, 3, 32, 32), 100.0)
    *_, last = measures.spectrum(images, images + 2)
    assert last["natural"] == pytest.approx(0, abs=1e-9) and last["change"] == pytest.approx(0, abs=1e-9)
    assert last["random"] == pytest.approx(4, rel=0.1)


def test_gradients_that_are_exactly_zero_are_counted():
    images = torch.zeros(2, 1, 1, 4)  # of which the network reads three
    assert measures.zero_gradients(Given(), images, torch.tensor([0, 1])).tolist() == [0.25, 0.25]


def test_rank_correlation_by_hand():
    assert controls.rank_correlation(np.array([1.0, 2, 3]), np.array([10.0, 100, 1000])) == pytest.approx(1)
    # ranks 1.5, 1.5, 3 and 1, 3, 2: deviations -0.5, -0.5, 1 and -1, 1, 0
    assert controls.rank_correlation(np.array([5.0, 5, 7]), np.array([1.0, 9, 2])) == pytest.approx(0 / 1)


def test_correlations_are_over_pairs_of_trained_networks():
    names = "abcd"
    rows = [
        {"source": first, "victim": second, "accuracy": 1 - cosine, "cosine": cosine}
        | {"victim_gradient": ord(second), "source_accuracy": ord(first), "levels": 1 / cosine if cosine else math.inf}
        for first in names
        for second in names
        if first != second and (cosine := (ord(first) * ord(second) % 7) / 10) is not None
    ]
    rows += [rows[0] | {"source": controls.FLOORS[0], "cosine": -1.0, "accuracy": 0.0}]
    found = controls.correlations(rows)
    assert found["levels"]["correlation"] == pytest.approx(-1)
    assert found["cosine"]["correlation"] == pytest.approx(1) and found["cosine"]["low"] == pytest.approx(1)
    assert (
        found["source_accuracy"]["low"] <= found["source_accuracy"]["correlation"] <= found["source_accuracy"]["high"]
    )


def test_halves_have_no_image_in_common_and_shuffled_labels_their_number(synthetic):
    first, last = (controls.half(synthetic, which) for which in (0, 1))
    assert torch.equal(torch.cat([first.train_images, last.train_images]), synthetic.train_images)
    assert torch.equal(torch.cat([first.train_labels, last.train_labels]), synthetic.train_labels)
    assert len(first.train_labels) == len(last.train_labels) and torch.equal(first.test_images, synthetic.test_images)
    shuffled, usual = controls.shuffled(synthetic, 300).train_labels, synthetic.train_labels[:300]
    assert torch.equal(shuffled.bincount(), usual.bincount()) and (shuffled == usual).float().mean() < 0.2
    assert torch.equal(controls.first(synthetic, 300).train_images, synthetic.train_images[:300])


def test_each_network_is_shown_the_images_of_each_other_one(monkeypatch):
    """Linear networks: what fools one fools its twin, and not one that looks at other values."""

    def linear(values, scale=1.0):
        """Of category 0 where the sum of these values is above its middle."""
        network = nn.Sequential(nn.Flatten(), nn.Linear(12, 10))
        network[1].weight.data.zero_()[0, values] = 0.1 * scale
        network[1].bias.data.fill_(-1000.0)[:2] = torch.tensor([-12.8 * scale * len(values), 0])
        return network.eval()

    monkeypatch.setattr(controls, "FLOORS", ("floor",))
    networks = {"1.4": linear([0, 1]), "2.1": linear([0, 1], 2.0), "2.4": linear([5, 6]), "floor": linear([2, 3])}
    images = torch.full((6, 3, 2, 2), 130.0)
    rows = controls.measure(networks, images.to(torch.uint8), torch.zeros(6, dtype=torch.int64))
    found = {(row["source"], row["victim"]): row for row in rows["pairs"]}
    assert len(found) == 3 * 2 + 3 and all(victim != "floor" for _, victim in found)
    assert found["1.4", "2.1"]["cosine"] == pytest.approx(1) and found["1.4", "2.4"]["cosine"] == pytest.approx(0)
    assert found["1.4", "2.1"]["accuracy"] == found["2.1", "1.4"]["accuracy"] == 0
    assert found["1.4", "2.4"]["accuracy"] == found["floor", "2.1"]["accuracy"] == 1
    # A logit of category 0 exceeds the other by 0.1 · (2 · 130 - 2 · 128) and falls by 0.2 a level.
    assert found["1.4", "2.1"]["levels"] == found["1.4", "2.1"]["own_levels"] == pytest.approx(2, abs=1e-3)
    assert found["1.4", "2.4"]["levels"] == math.inf and found["1.4", "2.4"]["own_levels"] == pytest.approx(2, abs=1e-3)
    assert found["1.4", "2.1"]["images"] == 6 and found["1.4", "2.1"]["source_accuracy"] == 1.0
    reach = {row["attack"]: row["linf_median"] for row in rows["steps"]}
    assert set(list(reach.values())[:4]) == {controls.STEPS} and len(rows["steps"]) == 7 * 3
