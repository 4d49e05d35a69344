"""The attack of question 3.1, checked against its equation and against networks that misbehave."""

import pytest
import torch
from torch import nn

from common.networks import table1_network
from common.preprocess import channel_statistics, normalize
from part3 import measures
from part3.attack import OnPixels, attack, predict

LABELS = torch.tensor([0, 1, 2, 3])


def images(seed=0):
    return torch.randint(256, (4, 3, 8, 8), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)


def linear_network(scale=0.02):
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(3 * 8 * 8, 10))
    network[1].weight.data.normal_(std=scale)
    return network


class Constant(nn.Module):
    def __init__(self, value):
        super().__init__()
        self.logits = nn.Parameter(torch.full((10,), value))

    def forward(self, pixels):
        return self.logits + 0 * pixels.flatten(1)[:, :1]


def test_one_step_is_that_of_the_equation():
    network, originals = linear_network(), images()
    attacked = attack(network, originals, LABELS, epsilon=2, confidence=1.1, max_iterations=1)
    weight = network[1].weight.detach()
    probability = network(originals.float()).detach().softmax(1)
    gradient = (probability - nn.functional.one_hot(LABELS, 10)) @ weight  # of the cross-entropy, by hand
    expected = (originals.flatten(1) + 2 * gradient.sign()).clamp(0, 255).view_as(originals)
    assert torch.equal(attacked.images, expected)
    assert attacked.iterations.tolist() == [1] * 4 and not attacked.succeeded.any()


@pytest.mark.parametrize("epsilon", [0.5, 1, 3])
def test_it_succeeds_within_epsilon_times_iterations_and_says_what_the_network_says(epsilon):
    network, originals = linear_network(), images()
    attacked = attack(network, originals, LABELS, epsilon)
    assert attacked.succeeded.all()
    assert attacked.images.min() >= 0 and attacked.images.max() <= 255
    distance = (attacked.images - originals).abs().flatten(1).amax(1)
    assert (distance <= epsilon * attacked.iterations).all()
    assert (distance > 0).equal(attacked.iterations > 0)
    assert torch.equal(attacked.images, (attacked.images / epsilon).round() * epsilon) or epsilon == 3
    categories, confidences = predict(network, attacked.images)
    assert categories.equal(attacked.categories) and (categories != LABELS).all()
    assert torch.allclose(confidences, attacked.confidences) and (confidences >= 0.99).all()


def test_a_whole_step_leaves_images_of_8_bits():
    attacked = attack(linear_network(), images(), LABELS, epsilon=3).images
    assert attacked.to(torch.uint8).float().equal(attacked)


def test_an_image_that_is_wrong_already_stays_as_it_is():
    network, originals = linear_network(scale=1.0), images()
    categories, confidences = predict(network, originals)
    labels = (categories + 1) % 10
    assert (confidences > 0.99).all()
    attacked = attack(network, originals, labels)
    assert attacked.iterations.tolist() == [0] * 4 and attacked.succeeded.all()
    assert attacked.images.equal(originals.float())


def test_a_network_that_cannot_be_fooled_ends_at_the_limit():
    attacked = attack(Constant(1.0), images(), LABELS, max_iterations=7)
    assert attacked.iterations.tolist() == [7] * 4 and not attacked.succeeded.any()
    assert attacked.confidences.tolist() == pytest.approx([0.1] * 4)


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_logits_that_are_no_numbers_are_an_error(value):
    network = Constant(value).train()
    with pytest.raises(FloatingPointError, match="not finite"):
        attack(network, images(), LABELS)
    assert network.training


def test_the_network_is_left_as_it_was():
    network = table1_network().train()
    network.norm1.eval()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    statistics = channel_statistics(images())
    pixels = torch.randint(256, (4, 3, 32, 32), dtype=torch.uint8)
    attack(OnPixels(network, normalize, statistics), pixels, LABELS, max_iterations=3)
    assert network.training and network.norm2.training and not network.norm1.training
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert all(parameter.grad is None and parameter.requires_grad for parameter in network.parameters())


def test_an_image_does_not_depend_on_the_others_in_its_batch():
    network, originals = linear_network(), images()
    together = attack(network, originals, LABELS)
    for number in range(4):
        alone = attack(network, originals[number : number + 1], LABELS[number : number + 1])
        assert alone.images[0].equal(together.images[number]) and alone.iterations[0] == together.iterations[number]


def test_no_images_are_no_error():
    assert attack(linear_network(), images()[:0], LABELS[:0]).images.shape == (0, 3, 8, 8)


def test_controls_differ_from_the_originals_as_much_as_the_attack_does():
    images = torch.tensor([0, 1, 128, 254, 255.0]).repeat(4, 3, 8, 1)
    attacked = images + torch.tensor([3, -1, 3, 1, -3.0])
    inputs = measures.inputs_of_equal_size(images, attacked)
    distance = (attacked - images).abs()
    assert torch.equal((inputs["random signs"] - images).abs(), distance)
    middle = (inputs["random signs"] - images)[..., 2]
    assert 0.2 < (middle > 0).float().mean() < 0.8  # signs are random where there is room for both
    assert all(0 <= kind.min() and kind.max() <= 255 for kind in inputs.values())


def test_the_interval_is_wilsons():
    """Against the interval of R's prop.test(correct = FALSE)."""
    assert measures.wilson_interval(4 / 20, 20) == pytest.approx((0.0807, 0.4160), abs=1e-4)
    assert measures.wilson_interval(0.0, 20) == pytest.approx((0, 0.1611), abs=1e-4)
