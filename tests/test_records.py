"""Records: files are whole or absent, and two processes do not tread on each other."""

import subprocess
import sys
import time

import pytest
import torch

from common import records
from common.records import ROOT


def test_replacing_keeps_the_good_file_when_writing_fails(tmp_path):
    path = tmp_path / "log.csv"
    path.write_text("good")
    with pytest.raises(RuntimeError), records.replacing(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert path.read_text() == "good" and list(tmp_path.iterdir()) == [path]


def test_only_what_a_dead_process_left_is_removed(tmp_path):
    dead, alive, other = (tmp_path / f".log.csv.{name}.tmp" for name in (2**22 + 1, 1, "mine"))  # above Linux's largest
    for path in (dead, alive, other):
        path.write_text("half")
    with records.replacing(tmp_path / "log.csv") as temporary:
        temporary.write_text("whole")
    assert sorted(tmp_path.iterdir()) == sorted([alive, other, tmp_path / "log.csv"])


def test_floats_have_six_significant_digits_however_small(tmp_path):
    path = tmp_path / "logs" / "x.csv"
    records.write_rows(path, [{"seed": 0, "G": 2.718281828e-13}, {"seed": 1, "G": 0.1}])
    assert path.read_text() == "seed,G\n0,2.71828e-13\n1,0.1\n"
    assert [row["G"] for row in records.read_rows(path)] == ["2.71828e-13", "0.1"]


def test_merged_rows_replace_their_key_and_keep_the_order_of_seeds(tmp_path):
    path = tmp_path / "logs" / "x.csv"
    for seed in (10, 2, 0, 2):
        records.merge_rows(path, [{"seed": seed, "iteration": iteration} for iteration in (1, 2)], key=["seed"])
    rows = [tuple(row.values()) for row in records.read_rows(path)]
    assert rows == [(seed, iteration) for seed in ("0", "2", "10") for iteration in ("1", "2")]


def test_other_columns_are_refused(tmp_path):
    path = tmp_path / "logs" / "x.csv"
    records.merge_rows(path, [{"seed": 0, "loss": 1}], key=["seed"])
    before = path.read_bytes()
    with pytest.raises(records.RecordError, match="different columns"):
        records.merge_rows(path, [{"seed": 1, "loss": 1, "G_conv1": 1}], key=["seed"])
    assert path.read_bytes() == before


def run_python(code, *arguments):
    """A process that has imported torch and `common` and then waits for a line on its input."""
    start = (
        "import sys, time; from pathlib import Path; from common import records; import torch\n"
        "path = Path(sys.argv[1]); print('ready', flush=True); sys.stdin.readline()\n"
    )
    return subprocess.Popen(
        [sys.executable, "-c", start + code, *map(str, arguments)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def go(process):
    assert process.stdout.readline() == "ready\n"
    process.stdin.write("go\n")
    process.stdin.flush()


def test_processes_that_merge_at_once_lose_nothing(tmp_path):
    path = tmp_path / "logs" / "x.csv"
    code = "for n in range(40): records.merge_rows(path, [{'a': int(sys.argv[2]) + n, 'b': 0}], key=['a'])"
    processes = [run_python(code, path, 100 * n) for n in range(3)]
    for process in processes:
        go(process)
    assert [process.wait() for process in processes] == [0, 0, 0]
    assert len(records.read_rows(path)) == 120


def test_a_lock_is_held_until_its_process_is_killed(tmp_path):
    code = (
        "with records.lock(path, 'busy', seconds=float(sys.argv[2])):\n"
        "    print('held', (path.parent / 'released').exists(), flush=True); time.sleep(60)"
    )
    holder, waiter = (run_python(code, tmp_path / "x.lock", seconds) for seconds in (0, 60))
    go(holder)
    assert holder.stdout.readline() == "held False\n"
    with pytest.raises(records.RecordError, match="busy"), records.lock(tmp_path / "x.lock", "busy"):
        pass
    go(waiter)
    time.sleep(0.5)
    (tmp_path / "released").touch()  # if the waiter held the lock before this, it says so
    holder.kill()
    assert waiter.stdout.readline() == "held True\n"
    waiter.kill()


def test_a_lock_that_cannot_be_made_is_an_os_error(tmp_path):
    (tmp_path / "x.lock").mkdir()
    with pytest.raises(OSError, match="cannot lock"), records.lock(tmp_path / "x.lock", "busy"):
        pass


def test_a_checkpoint_is_whole_whenever_its_writer_is_killed(tmp_path):
    path = tmp_path / "x.pt"
    code = "for n in range(10**6): records.save_checkpoint(path, {'x': torch.full((2_000_000,), float(n))})"
    seen = set()
    for delay in (0.1, 0.25, 0.4):
        process = run_python(code, path)
        go(process)
        time.sleep(delay)
        process.kill()
        process.wait()
        values = records.load_checkpoint(path)["x"].unique()
        assert len(values) == 1
        seen.add(values.item())
    assert max(seen) > 0  # it was killed while it wrote again and again


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


def test_the_hash_of_weights_is_of_values_and_not_of_names():
    weights = {"a": torch.ones(2, 3), "b": torch.zeros(1)}
    renamed, changed = dict(zip("cd", weights.values())), weights | {"b": torch.ones(1)}
    assert records.hash_of_tensors(weights) == records.hash_of_tensors(renamed) != records.hash_of_tensors(changed)
    assert records.hash_of_tensors({"a": torch.ones(3, 2)}) != records.hash_of_tensors({"a": torch.ones(2, 3)})
