"""What several tests need: the repository's root on the path, the real data or a reason to skip, a script runner."""

import functools
import importlib
import multiprocessing
import os
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from common import data, options
from common.records import ROOT

options.reuse_freed_memory()  # as in every script


class NotFound(Exception):
    pass


def refuse_download(folder, searched):
    raise NotFound(f"no real CIFAR-10 in {', '.join(map(str, searched))}")


@pytest.fixture(scope="session")
def cifar():
    """The real CIFAR-10, never downloaded for a test."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(data, "download", refuse_download)
        try:
            return data.load()
        except NotFound as reason:
            pytest.skip(str(reason))


@pytest.fixture(scope="session")
def synthetic():
    return data.load("synthetic")


def run_main(module, arguments):
    """As a script does, on fewer generated images: an epoch is 20 iterations of 100, 16 where a fifth is held out."""
    data.synthetic = functools.partial(data.synthetic, 2000, 100)
    sys.argv = [module, *map(str, arguments)]
    options.run_script(importlib.import_module(module).main)


@pytest.fixture(scope="session")
def forkserver():
    """Starts processes that have made a script's imports, which take most of a short run's time."""
    os.environ["PYTHONPATH"] = str(ROOT)
    context = multiprocessing.get_context("forkserver")
    # torchvision also imports torch._dynamo, as does the first optimizer.
    context.set_forkserver_preload(["part3.transfer", "report.submission", "report.reproduce", "torchvision"])
    return context


@pytest.fixture
def start_main(forkserver):
    """Start a script's main function in a process of its own; see `run_main`."""
    processes = []

    def start(module, *arguments):
        process = forkserver.Process(target=run_main, args=(module, arguments))
        process.start()
        processes.append(process)
        return process

    yield start
    for process in processes:
        process.kill()
        process.join()
