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

from common import UNUSABLE, remedy
from common.preprocess import Statistics, channel_statistics
from common.records import ROOT, lock

FOLDER, BATCHES = "cifar-10-batches-py", ("data_batch_1", "test_batch")
CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


class DataError(Exception):
    """The data is missing, altered or fills no batch. The message fits on one line."""


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


@functools.cache
def train_batch_1() -> type:
    """torchvision's class `CIFAR10`, restricted to train batch 1, as the assignment asks.

    torchvision is imported only where it is used, because that takes seconds. Raises `DataError` if this fails.
    """
    try:
        from torchvision.datasets import CIFAR10
    except UNUSABLE as error:
        # Typical of incompatible torch and torchvision: "operator torchvision::nms does not exist".
        raise DataError(f"torch and torchvision cannot be used together {remedy(error)}") from error

    class TrainBatch1(CIFAR10):
        train_list = CIFAR10.train_list[:1]

        def _load_meta(self):
            """Class names are `CLASSES`; batches.meta is not needed."""

    return TrainBatch1


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
    train, test = (train_batch_1()(root, train=train) for train in (True, False))
    return Cifar(*tensors(train), *tensors(test)).to(device)


def tensors(split) -> tuple[torch.Tensor, torch.Tensor]:
    """The images of a `train_batch_1`, uint8 `(N, 3, 32, 32)`, and labels, int64 `(N,)`."""
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
        root = folder.parent if folder.name == FOLDER else folder
        if is_complete(root):
            verify(root)
            return root
    if data_dir is not None:
        raise DataError(f"{named} {data_dir!r} has no {FOLDER} with {' and '.join(BATCHES)} in it")
    return download(ROOT / "data", searched=candidates)


def load_at_hand(data_dir: str | None = None) -> tuple[Cifar, bool]:
    """Load without a download, or generate images and say so; also return whether the images are generated.

    For inspecting untrained networks, which needs no particular images.
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
    return dict(train_batch_1().train_list + train_batch_1().test_list)


def is_complete(root: Path) -> bool:
    return all((root / FOLDER / name).is_file() for name in BATCHES)


def verify(root: Path) -> None:
    """Compare each batch file's md5 with the published one: unpickling an altered file could run arbitrary code."""
    from torchvision.datasets.utils import calculate_md5

    for name, expected in md5s().items():
        path = root / FOLDER / name
        found = calculate_md5(path)
        if found != expected:
            raise DataError(
                f"{path} is truncated or altered: expected md5 {expected}, found {found}; "
                "delete it or restore the original"
            )


def download(folder: Path, searched: list[Path]) -> Path:
    """Download with torchvision and move the batch files, each whole and verified, into `folder`."""
    partial, published = folder / "partial", train_batch_1()
    print(f"downloading CIFAR-10 from {published.url} into {folder}", flush=True)
    socket.setdefaulttimeout(20)  # seconds per read
    try:
        with lock(folder / "download.lock", "another process is downloading CIFAR-10: try again later"):
            try:
                if not is_complete(folder):  # no other process has fetched it meanwhile
                    shutil.rmtree(partial, ignore_errors=True)  # left by a process that was killed
                    published(partial, download=True)
                    (folder / FOLDER).mkdir(exist_ok=True)
                    for name in BATCHES:
                        os.replace(partial / FOLDER / name, folder / FOLDER / name)
            finally:
                shutil.rmtree(partial, ignore_errors=True)
    except (OSError, HTTPException, RuntimeError, EOFError) as error:  # no network, cut connection, wrong md5, …
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DataError(
            f"no CIFAR-10 in {', '.join(map(str, searched))}, and downloading {published.url} failed ({reason}); "
            f"put {FOLDER} into one of these folders, name another with --data-dir, "
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
