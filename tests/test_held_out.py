"""Choosing on held-out training images: folds, differences image by image, and searches that are stopped."""

import time
from functools import partial
from pathlib import Path

import pytest
import torch

from common import data, experiment, options
from common.held_out import FOLDS, comparisons, split
from common.options import trial_path
from common.records import RecordError, load_checkpoint, read_rows, write_rows
from common.results import kinds_of
from common.settings import Settings
from part2 import design

BUDGET = {"iterations": 3, "batch_size": 20, "images": "synthetic"}
FLAGS = ["--data-dir", "synthetic", "--iterations", "3", "--batch-size", "20"]


def test_every_image_is_held_out_once_and_folds_have_the_classes_of_the_whole(cifar):
    parts = [split(cifar, fold) for fold in range(FOLDS)]
    counts = torch.stack([part.test_labels.bincount(minlength=10) for part in parts])
    assert (counts.amax(0) - counts.amin(0)).max() <= 1 and [len(part.test_labels) for part in parts] == [2000] * FOLDS
    assert torch.equal(counts.sum(0), cifar.train_labels.bincount())
    held = torch.cat([part.test_images.flatten(1) for part in parts])
    assert len(held.unique(dim=0)) == len(cifar.train_images.flatten(1).unique(dim=0))
    for part in parts[:2]:
        both = torch.cat([part.train_images, part.test_images]).flatten(1)
        assert len(both) == 10_000 and len(both.unique(dim=0)) == len(held.unique(dim=0))
        assert not torch.equal(part.statistics.mean, cifar.statistics.mean)  # of what is trained on


def test_candidates_are_compared_image_by_image_over_the_folds_of_both(tmp_path):
    """By hand: a is right on 4 of 8 and 3 of 8 images; b gains 3 and loses 1 in the one fold that it has."""
    table = tmp_path / "logs" / "2.0_folds.csv"
    row = dict.fromkeys(kinds_of(table)[0], 0) | {"images": 8}
    cells = [("a", 0, 0b11110000), ("a", 1, 0b11100000), ("b", 1, 0b11011010), ("c", 2, 0b11111111)]
    write_rows(table, [row | {"candidate": name, "fold": fold, "correct": f"{bits:02x}"} for name, fold, bits in cells])
    found = comparisons(table, "a")
    assert list(found) == ["c", "b", "a"]
    assert found["a"] == (7 / 16, None) and found["c"] == (1.0, None)
    accuracy, difference = found["b"]
    assert accuracy == 5 / 8 and difference.pairs == 8 and difference.mean == pytest.approx(2 / 8)
    mean = 2 / 8  # of +1, +1, +1, -1 and four 0
    assert difference.error == pytest.approx(((4 - 8 * mean**2) / 7 / 8) ** 0.5)


def test_none_is_trained_twice_but_one_that_has_changed(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(data, "synthetic", partial(data.synthetic, 200, 10))
    trained = []

    def train_seed(candidate, seed, cifar, *arguments):
        trained.append((candidate.name, cifar.test_images))
        return whole(candidate, seed, cifar, *arguments)

    def run(*flags):
        trained.clear()
        monkeypatch.setattr("sys.argv", ["design.py", *FLAGS, "--out", str(tmp_path), *flags])
        options.run_script(design.main)
        return capsys.readouterr().out.splitlines()

    whole = experiment.train_seed
    monkeypatch.setattr(experiment, "train_seed", train_seed)
    few = dict(list(design.CANDIDATES.items())[:2])
    first, second = few
    monkeypatch.setattr(design, "CANDIDATES", few)
    out = trial_path(tmp_path, BUDGET)
    lines = run("--folds", "1")
    assert [name for name, _ in trained] == [first, second]
    assert all(torch.equal(images, split(data.synthetic(), 1).test_images) for _, images in trained)
    assert any(f"  {second}: " in line and "n = 40 pairs" in line for line in lines)
    rows = read_rows(out / "logs/2.0_folds.csv")
    assert [(row["candidate"], row["fold"], row["images"]) for row in rows] == sorted((name, "1", "40") for name in few)
    assert all(row["processor"] and row["threads"] and row["setup"] for row in rows)
    assert not list((out / "checkpoints").glob("*.pt"))
    assert run("--folds", "1") == lines[2:] and not trained
    run("--folds", "0", "1", "--candidates", first)
    assert [name for name, _ in trained] == [first] and len(read_rows(out / "logs/2.0_folds.csv")) == 3
    make_network, prepare, _ = few[second]
    few[second] = make_network, prepare, Settings(learning_rate=0.01)
    run("--folds", "1")
    assert [name for name, _ in trained] == [second]
    with monkeypatch.context() as patch:
        patch.setattr(torch, "__version__", "2.0")
        with pytest.raises(SystemExit):
            run("--folds", "2")
        assert "different torch (" in capsys.readouterr().err and not trained
        patch.setattr(experiment, "hash_of_setup", lambda *_: "as this version describes the layers")
        run("--folds", "1")
        assert not trained
        few["mine"] = few[first]  # which has no rows of another machine
        run("--folds", "2", "--candidates", "mine")


def test_a_search_that_is_killed_goes_on_and_ends_in_the_same_table(start_main, tmp_path):
    flags = ("--data-dir", "synthetic", "--iterations", 40)  # two and a half epochs of what is not held out
    out = trial_path(Path(), {"iterations": 40, "images": "synthetic"})
    table, checkpoint = out / "logs/1.0_folds.csv", out / "checkpoints/1.0_folds_SGD-0.05_fold0_seed0.pt"

    def kill_once_there_is(path, folder):
        process = start_main("part1.procedure", *flags, "--out", folder)
        while not (folder / path).exists():
            assert process.is_alive()
            time.sleep(0.005)
        process.kill()
        process.join()

    kill_once_there_is(checkpoint, tmp_path)
    assert not (tmp_path / table).exists()
    assert load_checkpoint(tmp_path / checkpoint)["iteration"] == 16  # an epoch
    kill_once_there_is(table, tmp_path)
    kill_once_there_is(table, tmp_path / "whole")
    rows = [read_rows(folder / table)[0] for folder in (tmp_path, tmp_path / "whole")]
    assert rows[0] | {"seconds": ""} == rows[1] | {"seconds": ""}


@pytest.mark.parametrize(
    "flags, expected",
    [
        ("--folds 5", "5 is not between 0 and 4"),
        ("--candidates nobody", "invalid choice: 'nobody'"),
        ("--optimizer sgd", "each candidate has its own"),
        ("--batch-size 9000", "8000 training images do not fill a batch of 9000"),
    ],
)
def test_what_cannot_be_compared_is_refused(flags, expected, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["design.py", *FLAGS, "--out", str(tmp_path), *flags.split()])
    with pytest.raises(SystemExit):
        options.run_script(design.main)
    errors = capsys.readouterr().err
    assert expected in errors and errors.count("\n") == 1


def test_folds_of_two_versions_of_a_candidate_have_no_mean(tmp_path):
    table = tmp_path / "logs" / "2.0_folds.csv"
    row = dict.fromkeys(kinds_of(table)[0], 0) | {"images": 8, "candidate": "a", "correct": "f0"}
    write_rows(table, [row | {"fold": fold, "setup": setup} for fold, setup in enumerate("xy")])
    with pytest.raises(RecordError, match=r"different setup \(x and y\)"):
        comparisons(table, "a")
    write_rows(table, [row | {"correct": "f0f0", "images": 17}])
    with pytest.raises(RecordError, match="16 bits for 17 images"):
        comparisons(table, "a")
