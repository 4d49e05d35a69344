"""Records: files are whole or absent, and two processes do not tread on each other."""

import subprocess
import sys
import time

import pytest
import torch

from common import records
from tests.conftest import ROOT


def test_replacing_keeps_the_good_file_when_writing_fails(tmp_path):
    path = tmp_path / "log.csv"
    path.write_text("good")
    with pytest.raises(RuntimeError), records.replacing(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert path.read_text() == "good" and list(tmp_path.iterdir()) == [path]


def test_floats_have_six_significant_digits_however_small(tmp_path):
    path = tmp_path / "logs" / "x.csv"
    records.write_csv(path, ["seed", "G"], [[0, 2.718281828e-13], [1, 0.1]])
    assert path.read_text() == "seed,G\n0,2.71828e-13\n1,0.1\n"
    assert records.read_log(path)[0]["G"] == [2.71828e-13]


def test_merged_rows_replace_their_key_and_keep_the_order_of_seeds(tmp_path):
    path = tmp_path / "logs" / "x.csv"
    for seed in (10, 2, 0, 2):
        records.merge_rows(path, ["seed", "iteration"], [[seed, 1], [seed, 2]], key=1)
    rows = [tuple(row.values()) for row in records.read_csv(path)]
    assert rows == [(seed, iteration) for seed in ("0", "2", "10") for iteration in ("1", "2")]


def test_processes_that_merge_at_once_lose_nothing(tmp_path):
    path = tmp_path / "logs" / "x.csv"
    code = (
        "import sys; from pathlib import Path; from common.records import merge_rows\n"
        "for step in range(20): merge_rows(Path(sys.argv[1]), ['a', 'b'], [[int(sys.argv[2]) + step, 0]], key=1)"
    )
    processes = [subprocess.Popen([sys.executable, "-c", code, path, str(100 * n)], cwd=ROOT) for n in range(3)]
    assert [process.wait() for process in processes] == [0, 0, 0]
    assert len(records.read_csv(path)) == 60


def test_a_lock_is_held_until_its_process_is_killed(tmp_path):
    code = (
        "import sys, time; from pathlib import Path; from common.records import lock\n"
        "with lock(Path(sys.argv[1])): print('held', flush=True); time.sleep(60)"
    )
    path = tmp_path / "x.lock"
    holder = subprocess.Popen([sys.executable, "-c", code, path], cwd=ROOT, stdout=subprocess.PIPE)
    holder.stdout.readline()
    waiter = subprocess.Popen([sys.executable, "-c", code, path], cwd=ROOT, stdout=subprocess.PIPE)
    time.sleep(5)
    assert waiter.poll() is None
    holder.kill()
    assert waiter.stdout.readline() == b"held\n"
    waiter.kill()


def test_checkpoints_run_no_code(tmp_path):
    class Payload:
        def __reduce__(self):
            return (open, (str(tmp_path / "ran"), "w"))

    path = tmp_path / "x.pt"
    torch.save({"network": Payload()}, path)
    with pytest.raises(records.RecordError, match=str(path)):
        records.load_checkpoint(path)
    assert not (tmp_path / "ran").exists()
    assert records.load_checkpoint(tmp_path / "none.pt") is None
