"""CIFAR-10's train batch 1 and test batch, found or downloaded, verified, as uint8 tensors."""

import os
import shutil
from pathlib import Path
from typing import NamedTuple

import torch
from torch.nn import functional as F
from torchvision.datasets import CIFAR10
from torchvision.datasets.utils import calculate_md5

from common.records import lock

ROOT = Path(__file__).resolve().parents[1]
CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


class DataError(Exception):
    """CIFAR-10 is not there, or not as its authors published it. The message fits on one line."""


class Cifar(NamedTuple):
    """Images are uint8 `(N, 3, 32, 32)` in 0..255, labels int64 `(N,)` in 0..9."""

    train_images: torch.Tensor
    train_labels: torch.Tensor
    test_images: torch.Tensor
    test_labels: torch.Tensor


class TrainBatch1(CIFAR10):
    """torchvision's CIFAR-10, cut to the one training batch that the assignment allows."""

    train_list = CIFAR10.train_list[:1]

    def _load_meta(self):
        """Class names are `CLASSES`: batches.meta need not be there."""


def load(data_dir: str | None = None, device: torch.device | str = "cpu") -> Cifar:
    """Load train batch 1 (10,000 images) and the test batch (10,000 images) into memory.

    `data_dir` is a folder that holds `cifar-10-batches-py`, or that folder itself, or the word
    "synthetic" for generated images. None searches `$CIFAR10_ROOT`, `data/` and `../shared`, then
    downloads into `data/`.

    Raises `DataError` if the data is missing, altered or cannot be downloaded.
    """
    if data_dir == "synthetic":
        return Cifar(*(tensor.to(device) for tensor in synthetic()))
    root = find(data_dir)
    train, test = TrainBatch1(root, train=True), TrainBatch1(root, train=False)
    return Cifar(
        *(
            torch.as_tensor(array, device=device).contiguous()
            for split in (train, test)
            for array in (split.data.transpose(0, 3, 1, 2), split.targets)
        )
    )


def find(data_dir: str | None = None) -> Path:
    """The folder that holds a verified `cifar-10-batches-py`; see `load` for the order of search."""
    if data_dir is not None:
        folder = Path(data_dir)
        if not folder.is_dir():
            raise DataError(f"--data-dir {data_dir} is not a folder")
        candidates = [folder]
    else:
        candidates = [ROOT / "data", ROOT.parent / "shared"]
        if os.environ.get("CIFAR10_ROOT"):
            candidates.insert(0, Path(os.environ["CIFAR10_ROOT"]))

    names = [name for name, _ in TrainBatch1.train_list + TrainBatch1.test_list]
    for folder in candidates:
        root = folder.absolute().parent if folder.name == TrainBatch1.base_folder else folder
        if all((root / TrainBatch1.base_folder / name).is_file() for name in names):
            verify(root / TrainBatch1.base_folder)
            return root
    if data_dir is not None:
        raise DataError(f"--data-dir {data_dir} has no {TrainBatch1.base_folder} with {' and '.join(names)} in it")
    return download(ROOT / "data", searched=candidates)


def verify(batches: Path) -> None:
    """Hold each batch file's md5 against the published one: unpickling an altered file could run anything."""
    for name, expected in TrainBatch1.train_list + TrainBatch1.test_list:
        found = calculate_md5(batches / name)
        if found != expected:
            raise DataError(
                f"{batches / name} is truncated or altered: expected md5 {expected}, found {found}; "
                "delete it or replace it by the original"
            )


def download(folder: Path, searched: list[Path]) -> Path:
    """Download with torchvision into `folder`, which sees either the whole data set or nothing of it."""
    partial = folder / "partial"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with lock(folder / "download.lock"):
            if not (folder / TrainBatch1.base_folder).exists():  # another process may have been faster
                shutil.rmtree(partial, ignore_errors=True)  # left by a download that was cut
                TrainBatch1(partial, download=True)
                os.replace(partial / TrainBatch1.base_folder, folder / TrainBatch1.base_folder)
    except (OSError, RuntimeError, EOFError) as error:  # no network, cut connection, wrong md5, cut archive
        raise DataError(
            f"no CIFAR-10 in {', '.join(map(str, searched))}, and downloading {TrainBatch1.url} failed ({error}); "
            f"put {TrainBatch1.base_folder} into one of these folders, name another with --data-dir, "
            "or try --data-dir synthetic"
        ) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    verify(folder / TrainBatch1.base_folder)
    return folder


def synthetic(number: int = 10_000) -> Cifar:
    """Ten classes of generated images in CIFAR's shape, the same at every call, for trying the pipeline.

    Each class is a smooth random pattern, which an image shows at a random strength under noise.
    """
    generator = torch.Generator().manual_seed(0)
    patterns = F.interpolate(torch.randn(10, 3, 5, 5, generator=generator), size=32, mode="bicubic")

    def split() -> tuple[torch.Tensor, torch.Tensor]:
        labels = torch.arange(10).repeat(number // 10)[torch.randperm(number, generator=generator)]
        strength = 10 + 50 * torch.rand(number, 1, 1, 1, generator=generator)
        noise = 50 * torch.randn(number, 3, 32, 32, generator=generator)
        return (120 + strength * patterns[labels] + noise).clamp(0, 255).to(torch.uint8), labels

    return Cifar(*split(), *split())
