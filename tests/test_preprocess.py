"""Pre-processing: each property proved on the distribution it is about (questions 1.1 to 1.4)."""

from types import SimpleNamespace

import pytest
import torch

from common.preprocess import Statistics, channel_statistics, normalize, random_crop, random_cutout, random_flip, raw
from part1 import controls, crop, flip
from part1 import normalize as normalize_script
from part1 import raw as raw_script
from part2 import accuracy

IDENTITY = Statistics(torch.zeros(3, 1, 1), torch.ones(3, 1, 1))


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def numbered_images(number):
    """Images in which each pixel has a value of its own, from 1 on: none is 0, none equals its mirror's."""
    return torch.arange(1.0, 3 * 32 * 32 + 1).view(1, 3, 32, 32).repeat(number, 1, 1, 1)


def test_raw_pixels_keep_their_levels(synthetic):
    images = synthetic.train_images[:100]
    prepared = raw(images)
    assert prepared.dtype == torch.float32
    assert torch.equal(prepared.to(torch.uint8), images) and prepared.max() > 200


def test_normalized_training_images_have_zero_mean_and_unit_deviation(synthetic):
    images = synthetic.train_images
    statistics = channel_statistics(images)
    std, mean = torch.std_mean(normalize(images, statistics).double(), dim=(0, 2, 3))
    assert torch.allclose(mean, torch.zeros(3).double(), atol=1e-5)
    assert torch.allclose(std, torch.ones(3).double(), atol=1e-5)
    other = normalize(synthetic.test_images, statistics)  # by the training batch's statistics, not their own
    assert torch.allclose(other * statistics.std + statistics.mean, synthetic.test_images.float(), atol=1e-3)


def test_real_statistics(cifar):
    mean, std = channel_statistics(cifar.train_images)
    pixels = cifar.train_images.double()
    assert torch.allclose(mean.flatten().double(), pixels.mean((0, 2, 3)), atol=1e-3)
    assert torch.allclose(std.flatten().double(), pixels.std((0, 2, 3)), atol=1e-3)


def test_scaled_pixels_have_the_size_of_normalized_ones_but_not_their_mean(synthetic):
    images = synthetic.train_images
    scaled = controls.scale(images, synthetic.statistics)
    assert scaled.square().mean().item() == pytest.approx(1, abs=1e-3)
    assert torch.allclose(scaled / scaled.max(), images / images.max())  # black remains 0


def test_crops_alone_move_images_and_never_mirror_them():
    images = numbered_images(100)
    cropped = controls.crop_alone(images, IDENTITY, generator())
    inner = cropped[:, :, 4:-4, 4:-4]  # never padding
    assert (inner.diff(dim=-1) == 1).all() and (inner[:, 0, 0, 0].unique().numel()) > 50
    assert torch.equal(controls.crop_alone(images, IDENTITY), images)


@pytest.mark.parametrize(("prepare", "mode"), [(controls.crop_fixed, "constant"), (controls.roll_fixed, "circular")])
def test_crops_at_fixed_positions_never_change_except_for_the_flip(prepare, mode):
    images = torch.randint(256, (200, 3, 32, 32), dtype=torch.uint8, generator=generator())
    first, second = (prepare(images, IDENTITY, generator(seed)) for seed in (0, 1))
    assert torch.equal(prepare(images, IDENTITY), images.float())
    landed = []
    for image, *versions in zip(images.float(), first, second):
        top, left = int(image.sum()) % 9, int(image.sum()) // 9 % 9
        padded = torch.nn.functional.pad(torch.stack([image, image.flip(-1)]), [4] * 4, mode)
        expected = padded[:, :, top : top + 32, left : left + 32]
        landed.append([int((expected == version).flatten(1).all(1).nonzero().item()) for version in versions])
        assert all((expected == version).flatten(1).all(1).any() for version in versions)
    assert 0.3 < torch.tensor(landed).float().mean() < 0.7  # some are mirrored


def test_fixed_flips_mirror_the_same_images_each_time():
    images = torch.randint(256, (200, 3, 32, 32), dtype=torch.uint8, generator=generator())
    first, second = (controls.flip_fixed(images, IDENTITY, generator(seed)) for seed in (0, 1))
    assert torch.equal(first, second) and torch.equal(controls.flip_fixed(images, IDENTITY), images.float())
    mirrored = [torch.equal(found, image.flip(-1)) for image, found in zip(images.float(), first)]
    assert all(
        torch.equal(found, image) for image, found, flipped in zip(images.float(), first, mirrored) if not flipped
    )
    assert 70 < sum(mirrored) < 130


def test_shifted_images_have_zeros_or_the_edge_at_the_border():
    row = torch.tensor([1.0, 2, 3, 4]).view(1, 1, 1, 4)
    assert controls.shift(row, 1).flatten().tolist() == [0, 1, 2, 3]
    assert controls.shift(row, -2, "replicate").flatten().tolist() == [3, 4, 4, 4]


def test_flip_mirrors_half_of_the_images_each_on_its_own():
    number = 20_000
    images = torch.arange(32, dtype=torch.uint8).expand(number, 3, 32, 32)
    flipped = random_flip(images, generator())
    heads = flipped[:, 0, 0, 0] == 31
    assert torch.equal(flipped[heads], images[heads].flip(-1)) and torch.equal(flipped[~heads], images[~heads])
    assert abs(heads.double().mean() - 0.5) < 4 * 0.5 / number**0.5
    both = (heads[1:] & heads[:-1]).double().mean()  # neighbors in the batch agree by chance only
    assert abs(both - 0.25) < 4 * (0.25 * 0.75 / number) ** 0.5


def test_crop_offsets_are_uniform_over_all_81_and_independent():
    number = 81 * 400
    image = torch.zeros(1, 1, 32, 32)
    image[0, 0, 16, 16] = 1  # where this pixel lands tells the offset
    cropped = random_crop(image.expand(number, 1, 32, 32), generator())
    landed = cropped.flatten(1).argmax(1)
    top, left = 20 - landed // 32, 20 - landed % 32
    counts = torch.bincount(9 * top + left, minlength=81).double()
    assert len(counts) == 81 and counts.min() > 0
    chi_square = ((counts - 400) ** 2 / 400).sum()
    assert 41 < chi_square < 134  # 80 degrees of freedom: 1 in 10,000 on either side
    assert abs(torch.corrcoef(torch.stack([top[1:], top[:-1], left[1:], left[:-1]]).double()).triu(1)).max() < 0.03


def test_crop_is_a_window_of_the_zero_padded_image():
    images = numbered_images(300)
    padded = torch.nn.functional.pad(images[0], [4] * 4)
    for image in random_crop(images, generator()):
        inside = image[0].nonzero()
        row, column = inside[0].tolist()
        value = int(image[0, row, column]) - 1  # the first pixel seen, by its number in the original
        top, left = value // 32 + 4 - row, value % 32 + 4 - column
        assert torch.equal(image, padded[:, top : top + 32, left : left + 32])


def test_cutout_zeroes_one_square_uniformly_placed():
    number = 25 * 25 * 40
    holes = random_cutout(torch.ones(number, 1, 32, 32), generator())[:, 0] == 0
    assert (holes.sum((1, 2)) == 64).all()
    top, left = holes.any(2).long().argmax(1), holes.any(1).long().argmax(1)
    assert all(holes[image, top[image] : top[image] + 8, left[image] : left[image] + 8].all() for image in range(500))
    counts = torch.bincount(25 * top + left, minlength=625).double()
    assert len(counts) == 625
    chi_square = ((counts - 40) ** 2 / 40).sum()
    assert 500 < chi_square < 760  # 624 degrees of freedom: 1 in 10,000 on either side
    images = numbered_images(1)
    kept = random_cutout(images, generator())
    assert torch.equal(kept[kept != 0], images[kept != 0]) and (kept == 0).sum() == 3 * 64


def test_border_is_zero_after_normalization():
    """The whole of question 1.4: what is padded is exactly 0, whatever the statistics are."""
    statistics = Statistics(torch.full((3, 1, 1), 7.0), torch.full((3, 1, 1), 3.0))
    images = torch.full((500, 3, 32, 32), 200, dtype=torch.uint8)
    prepared = crop.prepare(images, statistics, generator())
    inside = torch.isclose(prepared, torch.tensor((200 - 7.0) / 3))
    assert torch.equal(prepared[~inside], torch.zeros_like(prepared[~inside]))
    assert 0 < (~inside).double().mean() < 0.25
    assert (~inside).any(dim=(2, 3))[:, 0].double().mean() > 0.95  # 80 of 81 offsets show some border


@pytest.mark.parametrize("script", [flip, crop])
def test_flip_comes_before_normalization_and_crop_after(script, synthetic, monkeypatch):
    """The order does not show in the images that come out, because flipping and normalizing commute."""
    seen = []
    for name in ("random_flip", "normalize", "random_crop"):
        if hasattr(script, name):
            step = getattr(script, name)
            monkeypatch.setattr(script, name, lambda *a, step=step, name=name: seen.append(name) or step(*a))
    script.prepare(synthetic.train_images[:10], IDENTITY, generator())
    assert seen == ["random_flip", "normalize", "random_crop"][: 2 if script is flip else 3]


def test_training_is_random_and_evaluation_is_not(synthetic):
    images = synthetic.train_images[:200]
    statistics = channel_statistics(images)
    for script in (raw_script, normalize_script, flip, crop, accuracy):
        draws = generator()
        first, second = script.prepare(images, statistics, draws), script.prepare(images, statistics, draws)
        assert torch.equal(first, second) == (script in (raw_script, normalize_script))
        expected = raw(images) if script is raw_script else normalize(images, statistics)
        torch.manual_seed(1)
        assert torch.equal(script.prepare(images, statistics), expected)  # neither flipped nor moved
        assert torch.equal(script.prepare(images, statistics, generator()), first)  # the seed decides
        assert first.shape == images.shape and first.dtype == torch.float32


def test_accuracy_on_flipped_and_shifted_images_by_hand():
    """A bright pixel on the left is class 0, one on the right class 1; the network compares the halves."""
    images = torch.zeros(2, 3, 32, 32, dtype=torch.uint8)
    images[0, :, 5, 2] = images[1, :, 5, 29] = 255
    cifar = SimpleNamespace(train_images=images, train_labels=torch.tensor([0, 1]), statistics=IDENTITY)
    cifar.test_images, cifar.test_labels = images.flip(-1), cifar.train_labels  # all of them wrong

    class Halves(torch.nn.Module):
        def forward(self, inputs):
            return torch.stack([half.sum((1, 2, 3)) for half in inputs.split(16, dim=3)], dim=1)

    found = {(row["batch"], row["change"]): row["accuracy"] for row in controls.measure_shifts(Halves(), cifar)}
    assert found["train", "none"] == found["test", "flip"] == 1
    assert found["train", "flip"] == found["test", "none"] == 0
    assert found["train", "shift 2"] == found["train", "shift with edge 2"] == 1
    # By 8, one of the pixels leaves the image, and logits of 0 mean class 0: right for the left pixel alone.
    assert found["train", "shift 8"] == pytest.approx((0.5 + 1) / 2)
