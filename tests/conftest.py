"""What several tests need: the repository's root on the path, the real data or a reason to skip, a script runner."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from common import data


@pytest.fixture(scope="session")
def cifar():
    """The real CIFAR-10, never downloaded for a test."""
    folders = [os.environ.get("CIFAR10_ROOT"), ROOT / "data", ROOT.parent / "shared"]
    for folder in filter(None, folders):
        if (Path(folder) / "cifar-10-batches-py" / "data_batch_1").exists():
            return data.load(str(folder))
    pytest.skip(f"no real CIFAR-10 in $CIFAR10_ROOT, {folders[1]} or {folders[2]}")


@pytest.fixture(scope="session")
def synthetic():
    return data.load("synthetic")


@pytest.fixture
def start_script():
    """Start a script as a user would, in a process that does not outlive the test."""
    processes = []

    def start(script, *arguments):
        process = subprocess.Popen(
            [sys.executable, ROOT / script, *map(str, arguments)],
            cwd="/",
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        processes.append(process)
        return process

    yield start
    for process in processes:
        process.kill()
        process.communicate()
