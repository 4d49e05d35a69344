"""Find or download, verify and load CIFAR-10's train batch 1 and test batch as uint8."""

import functools
import os
import shutil
import socket
from dataclasses import dataclass, fields
from http.client import HTTPException
from pathlib import Path

import torch
from torch.nn import functional as F
from torchvision.datasets import CIFAR10
from torchvision.datasets.utils import calculate_md5

from common.preprocess import Statistics, channel_statistics
from common.records import ROOT, lock

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


class DataError(Exception):
    """CIFAR-10 is missing or differs from the published files. The message fits on one line."""


@dataclass(frozen=True, eq=False)
class Cifar:
    """Images are uint8 `(N, 3, 32, 32)` in 0..255, labels int64 `(N,)` in 0..9."""

    train_images: torch.Tensor
    train_labels: torch.Tensor
    test_images: torch.Tensor
    test_labels: torch.Tensor

    @functools.cached_property
    def statistics(self) -> Statistics:
        """Mean and standard deviation of the training images' channels, used to normalize test images, too."""
        return channel_statistics(self.train_images)

    def whole(self) -> "Cifar":
        """The whole data set, unchanged."""
        return self

    def to(self, device: torch.device | str) -> "Cifar":
        return Cifar(*(getattr(self, field.name).to(device) for field in fields(self)))


class TrainBatch1(CIFAR10):
    """torchvision's CIFAR-10, restricted to train batch 1, as the assignment asks."""

    train_list = CIFAR10.train_list[:1]

    def _load_meta(self):
        """Class names are `CLASSES`; batches.meta is not needed."""


def load(data_dir: str | None = None, device: torch.device | str = "cpu") -> Cifar:
    """Load train batch 1 (10,000 images) and the test batch (10,000 images) into memory.

    `data_dir` is a folder that holds `cifar-10-batches-py`, or that folder itself, or the word
    "synthetic" for generated images. None uses `$CIFAR10_ROOT` if it is set; otherwise, it searches
    `data/` and `../shared`, then downloads into `data/`.

    Raises `DataError` if the data is altered, or missing and not downloadable.
    """
    if data_dir == "synthetic":
        return synthetic(device=device)
    root = find(data_dir)
    train, test = TrainBatch1(root, train=True), TrainBatch1(root, train=False)
    return Cifar(*tensors(train), *tensors(test)).to(device)


def tensors(split: CIFAR10) -> tuple[torch.Tensor, torch.Tensor]:
    """Images, uint8 `(N, 3, 32, 32)`, and labels, int64 `(N,)`."""
    return torch.from_numpy(split.data).permute(0, 3, 1, 2).contiguous(), torch.tensor(split.targets)


def find(data_dir: str | None = None, named: str = "--data-dir") -> Path:
    """The folder that holds a verified `cifar-10-batches-py`; see `load` for the order of search."""
    if data_dir is not None:
        folder = Path(data_dir).absolute()
        if not folder.is_dir():
            raise DataError(f"{named} {data_dir!r} is not a folder")
        candidates = [folder]
    else:
        candidates = searched()
        if os.environ.get("CIFAR10_ROOT"):  # if set, it must be used
            return find(os.environ["CIFAR10_ROOT"], "$CIFAR10_ROOT =")
    for folder in candidates:
        root = folder.parent if folder.name == TrainBatch1.base_folder else folder
        if is_complete(root):
            verify(root)
            return root
    if data_dir is not None:
        raise DataError(f"{named} {data_dir!r} has no {TrainBatch1.base_folder} with {' and '.join(md5s())} in it")
    return download(ROOT / "data", searched=candidates)


def load_at_hand(data_dir: str | None = None) -> tuple[Cifar, bool]:
    """Load without a download, or generate images and say so; also return whether the images are generated.

    For inspecting untrained networks, which behave similarly on any images.
    """
    if data_dir is None and not is_at_hand():
        print("no CIFAR-10 found: GENERATED IMAGES are used in its place")
        data_dir = "synthetic"
    return load(data_dir), data_dir == "synthetic"


def searched() -> list[Path]:
    return [ROOT / "data", ROOT.parent / "shared"]


def is_at_hand() -> bool:
    """Whether `find` would look for the data without downloading it."""
    return bool(os.environ.get("CIFAR10_ROOT")) or any(map(is_complete, searched()))


def md5s() -> dict[str, str]:
    """The published md5 of each batch file that is needed."""
    return dict(TrainBatch1.train_list + TrainBatch1.test_list)


def is_complete(root: Path) -> bool:
    return all((root / TrainBatch1.base_folder / name).is_file() for name in md5s())


def verify(root: Path) -> None:
    """Compare each batch file's md5 with the published one: unpickling an altered file could run arbitrary code."""
    for name, expected in md5s().items():
        path = root / TrainBatch1.base_folder / name
        found = calculate_md5(path)
        if found != expected:
            raise DataError(
                f"{path} is truncated or altered: expected md5 {expected}, found {found}; "
                "delete it or restore the original"
            )


def download(folder: Path, searched: list[Path]) -> Path:
    """Download with torchvision and move the batch files, each whole and verified, into `folder`."""
    partial = folder / "partial"
    print(f"downloading CIFAR-10 from {TrainBatch1.url} into {folder}", flush=True)
    socket.setdefaulttimeout(20)  # seconds per read
    try:
        with lock(folder / "download.lock", "another process is downloading CIFAR-10: try again later"):
            try:
                if not is_complete(folder):  # no other process has fetched it meanwhile
                    shutil.rmtree(partial, ignore_errors=True)  # left by a process that was killed
                    TrainBatch1(partial, download=True)
                    (folder / TrainBatch1.base_folder).mkdir(exist_ok=True)
                    for name in md5s():
                        os.replace(partial / TrainBatch1.base_folder / name, folder / TrainBatch1.base_folder / name)
            finally:
                shutil.rmtree(partial, ignore_errors=True)
    except (OSError, HTTPException, RuntimeError, EOFError) as error:  # no network, cut connection, wrong md5, …
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DataError(
            f"no CIFAR-10 in {', '.join(map(str, searched))}, and downloading {TrainBatch1.url} failed ({reason}); "
            f"put {TrainBatch1.base_folder} into one of these folders, name another with --data-dir, "
            "or try --data-dir synthetic"
        ) from error
    verify(folder)
    return folder


def synthetic(train: int = 10_000, test: int = 100, device: torch.device | str = "cpu") -> Cifar:
    """Ten classes of generated images in CIFAR's shape, the same in every call, for testing the code.

    Each class is a smooth random pattern; each image scales it randomly and adds noise.
    """
    generator = torch.Generator().manual_seed(0)
    patterns = F.interpolate(torch.randn(10, 3, 5, 5, generator=generator), size=32, mode="bicubic")

    def split(number: int) -> tuple[torch.Tensor, torch.Tensor]:
        labels = torch.arange(10).repeat(number // 10)[torch.randperm(number, generator=generator)]
        strength = 10 + 50 * torch.rand(number, 1, 1, 1, generator=generator)
        noise = 50 * torch.randn(number, 3, 32, 32, generator=generator)
        return (120 + strength * patterns[labels] + noise).clamp(0, 255).to(torch.uint8), labels

    return Cifar(*split(train), *split(test)).to(device)
