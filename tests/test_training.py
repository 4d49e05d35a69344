"""The training procedure: its optimizer, its schedule, seeds, stopping and going on, learning."""

import functools
import importlib.util
from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from common import training
from common.data import Cifar
from common.networks import evaluate, table1_network
from common.preprocess import Statistics
from common.records import code_of
from common.settings import Settings
from common.training import ConvolutionMuon, code_and_weights, make_optimizers, schedule, train
from part1.crop import prepare
from part2.networks import designed_network


def run(cifar, settings, seed=0, **options):
    """Train as question 1.4 does; return the network and its log."""
    network, log, _ = train(table1_network, prepare, cifar, settings, seed, **options)
    return network, log


def same(first, second):
    return all(torch.equal(a, b) for a, b in zip(first.state_dict().values(), second.state_dict().values()))


def test_the_budget_is_the_assignments():
    settings = Settings()
    assert (settings.iterations, settings.batch_size) == (2000, 100)


def test_learning_rate_falls_linearly_to_zero(synthetic):
    settings = Settings(iterations=5, learning_rate=0.05)
    assert run(synthetic, settings)[1]["learning_rate"] == pytest.approx([0.05, 0.04, 0.03, 0.02, 0.01])
    assert schedule(5, settings) == 0


@pytest.mark.parametrize("name", ["muon", "sgd", "adamw"])
def test_every_parameter_has_exactly_one_optimizer(name):
    network = table1_network()
    optimizers = make_optimizers(network, Settings(optimizer=name))
    addresses = [p.data_ptr() for o in optimizers for group in o.param_groups for p in group["params"]]
    assert sorted(addresses) == sorted(parameter.data_ptr() for parameter in network.parameters())
    with pytest.raises(ValueError, match="lion"):
        make_optimizers(network, Settings(optimizer="lion"))


def test_muon_steps_are_orthogonal_whatever_the_gradients_scale():
    torch.manual_seed(0)
    steps = []
    for scale in (1, 1e-5):
        weight = nn.Parameter(torch.zeros(16, 8, 5, 5))
        muon = ConvolutionMuon([weight], lr=0.1, momentum=0.6, weight_decay=0, ns_steps=3)
        weight.grad = scale * torch.randn(weight.shape, generator=torch.Generator().manual_seed(1))
        muon.step()
        steps.append(weight.detach().flatten(1) / 0.1)  # the weight itself moved, not a copy
        assert (torch.linalg.svdvals(steps[-1]) - 1).abs().max() < 0.5
    assert torch.allclose(*steps, atol=0.05)


def test_muon_leaves_a_vanished_gradient_small():
    """Below its eps of 1e-7, Muon no longer rescales: what has vanished stays vanished (question 2.3)."""
    weight = nn.Parameter(torch.zeros(16, 8, 5, 5))
    muon = ConvolutionMuon([weight], lr=0.1, momentum=0.6, weight_decay=0, ns_steps=3)
    weight.grad = torch.full_like(weight, 1e-14)
    muon.step()
    assert weight.abs().max() < 1e-5


def test_muon_that_keeps_norms_turns_weights_by_the_same_angle_whatever_their_norm():
    torch.manual_seed(0)
    direction, gradient = torch.randn(2, 16, 8, 5, 5)
    cosines = []
    for scale in (0.01, 1.0, 100.0, 0.0):
        weight = nn.Parameter(scale * direction)
        before = weight.detach().clone()
        muon = ConvolutionMuon([weight], keep_norm=True, lr=0.1 * scale or 0.1, weight_decay=0, ns_steps=3)
        weight.grad = gradient.clone()
        muon.step()
        if scale:
            assert weight.norm().item() == pytest.approx(before.norm().item(), rel=1e-5)
            cosines.append(F.cosine_similarity(weight.detach().flatten(), before.flatten(), dim=0).item())
        else:
            assert weight.norm() > 0  # what begins at zero must grow
    assert cosines == pytest.approx(cosines[:1] * 3, rel=1e-5) and cosines[0] < 0.99999


@pytest.mark.parametrize("optimizer", ["muon", "sgd", "adamw"])
def test_same_seed_same_weights_and_log(synthetic, optimizer):
    settings = Settings(iterations=4, optimizer=optimizer, learning_rate=0.01)
    first, log = run(synthetic, settings)
    second, same_log = run(synthetic, settings)
    other, other_log = run(synthetic, settings, seed=1)
    assert same(first, second) and log == same_log
    assert not same(first, other) and log["loss"] != other_log["loss"]


@pytest.mark.parametrize("optimizer", ["muon", "sgd", "adamw", "muon that keeps norms"])
def test_a_stopped_run_ends_as_if_never_stopped(synthetic, tmp_path, monkeypatch, optimizer):
    """Stopped in the middle of an epoch, and once more right after a checkpoint."""
    few = replace(synthetic, train_images=synthetic.train_images[:80], train_labels=synthetic.train_labels[:80])
    kept = {"keep_norm": "norms" in optimizer}
    settings = Settings(iterations=10, batch_size=20, optimizer=optimizer.split()[0], learning_rate=0.01, **kept)
    # An epoch is 4 iterations.
    whole, log = run(few, settings)
    checkpoint = tmp_path / "run.pt"

    class Stopped(Exception):
        pass

    for steps_until_stop in (6, 5):  # iterations 0…5, then 4…8
        steps, cross_entropy = iter(range(steps_until_stop)), nn.functional.cross_entropy

        def stop_or_go_on(*arguments, **options):
            if next(steps, None) is None:
                raise Stopped
            return cross_entropy(*arguments, **options)

        with monkeypatch.context() as patch, pytest.raises(Stopped):
            patch.setattr(training.F, "cross_entropy", stop_or_go_on)
            run(few, settings, checkpoint=checkpoint)
    assert torch.load(checkpoint, weights_only=True)["iteration"] == 8
    resumed, resumed_log = run(few, settings, checkpoint=checkpoint)
    assert same(whole, resumed) and log == resumed_log


def test_a_checkpoint_of_other_settings_is_not_taken(synthetic, tmp_path):
    checkpoint = tmp_path / "run.pt"
    run(synthetic, Settings(iterations=2), checkpoint=checkpoint)
    fresh, _ = run(synthetic, Settings(iterations=3))
    assert same(fresh, run(synthetic, Settings(iterations=3), checkpoint=checkpoint)[0])


def test_a_run_goes_on_after_a_change_of_words_but_not_of_code(tmp_path):
    """What a checkpoint is compared by: the code without comments and docstrings."""

    def code(name, text):
        (tmp_path / f"{name}.py").write_text(text)
        spec = importlib.util.spec_from_file_location(name, tmp_path / f"{name}.py")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return code_of(module.prepare), code_of(functools.partial(module.prepare, cutout=8))

    before = code("before", 'def prepare(images, cutout=0):\n    """Nothing."""\n    return images\n')
    words = code("words", "def prepare(images, cutout=0):\n    # as they are\n    return images\n")
    other = code("other", "def prepare(images, cutout=0):\n    return 2 * images\n")
    assert before == words and before[0] != other[0] and before[0] != before[1]
    made = [code_and_weights(network, prepare) for network in (table1_network(), table1_network())]
    assert made[0]["code"] == made[1]["code"] and made[0]["weights"] != made[1]["weights"]
    kinds = [code_and_weights(network, prepare)["code"] for network in (table1_network(), designed_network())]
    assert kinds[0] != kinds[1]  # a layer of our own is part of it


@pytest.mark.parametrize("optimizer", ["muon", "sgd"])
def test_clipping_shortens_what_is_not_muons(optimizer, synthetic):
    """After one step of SGD without decay, parameters have moved by learning rate · (1 + momentum) · clipped norm."""
    settings = Settings(iterations=1, optimizer=optimizer, weight_decay=0, plain_weight_decay=0, clip_norm=1e-3)
    settings = replace(settings, learning_rate=0.05, momentum=0.9)
    torch.manual_seed(0)
    before = table1_network()
    after, _ = run(synthetic, settings)
    moved = [
        (a.detach() - b.detach()).flatten()
        for a, b in zip(after.parameters(), before.parameters())
        if optimizer == "sgd" or a.dim() != 4
    ]
    assert torch.cat(moved).norm().item() == pytest.approx(0.05 * 1.9 * 1e-3, rel=1e-2)


def test_an_epoch_draws_every_image_once(synthetic):
    seen = []

    def remember(images, statistics, generator):
        seen.append(images[:, 0, 0, 0])
        return images.float()

    images = torch.arange(40, dtype=torch.uint8).view(40, 1, 1, 1).expand(40, 3, 32, 32).contiguous()
    labels = torch.zeros(40).long()
    cifar = Cifar(images, labels, images, labels)
    train(table1_network, remember, cifar, Settings(iterations=8, batch_size=10), seed=0)
    epochs = torch.cat(seen).view(2, 40)
    assert all(epoch.sort().values.tolist() == list(range(40)) for epoch in epochs)
    assert not torch.equal(*epochs)


def test_evaluation_counts_right_and_leaves_the_network_alone():
    class Constant(nn.Module):
        def forward(self, images):
            assert not self.training
            return nn.functional.one_hot(images[:, 0, 0, 0].long(), 10) * 100.0

    images = torch.arange(10).repeat(120).view(-1, 1, 1, 1).expand(-1, 3, 2, 2)
    labels = torch.arange(10).repeat(120)
    labels[:300] = (labels[:300] + 1) % 10
    network = Constant().train()

    def as_float(images, statistics):
        return images.float()

    accuracy, loss = evaluate(network, as_float, images, labels, Statistics(torch.zeros(3), torch.ones(3)))
    assert accuracy == 0.75 and loss == pytest.approx(25) and network.training


def test_synthetic_images_are_learned(synthetic):
    network, log = run(synthetic, Settings(iterations=60))
    accuracy, _ = evaluate(network, prepare, synthetic.test_images, synthetic.test_labels, synthetic.statistics)
    assert accuracy > 0.9 and log["loss"][0] > 2


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_100_real_iterations_are_well_over_chance(cifar, precision):
    network, log = run(cifar, Settings(iterations=100), precision=precision)
    accuracy, loss = evaluate(network, prepare, cifar.test_images[:2000], cifar.test_labels[:2000], cifar.statistics)
    assert accuracy > 0.5 and loss < 1.5
    assert sum(log["train_accuracy"][-50:]) / 50 > 0.4
