"""Part 2's networks: what the questions allow and ask for, and how each cure starts."""

import pytest
import torch

from common.gradients import convolutions
from part2 import ablations, accuracy, controls, cures, design, networks, signals, solution
from part2.solution import CURES
from part2.vanishing import circular_network, vanishing_network

DEEP = {name: cure.make_network for name, cure in CURES.items()}  # "none" is question 2.3's


def shapes(network):
    return [(layer.in_channels, layer.out_channels, layer.kernel_size) for layer in convolutions(network)]


def test_the_designed_network_has_only_what_question_2_1_allows():
    kinds = [row["kind"] for row in networks.describe(networks.designed_network())]
    assert set(kinds) == {"Conv2d", "GhostBatchNorm2d", "ReLU", "MaxPool2d", "Flatten", "Linear"}
    assert kinds.count("Linear") == 1 and kinds[-1] == "Linear"  # the softmax's
    assert kinds.count("GhostBatchNorm2d") == kinds.count("Conv2d")
    assert not [module for module in networks.designed_network().modules() if isinstance(module, cures.Block)]


def test_ghost_batch_norm_is_batch_norm_of_each_part_in_training_and_of_running_statistics_in_evaluation():
    ghost, plain = networks.GhostBatchNorm2d(3), torch.nn.BatchNorm2d(3)
    inputs = torch.randn(2 * networks.GHOST, 3, 4, 4) + torch.arange(2 * networks.GHOST).view(-1, 1, 1, 1)
    first, second = inputs.split(networks.GHOST)
    assert torch.equal(ghost(inputs), torch.cat([plain(first), plain(second)]))
    assert torch.equal(ghost.running_var, plain.running_var)
    assert torch.equal(ghost.eval()(inputs), plain.eval()(inputs))


@pytest.mark.parametrize("name", DEEP)
def test_deep_networks_are_the_designed_one_with_20_convolutions_and_no_normalization(name):
    network = DEEP[name]()
    designed, deep = shapes(networks.designed_network()), shapes(network)
    width = designed[0][1]
    assert deep == [designed[0]] + 20 * [(width, width, (5, 5))] + designed[1:]
    for layer in convolutions(network)[1:21]:
        assert layer.stride == (1, 1) and layer.padding == (2, 2)
    kinds = {row["kind"] for row in networks.describe(network)}
    assert not any("Norm" in type(module).__name__ for module in network.modules()), kinds
    assert network(torch.randn(2, 3, 32, 32)).shape == (2, 10)


def test_convolutions_are_listed_and_named_in_forward_order():
    for make_network in DEEP.values():
        network = make_network()
        called = []
        for layer in convolutions(network):
            layer.register_forward_hook(lambda layer, _inputs, _output: called.append(layer))
        network(torch.randn(1, 3, 32, 32))
        assert called == convolutions(network)
        names = [name for name, _ in network.named_children()]
        assert names[0] == "conv1" and names[-1] == "softmax" and "conv22" in names


@pytest.mark.parametrize("added", [0, 2, 5])
def test_the_number_of_added_layers_is_free(added):
    designed, deep = shapes(networks.designed_network()), shapes(vanishing_network(added))
    assert len(deep) == len(designed) + added


def test_default_initialization_has_the_variance_that_the_explanation_uses():
    torch.manual_seed(0)
    for layer in convolutions(vanishing_network())[1:21]:
        fan_in = layer.weight[0].numel()
        assert layer.weight.abs().max() <= fan_in**-0.5
        assert layer.weight.var().item() == pytest.approx(1 / (3 * fan_in), rel=0.05)


@pytest.mark.parametrize("name", ["dirac", "residual", "scaled"])
def test_the_added_layers_of_a_cure_pass_activations_unchanged_at_the_start(name):
    network = CURES[name].make_network()
    children = dict(network.named_children())
    activations = children["relu1"](children["conv1"](torch.randn(2, 3, 32, 32)))
    passed = activations
    for child, layer in list(children.items())[2:]:
        if child == "conv22":
            break
        passed = layer(passed)
    assert torch.equal(passed, activations)


def test_scaled_weights_keep_the_variance_of_what_relu_leaves():
    torch.manual_seed(0)
    layer = cures.ScaledConv2d(64, 64, 5, padding=2)
    with torch.no_grad():
        layer.weight.mul_(7).add_(3)  # of no effect: they are standardized
        layer.bias.zero_()
        outputs = layer(torch.randn(4, 64, 24, 24).relu())[:, :, 4:-4, 4:-4]
    assert outputs.var().item() == pytest.approx(1, rel=0.1)
    assert outputs.mean().item() == pytest.approx(0, abs=0.1)


def test_a_block_adds_and_leaves_relu_to_the_network():
    activations = torch.randn(2, 3, 4, 4)
    layer = torch.nn.Conv2d(3, 3, 1)
    assert torch.equal(cures.Block(layer)(activations), activations + layer(activations))
    for make_network in (cures.residual, cures.scaled):
        names = [name for name, _ in make_network().named_children()]
        assert all(names[names.index(name) + 1] == name.replace("block", "relu") for name in names if "block" in name)


def test_two_layers_of_a_kind_between_convolutions_are_both_kept():
    network = networks.numbered(*(torch.nn.ReLU() for _ in range(3)))
    assert [name for name, _ in network.named_children()] == ["relu0", "relu0_", "relu0__"]


def test_the_control_with_batchnorm_has_the_depth_of_2_3_and_the_layers_of_2_1():
    network = networks.batchnorm_network()
    assert shapes(network) == shapes(vanishing_network())
    norms = [module for module in network.modules() if isinstance(module, networks.GhostBatchNorm2d)]
    assert len(norms) == len(convolutions(network)) == 27


def test_ordinary_batchnorm_normalizes_the_whole_batch():
    inputs = torch.randn(100, 16, 4, 4, generator=torch.Generator().manual_seed(0)) + 3
    layer, ghost = accuracy.with_ghost_batches(10_000).norm1, networks.designed_network().norm1
    assert torch.equal(layer(inputs), torch.nn.BatchNorm2d(16)(inputs))
    assert not torch.equal(layer(inputs), ghost(inputs))


def test_residual_blocks_with_batchnorm_start_as_the_identity():
    torch.manual_seed(0)
    network = ablations.batchnorm_residual_network().train()
    first = network[:3](torch.randn(50, 3, 32, 32))
    assert torch.equal(network[3:23](first), first) and len(convolutions(network)) == 27


def test_a_gain_mends_one_pass_and_leaves_the_other():
    """By hand: two images of one pixel, 1 and 3, whose mean is 2; upstream gradients 5 and 7."""
    for forward, backward in [(3, 1), (1, 4), (3, 4)]:
        activations = torch.tensor([1.0, 3.0]).view(2, 1, 1, 1).requires_grad_()
        mended = ablations.Mend(forward, backward)(activations)
        mended.backward(torch.tensor([5.0, 7.0]).view(2, 1, 1, 1))
        assert mended.flatten().tolist() == [2 - forward, 2 + forward]
        assert activations.grad.flatten().tolist() == [5 * backward, 7 * backward]


def test_the_mended_networks_keep_at_the_start_what_theory_says_the_deep_one_loses(cifar):
    inputs, labels = accuracy.prepare(cifar.train_images[:32], cifar.statistics).double(), cifar.train_labels[:32]
    left = {}
    for name in ("vanishing", "backward", "forward", "both"):
        torch.manual_seed(0)
        network = controls.CONTROLS[name].make_network() if name != "vanishing" else vanishing_network()
        first, *_, last = signals.signals(network.double(), inputs, labels)[: 1 + networks.ADDED]
        left[name] = first["gradient"] / last["gradient"], last["image_variance"] / first["image_variance"]
    assert max(left["vanishing"]) < 1e-6 and min(left["both"]) > 1e-3
    assert left["backward"][0] > 0.01 and left["backward"][1] == pytest.approx(left["vanishing"][1])
    assert left["forward"][1] > 1e-3 and left["forward"][0] < 1e-6


def test_circular_padding_leaves_no_border():
    """With the same weights as the deep network, its added layers shift their output if the input is shifted."""
    torch.manual_seed(0)
    circular, deep = circular_network(), vanishing_network()
    circular.load_state_dict(deep.state_dict())
    images = torch.randn(1, 16, 8, 8)
    for network, equal in ((circular, True), (deep, False)):
        added = network[2:6]  # two convolutions and their ReLUs
        shifted = added(images.roll(3, dims=-1))
        assert torch.allclose(shifted, added(images).roll(3, dims=-1), atol=1e-6) is equal


def test_without_its_branches_the_solution_computes_what_it_computed_before_they_learned(synthetic, monkeypatch):
    seen = []

    def watch(network, prepare, images, labels, statistics):
        with torch.no_grad():
            seen.append(network(prepare(images[:4], statistics)))
        return 0.5, 0.0

    monkeypatch.setattr(solution, "evaluate", watch)
    torch.manual_seed(0)
    network = cures.scaled().eval()
    with torch.no_grad():
        new = network(accuracy.prepare(synthetic.test_images[:4], synthetic.statistics))
        for block in network:
            if isinstance(block, cures.Block):
                block[-1].gain += 1.0 if len(block) == 3 else 0.0
    assert solution.measure_branches(network, synthetic) == [{"convolutions_off": 20, "accuracy": 0.5}]
    assert torch.equal(seen[0], new)
    with torch.no_grad():
        assert not torch.allclose(network(accuracy.prepare(synthetic.test_images[:4], synthetic.statistics)), new)


@pytest.mark.parametrize("name, slow", [("slow_softmax", True), ("slow_others", False)])
def test_only_the_gradients_that_a_control_names_are_divided(name, slow):
    inputs, labels = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(0)), torch.arange(4)
    gradients = []
    for make_network in (cures.scaled, controls.CONTROLS[name].make_network):
        torch.manual_seed(0)
        network = make_network()
        torch.nn.functional.cross_entropy(network(inputs), labels).backward()
        gradients.append({name: value.grad for name, value in network.named_parameters()})
    usual, found = gradients
    for parameter in usual:
        of_softmax = parameter.startswith("softmax")
        of_muon = parameter.endswith("weight") and not of_softmax
        divisor = 100 if not of_muon and of_softmax == slow else 1
        assert torch.equal(found[parameter], usual[parameter] / divisor), parameter
    assert usual["softmax.weight"].any() and usual["conv1.bias"].any()


def test_a_slow_start_ends_after_ten_steps_and_changes_no_weights():
    torch.manual_seed(0)
    usual = cures.scaled()
    torch.manual_seed(0)
    network = controls.CONTROLS["slow_start"].make_network()
    weights = network.state_dict()
    assert weights.pop("softmax.steps") == 0
    assert all(torch.equal(weights[name], value) for name, value in usual.state_dict().items())
    layer, inputs, sizes = network.softmax, torch.ones(1, 256), []
    for _ in range(12):
        layer.eval()(inputs)  # not counted
        layer.zero_grad()
        layer.train()(inputs).sum().backward()
        sizes += [(layer.weight.grad.unique().item(), layer.bias.grad.unique().item())]
    assert sizes == [(pytest.approx(0.01), pytest.approx(0.01))] * 10 + [(1, 1)] * 2


def test_the_control_with_fewer_skips_has_the_solutions_weights_at_full_scale_and_skips_added_layers_alone():
    torch.manual_seed(0)
    solution_network = cures.scaled()
    torch.manual_seed(0)
    network = controls.CONTROLS["fewer_skips"].make_network()
    for usual, found in zip(convolutions(solution_network), convolutions(network), strict=True):
        assert torch.equal(usual.weight, found.weight)
        assert found.scale == (0 if usual.scale == 0 else cures.ScaledConv2d.RELU)
    blocks = [layer for layer in network if isinstance(layer, cures.Block)]
    assert [len(convolutions(block)) for block in blocks] == [2] * 10


def test_the_control_with_standardized_added_layers_has_ordinary_weights_elsewhere():
    torch.manual_seed(0)
    first, *others = convolutions(ablations.standardized_added_network())
    added, original = others[: networks.ADDED], [first, *others[networks.ADDED :]]
    assert [layer.scale for layer in added] == [cures.ScaledConv2d.RELU, 0] * 10
    for layer in original:
        assert type(layer) is torch.nn.Conv2d and not layer.bias.any()
        assert layer.weight.var().item() * layer.weight[0].numel() == pytest.approx(2, rel=0.2)


def test_the_shallow_control_is_the_one_with_fewer_skips_without_added_layers():
    shallow, deep = ablations.standardized_shallow_network(), ablations.fewer_skips_network()
    assert [layer.scale for layer in convolutions(shallow)] == [cures.ScaledConv2d.RELU] * 7
    assert shapes(shallow) == [shapes(deep)[0], *shapes(deep)[1 + networks.ADDED :]]
    for layer, usual in zip(shallow, vanishing_network(0), strict=True):
        assert isinstance(layer, type(usual))


def test_the_shallow_controls_only_center_or_only_normalize_their_weights():
    inputs = torch.randn(2, 3, 8, 8)
    for kind, moves in [(ablations.CenteredConv2d, lambda weight: weight + 3), (None, None)]:
        network = ablations.shallow_network(kind)
        assert shapes(network) == shapes(vanishing_network(0))
        layer = convolutions(network)[0]
        assert type(layer) is (kind or torch.nn.Conv2d) and not layer.bias.any()
        if moves:
            before, layer.weight.data = layer(inputs), moves(layer.weight.data)
            assert torch.allclose(layer(inputs), before, atol=1e-4)
            layer.weight.data *= 2
            assert torch.allclose(layer(inputs), 2 * before, atol=1e-4)
    layer = convolutions(ablations.shallow_network(ablations.GainedConv2d))[0]
    without_bias, layer.gain.data[3] = layer(inputs), 2**0.5
    factors = torch.ones(1, 16, 1, 1).index_fill(1, torch.tensor(3), 2)
    assert torch.allclose(layer(inputs), without_bias * factors, atol=1e-5)
    layer = convolutions(ablations.shallow_network(ablations.NormalizedConv2d))[1]
    inputs = torch.randn(2, 16, 8, 8)
    sizes = layer.weight.square().mean((1, 2, 3), keepdim=True).sqrt()
    by_hand = torch.nn.Conv2d(16, 64, 3, padding=1, bias=False)
    by_hand.weight.data = 2**0.5 * layer.weight.data / sizes / 144**0.5
    assert torch.allclose(layer(inputs), by_hand(inputs), atol=1e-4)
    before, layer.weight.data = layer(inputs), 5 * layer.weight.data
    assert torch.allclose(layer(inputs), before, atol=1e-4)


def test_the_control_whose_blocks_do_not_start_as_the_identity_changes_only_their_second_convolutions():
    torch.manual_seed(0)
    usual = convolutions(cures.scaled())
    torch.manual_seed(0)
    found = convolutions(ablations.random_start_network())
    for number, (before, after) in enumerate(zip(usual, found, strict=True)):
        second = number in range(2, 21, 2)  # of a pair of added convolutions
        assert torch.equal(before.weight, after.weight) and (before.scale == 0) == second
        assert after.scale == (cures.ScaledConv2d.RELU / 2 if second else before.scale)


def test_the_control_without_biases_has_none_in_convolutions():
    assert all(layer.bias is None for layer in convolutions(ablations.unbiased_network()))


def test_the_noise_of_ghost_batches_has_their_statistics_and_no_gradient_of_its_own():
    generator = torch.Generator().manual_seed(0)
    inputs = (torch.randn(50, 3, 4, 4, generator=generator) * 2 + 5).requires_grad_()
    layer = design.GhostNoise(ghost=25)
    assert layer.eval()(inputs) is inputs
    outputs = layer.train()(inputs)
    for part in outputs.split(25):
        for statistic in (torch.mean, torch.std):
            whole = statistic(inputs.transpose(0, 1).flatten(1), dim=1)
            assert torch.allclose(statistic(part.transpose(0, 1).flatten(1), dim=1), whole, rtol=0.01)
    (slope,) = torch.autograd.grad(outputs[:, :, 0, 0].sum(), inputs)
    assert not slope[:, :, 1:].any() and slope[:25, :, 0, 0].std(0).max() < 1e-6


def test_chains_begin_as_theory_says(cifar):
    """Mirrored: pairs of channels, one of each zero, whose length no added layer changes. Identity: nothing changes."""
    inputs = accuracy.prepare(cifar.train_images[:8], cifar.statistics)
    torch.manual_seed(0)
    network = design.mirrored_chain()
    first = network[:2](inputs)
    assert torch.equal(first[:, :8] - first[:, 8:], network[0](inputs)[:, :8])
    last = network[2 : 2 + 2 * networks.ADDED](first)
    assert not (last[:, :8] * last[:, 8:]).any()
    assert torch.allclose(last.norm(dim=1), first.norm(dim=1), rtol=1e-4) and not torch.allclose(last, first)
    for chain in (cures.slowed_identity(), design.leaky_chain()):
        first = chain[:2](inputs)
        assert torch.equal(chain[2 : 2 + 2 * networks.ADDED](first), first)


@pytest.mark.parametrize("name", [name for name in design.CANDIDATES if name.startswith("2.4")])
def test_candidates_for_2_4_have_its_convolutions_and_no_batchnorm(name):
    network = design.CANDIDATES[name][0]()
    assert shapes(network) == shapes(vanishing_network())
    assert not any(isinstance(layer, torch.nn.BatchNorm2d) for layer in network.modules())
    skips = any(isinstance(layer, cures.Block) for layer in network.modules())
    assert skips != ("plain chain" in name)
