"""G of question 2.2 and the signals of 2.3, checked against computations by hand and against theory."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from common.data import Cifar
from common.gradients import convolutions, magnitudes
from common.records import write_rows
from common.results import log_path
from common.settings import Settings
from common.training import train
from part2.accuracy import prepare
from part2.gradients import measure_norms, measure_positions
from part2.networks import designed_network
from part2.signals import (
    BATCHNORM_FACTOR,
    DEFAULT_FACTOR,
    dead_and_zero,
    dead_from,
    difference_factor,
    gradient_factor,
    highest,
    image_share,
    kept_gradient,
    kept_scale,
    least_live,
    lowest_epoch,
    predicted_gradient,
    signals,
)


def small_network():
    return nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 10, 32))


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_logged_magnitude_is_that_of_the_definition(precision, synthetic):
    """max |∂L/∂w| of a first step, differentiated by hand: no optimizer, no autograd through the loss."""

    def plain(images, statistics=None, generator=None):
        return images.float() / 255

    images, labels = synthetic.train_images[:100], synthetic.train_labels[:100]

    def make_network():
        return nn.Sequential(*small_network(), nn.Flatten())

    # neither weight decay nor clipping has a part in G
    settings = Settings(iterations=1, optimizer="sgd", weight_decay=10.0, clip_norm=1e-6)
    cifar = Cifar(images, labels, images, labels)
    _, columns, _ = train(make_network, plain, cifar, settings, 0, precision, log_gradients=True)

    torch.manual_seed(0)
    first, _, last, _ = make_network()
    order = torch.randperm(100, generator=torch.Generator().manual_seed(0))
    inputs = plain(images[order])
    with torch.no_grad():
        hidden = F.conv2d(inputs, first.weight, first.bias, padding=1)
        logits = F.conv2d(hidden.relu(), last.weight, last.bias).flatten(1)
        error = (logits.softmax(1) - F.one_hot(labels[order], 10)) / 100  # ∂L/∂logits of the mean cross-entropy
        last_gradient = torch.einsum("no,nchw->ochw", error, hidden.relu())
        back = torch.einsum("no,ochw->nchw", error, last.weight) * (hidden > 0)
        patches = F.unfold(inputs, 3, padding=1)  # (N, 27, 1024)
        first_gradient = torch.einsum("noj,nij->oi", back.flatten(2), patches)
    tolerance = 1e-3 if precision == "fp32" else 0.05
    assert columns["G_conv1"] == [pytest.approx(first_gradient.abs().max().item(), rel=tolerance)]
    assert columns["G_conv2"] == [pytest.approx(last_gradient.abs().max().item(), rel=tolerance)]


def test_a_channel_is_live_where_it_lets_pass_anything_of_any_image():
    layer = nn.Conv2d(1, 4, 1)
    layer.weight.data = torch.tensor([1.0, -1, 0, 0]).view(4, 1, 1, 1)
    layer.bias.data = torch.tensor([0.0, 0, -1, 1])
    network = nn.Sequential(layer, nn.ReLU(), nn.Flatten(), nn.Linear(16, 10))
    inputs, labels = torch.zeros(3, 1, 2, 2), torch.arange(3)
    assert signals(network, inputs, labels)[0]["live"] == 0.25  # the last one's bias
    inputs[2, 0, 1, 1] = 5
    assert signals(network, inputs, labels)[0]["live"] == 0.5


def test_magnitude_is_of_weights_alone_and_shows_what_is_not_a_number():
    layer = nn.Conv2d(1, 1, 2)
    layer.weight.grad = torch.tensor([[[[1.0, -3.0], [2.0, 0.0]]]])
    layer.bias.grad = torch.tensor([100.0])
    assert magnitudes([layer]).tolist() == [3.0]
    layer.weight.grad[0, 0, 0, 0] = torch.nan
    assert magnitudes([layer]).isnan().all()


def test_every_convolution_is_logged_and_logging_changes_nothing(synthetic):
    images, labels = synthetic.train_images[:200], synthetic.train_labels[:200]

    cifar = Cifar(images, labels, images, labels)

    def run(log_gradients):
        settings = Settings(iterations=3)
        return train(designed_network, prepare, cifar, settings, 0, log_gradients=log_gradients)[1]

    plain, logged = run(False), run(True)
    number = len(convolutions(designed_network()))
    assert [name for name in logged if name not in plain] == [f"G_conv{layer}" for layer in range(1, number + 1)]
    assert {name: logged[name] for name in plain} == plain
    assert all(value > 0 for name in logged if name not in plain for value in logged[name])


def test_theory_of_the_default_initialization():
    """A sixth of the mean square is left in a layer of a wide random network, forward and backward."""
    torch.manual_seed(0)
    depth, width = 8, 128
    layers = [nn.Conv2d(3, width, 5, padding=2)]
    for _ in range(depth):
        layers += [nn.ReLU(), nn.Conv2d(width, width, 5, padding=2)]
    network = nn.Sequential(*layers, nn.ReLU(), nn.AdaptiveAvgPool2d(8), nn.Flatten(), nn.Linear(64 * width, 10))
    rows = signals(network, torch.randn(4, 3, 32, 32), torch.arange(4))
    assert [row["convolution"] for row in rows] == list(range(1, depth + 2))
    backward = (rows[0]["gradient"] / rows[depth]["gradient"]) ** (2 / depth)
    forward = (rows[depth - 1]["image_variance"] / rows[0]["image_variance"]) ** (1 / (depth - 1))
    assert backward == pytest.approx(DEFAULT_FACTOR, rel=0.2)
    assert forward == pytest.approx(DEFAULT_FACTOR, rel=0.2)


def test_theory_of_widths_and_pooling():
    """Twice as many channels have twice the sum of squares to pass back; of four pooled positions one gets it."""
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(3, 64, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(64, 256, 3, padding=1),
        nn.MaxPool2d(2),
        nn.ReLU(),
        nn.Conv2d(256, 128, 3, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(128 * 16 * 16, 10),
    )
    expected = [(256 / 64 / 6) * (128 / 256 / 6 / 4), 128 / 256 / 6 / 4, 1]
    assert predicted_gradient(network) == pytest.approx([square**0.5 for square in expected])
    rows = signals(network, torch.randn(8, 3, 32, 32), torch.arange(8))
    measured = [row["gradient"] / rows[-1]["gradient"] for row in rows]
    # The largest of four is above zero more often than one of them is.
    assert measured == pytest.approx(predicted_gradient(network).tolist(), rel=0.5)


def test_theory_of_batchnorm():
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 64, 1), nn.BatchNorm2d(64), nn.ReLU()]
    for _ in range(10):
        layers += [nn.Conv2d(64, 64, 1), nn.BatchNorm2d(64), nn.ReLU()]
    network = nn.Sequential(*layers, nn.Flatten(), nn.Linear(64 * 8 * 8, 10))
    rows = signals(network, torch.randn(16, 3, 8, 8), torch.arange(16) % 10)
    assert (rows[0]["gradient"] / rows[10]["gradient"]) ** (2 / 10) == pytest.approx(BATCHNORM_FACTOR, rel=0.1)


def test_what_the_next_layer_receives_is_after_normalization_and_pooling():
    network = nn.Sequential(
        nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(2, 10)
    )
    images = torch.randn(4, 1, 2, 2)
    (row,) = signals(network, images, torch.arange(4))
    received = network[:4](images)
    assert row["mean_square"] == pytest.approx(received.square().mean().item())
    assert row["image_variance"] == pytest.approx(received.var(0, correction=0).mean().item())


def test_signals_by_hand():
    """Two images, one convolution that doubles; then the sum of all outputs is the logit of class 0."""
    layer = nn.Conv2d(1, 1, 1, bias=False)
    layer.weight.data.fill_(2.0)
    images = torch.tensor([[1.0, 0.0], [2.0, -1.0]]).view(2, 1, 1, 2)
    read = nn.Linear(2, 10, bias=False)
    read.weight.data.zero_()[0] = 1.0
    (row,) = signals(nn.Sequential(layer, nn.ReLU(), nn.Flatten(), read), images, torch.tensor([0, 0]))
    # outputs (2, 0) and (4, -2), after ReLU (2, 0) and (4, 0); logits of class 0: 2 and 4
    slopes = [torch.tensor([logit] + [0.0] * 9).softmax(0)[0].item() - 1 for logit in (2.0, 4.0)]
    assert row["convolution"] == 1 and row["active"] == 0.5 and row["live"] == 1
    assert row["mean_square"] == (4 + 16) / 4
    assert row["image_variance"] == (1 + 0) / 2  # of 2 and 4, and of 0 and 0
    assert row["gradient"] == pytest.approx(((slopes[0] ** 2 + slopes[1] ** 2) / 4) ** 0.5)


def test_the_course_of_training_by_hand(tmp_path):
    """Two seeds, two convolutions: a channel that revives is not dead, one that stays dead is so since iteration 10."""
    live = {(0, 1, 1): 1.0, (0, 1, 2): 0.0, (0, 10, 1): 1.0, (0, 10, 2): 0.5, (0, 30, 1): 1.0, (0, 30, 2): 0.5}
    live |= {(1, 1, 1): 1.0, (1, 1, 2): 0.5, (1, 10, 1): 1.0, (1, 10, 2): 0.0, (1, 30, 1): 1.0, (1, 30, 2): 0.0}
    rows = []
    for (seed, iteration, convolution), share in live.items():
        place = {"name": "a", "seed": seed, "iteration": iteration, "convolution": convolution}
        measured = {
            "gradient": 0.0 if (seed, iteration, convolution) == (1, 30, 1) else 4.0 ** (convolution - 1),
            "mean_square": iteration**convolution,
            "image_variance": 1.0,
            "active": share,
        }
        rows.append(place | measured | {"live": share})
    write_rows(log_path(tmp_path, "2.3", "course"), rows)
    assert dead_from(tmp_path, "2.3", "a") == [{"seed": 1, "iteration": 10, "convolution": 2}]
    assert dead_and_zero(tmp_path, "2.3", "a") == {"watched": 6, "dead": 3, "zero": 1, "both": 1, "revived": 1}
    assert [row["live"] for row in least_live(tmp_path, "2.3", "a")] == [0.5, 0.0]
    assert kept_scale(tmp_path, "2.3", "a", added=1) == {"1": [1.0] * 2, "10": [10**0.5] * 2, "30": [30**0.5] * 2}
    assert kept_gradient(tmp_path, "2.3", "a", added=1) == {"1": [0.25] * 2, "10": [0.25] * 2, "30": [0.25, 0.0]}
    assert image_share(tmp_path, "2.3", "a", added=1) == {"1": [1.0] * 2, "10": [0.01] * 2, "30": [1 / 900] * 2}


def test_the_factors_per_layer_by_hand(tmp_path):
    """Two added layers that each halve the gradient's scale, and divide the variance between images by 9."""
    rows = []
    for layer in range(3):
        measured = {"gradient": 0.5 ** (2 - layer), "mean_square": 1.0, "image_variance": 9.0**-layer}
        rows.append({"network": "a", "seed": 0, "convolution": 1 + layer} | measured | {"active": 0.5, "live": 1.0})
    table = log_path(tmp_path, "2.3", "signals")
    write_rows(table, rows)
    assert gradient_factor(table, "a", added=2) == pytest.approx(1 / 2)
    assert difference_factor(table, "a", added=2) == pytest.approx(1 / 3)


def test_the_lowest_epoch_is_that_of_the_lowest_median(tmp_path):
    """Two epochs of 100 iterations: G is 1 in the first, 3 in half and 0.5 in more than half of the second."""
    magnitudes = [1.0] * 100 + [3.0] * 40 + [0.5] * 60
    rows = [
        {"seed": 0, "iteration": number, "loss": 1.0, "train_accuracy": 0.5, "learning_rate": 0.1, "G_conv1": magnitude}
        for number, magnitude in enumerate(magnitudes, start=1)
    ]
    log = log_path(tmp_path, "2.1", "accuracy")
    write_rows(log, rows)
    assert lowest_epoch(log) == pytest.approx([0.5]) and highest(log) == [3.0]


def test_norms_are_those_of_new_and_of_trained_weights(cifar):
    trained = designed_network()
    for layer in convolutions(trained):
        nn.init.constant_(layer.weight, 2.0)
    torch.manual_seed(0)
    new = convolutions(designed_network())
    rows = measure_norms(trained, cifar)
    assert [row["convolution"] for row in rows] == list(range(1, 8))
    assert [row["new"] for row in rows] == pytest.approx([layer.weight.norm().item() for layer in new])
    assert [row["trained"] for row in rows] == pytest.approx([2 * layer.weight.numel() ** 0.5 for layer in new])


def test_a_single_position_has_the_share_of_a_sum_over_positions_that_it_has_by_hand():
    """Constant images: a weight's gradient is the same at each position where the kernel lies inside the image."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(1, 2, 1), nn.AvgPool2d(4), nn.Conv2d(2, 10, 1), nn.Flatten()).double()
    images, labels = torch.full((2, 1, 4, 4), 3.0, dtype=torch.float64), torch.tensor([0, 1])
    first, last = measure_positions(network, images, labels, torch.Generator().manual_seed(0))
    F.cross_entropy(network(images), labels).backward()
    expected_first, expected_last = magnitudes(convolutions(network)).tolist()
    assert first["all"] == pytest.approx(expected_first) and first["single"] == pytest.approx(expected_first / 16)
    assert last["all"] == last["single"] == pytest.approx(expected_last)  # it has one position only
