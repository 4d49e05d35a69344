"""The explorer, and what README's main command shows at once; on generated images."""

import re
import subprocess
import sys

import pytest
import torch
from matplotlib import image

from common import data, options
from common.gradients import convolutions
from common.records import ROOT
from part2 import cures, explore, plots, vanishing
from part2.cures import ScaledConv2d
from part2.signals import DEFAULT_FACTOR, signals


def run(monkeypatch, tmp_path, *flags):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["explore.py", "--data-dir", "synthetic", *flags])
    monkeypatch.setattr(data, "synthetic", lambda device="cpu", of=data.synthetic: of(200, 100, device))
    options.run_script(explore.main)


@pytest.mark.parametrize("init, make_network", [("default", vanishing.vanishing_network), ("he", cures.he_initialized)])
def test_the_explorers_networks_are_those_of_2_3_and_2_4(init, make_network):
    """The same layers, and the same default weights from the same seed."""
    torch.manual_seed(3)
    explored = explore.deep_variant(init=init)
    torch.manual_seed(3)
    expected = make_network()
    assert str(explored) == str(expected)
    if init == "default":
        for mine, given in zip(explored.parameters(), expected.parameters(), strict=True):
            assert torch.equal(mine, given)


def test_variants_have_what_the_flags_say():
    skipping = explore.deep_variant(added=4, skip=True, width=8, bias=False)
    blocks = [layer for layer in skipping if isinstance(layer, cures.Block)]
    assert len(blocks) == 2 and not any(block[-1].weight.any() for block in blocks)
    assert all(layer.bias is None for layer in convolutions(skipping))
    assert [layer.out_channels for layer in convolutions(skipping)[:6]] == [8] * 5 + [64]
    normalized = explore.deep_variant(added=2, norm="batch")
    assert sum(isinstance(layer, torch.nn.BatchNorm2d) for layer in normalized) == 9
    standardized = explore.deep_variant(added=2, norm="weights")
    assert all(isinstance(layer, ScaledConv2d) for layer in convolutions(standardized))
    leaky = [layer for layer in explore.deep_variant(slope=0.2) if isinstance(layer, torch.nn.LeakyReLU)]
    assert len(leaky) == 27 and leaky[0].negative_slope == 0.2


@pytest.mark.parametrize("init, slope, norm", [("default", 0, "none"), ("he", 0.3, "none"), ("default", 0, "batch")])
def test_theory_is_what_wide_networks_do(init, slope, norm):
    torch.manual_seed(0)
    images, labels = torch.randn(8, 3, 32, 32), torch.arange(8)
    network = explore.deep_variant(added=6, width=64, init=init, slope=slope, norm=norm)
    rows = signals(network, images, labels)
    measured = (rows[0]["gradient"] / rows[6]["gradient"]) ** (1 / 6)
    assert measured == pytest.approx(explore.factor_of_theory(init, slope, norm, skip=False), rel=0.1)


def test_theory_says_nothing_where_it_was_not_derived():
    assert explore.factor_of_theory("default", 0, "none", skip=False) == DEFAULT_FACTOR**0.5
    assert explore.factor_of_theory("default", 0, "none", skip=True) is None
    assert explore.factor_of_theory("default", 0, "weights", skip=False) is None
    assert explore.factor_of_theory("dirac", 0, "none", skip=False) is None


def test_activations_are_seen_as_they_arrive():
    torch.manual_seed(0)
    network = explore.deep_variant(added=6, width=2)
    images = torch.randn(2, 3, 32, 32).double()
    _, received = explore.measure(network, images, torch.arange(2), added=6)
    assert sorted(received) == [1, 6]
    assert received[1][0] == network[0](images).flatten()[0].item()


def test_a_comparison_is_printed_and_drawn(monkeypatch, tmp_path, capsys):
    run(monkeypatch, tmp_path, "--compare", "default", "he", "--added", "6", "--width", "4", "--out", "both.png")
    output = capsys.readouterr().out
    assert output.count("e-0") >= 2 and "he " in output and "drew both.png" in output
    assert image.imread(tmp_path / "both.png").shape[2] >= 3 and len(list(tmp_path.iterdir())) == 1


def test_an_animation_has_a_frame_for_each_of_its_iterations(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(explore, "FRAMES", 3)
    monkeypatch.setattr(plots, "FULL_WIDTH", 4)
    run(monkeypatch, tmp_path, "--animate", "--iterations", "4", "--added", "2", "--width", "4")
    content = (tmp_path / "explore.gif").read_bytes()
    assert content.startswith(b"GIF89a") and content.count(b"\x21\xf9\x04") >= 4  # graphic control extensions:
    # before training, and after 1, 2 and 4 iterations; the last is held
    assert [path.name for path in tmp_path.iterdir()] == ["explore.gif"]


def test_the_readme_shows_animations_of_less_than_2_mb():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    shown = re.findall(r"\]\((report/figures/\S+\.gif)\)", readme)
    assert len(shown) == 2
    for name in shown:
        content = (ROOT / name).read_bytes()
        assert content.startswith(b"GIF89a") and content.count(b"\x21\xf9\x04") >= 20 and len(content) < 2 * 10**6


@pytest.mark.parametrize(
    "flags, message",
    [
        ("--skip --added 3", "must be even with --skip"),
        ("--animate --compare he dirac", "not allowed with --compare"),
        ("--out explore.pdf", "does not end in .png"),
        ("--out nowhere/explore.png", "is not a folder"),
        ("--slope 2", "not between 0"),
    ],
)
def test_what_cannot_be_explored_is_one_line(flags, message, monkeypatch, tmp_path, capsys):
    with pytest.raises(SystemExit) as stop:
        run(monkeypatch, tmp_path, *flags.split())
    errors = capsys.readouterr().err
    assert stop.value.code == 2 and message in errors and errors.count("\n") == 1


def test_without_data_a_look_and_a_trial_take_generated_images_and_the_report_does_not(monkeypatch, capsys):
    def refuse(folder, searched):
        raise data.DataError("no network")

    monkeypatch.setattr(data, "searched", list)
    monkeypatch.setattr(data, "download", refuse)
    monkeypatch.delenv("CIFAR10_ROOT", raising=False)
    monkeypatch.setattr(options, "make_folders", lambda parser, out: None)
    monkeypatch.setattr(options, "trial", lambda parser, out, departing: departing)
    _, generated = data.load_at_hand()
    assert generated and "GENERATED IMAGES" in capsys.readouterr().out
    monkeypatch.setattr("sys.argv", ["vanishing.py", "--iterations", "300"])
    arguments = options.parse(options.parser(None))
    assert arguments.data_dir == "synthetic" and arguments.out == {"iterations": 300, "images": "synthetic"}
    assert capsys.readouterr().out.startswith("GENERATED IMAGES")
    monkeypatch.setattr("sys.argv", ["vanishing.py"])
    assert options.parse(options.parser(None)).data_dir is None
    with pytest.raises(data.DataError):
        data.load()


def test_the_main_command_measures_now_and_says_what_to_run_next():
    """Without data, if there is none."""
    command = [sys.executable, ROOT / "part2" / "vanishing.py"]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    table = lines.index("convolution   gradient    theory     images    theory")
    first, last = (list(map(float, lines[table + row].split())) for row in (1, 5))
    assert first[0] == 1 and last[0] == 21 and first[3] == first[4] == 1
    assert first[1] == pytest.approx(first[2], rel=0.7) and first[1] < 1e-9
    assert any(line.startswith("From the logs (") and "PyTorch" in line for line in lines)
    assert lines[-2].endswith("python part2/vanishing.py --iterations 300")
    assert lines[-1].endswith("python part2/vanishing.py --retrain --out mine")
