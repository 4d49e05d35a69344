"""Reproduce everything: run each script of the assignment in turn, then build the report.

    python report/reproduce.py            # skips finished runs; about 28 hours in total on two CPU cores
    python report/reproduce.py --quick    # all runs with a small budget, on generated images, in a few minutes
    python report/reproduce.py --check    # repeats a few quick runs and compares them, in ten minutes

Stop it at any time: the same command continues from there.
"""

import ctypes
import signal
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from common import options
from common.records import ROOT, RecordError
from report import build, check
from report.runs import RUNS

QUICK = {"iterations": 30, "batch_size": 20, "images": "synthetic"}
QUICK_FLAGS = ["--iterations", str(QUICK["iterations"]), "--batch-size", str(QUICK["batch_size"])]
QUICK_FLAGS += ["--data-dir", QUICK["images"]]


def run(command, flags):
    """Run a command of `RUNS`, which shows its own progress and errors; raise `RecordError` if it fails."""
    script, *own = command.split()
    ending = subprocess.run(
        [sys.executable, ROOT / script, *own, *flags],
        stdout=subprocess.DEVNULL,
        preexec_fn=end_with_parent if sys.platform == "linux" else None,
    )
    if ending.returncode:
        raise RecordError(f"`python {command}` failed")


def end_with_parent():
    """Have the kernel kill this process when its parent ends, even by SIGKILL."""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


def main():
    parser = build.parser(__doc__)
    options.add_seeds(parser, None, "instead of each script's seeds")
    group = parser.add_mutually_exclusive_group()
    group.add_argument("--quick", action="store_true", help="30 iterations of 20 generated images each")
    text = "repeat a few quick runs in a temporary folder and compare; exit code 1 if anything differs"
    group.add_argument("--check", action="store_true", help=text)
    parser.add_argument("--full", action="store_true", help="with --check: train everything again")
    arguments = build.parse(parser)
    if arguments.full and not arguments.check:
        parser.error("argument --full: requires --check")
    if arguments.check:
        sys.exit(0 if check.check(run, arguments) else 1)
    options.make_folders(parser, arguments.out)
    flags = ["--out", str(arguments.out), *(QUICK_FLAGS if arguments.quick else [])]
    seeds = arguments.seeds or ([0] if arguments.quick else None)
    runs = [run._replace(seeds=seeds) if seeds and run.seeds else run for run in RUNS]
    if arguments.quick:
        arguments.out = options.trial_path(arguments.out, QUICK)
    done = [arguments.quick or all(path.exists() for path in each.logs(arguments.out)) for each in runs]
    for number, each in enumerate(runs):
        minutes = sum(later.minutes for later, is_done in zip(runs[number:], done[number:]) if not is_done)
        left = f" (about {minutes} minutes of training left)" if minutes else ""
        print(f"{number + 1}/{len(runs)} python {each.command}{left}", flush=True)
        began = time.monotonic()
        run(each.command, flags)
        print(f"    took {time.monotonic() - began:.0f} s")
    build.write(arguments)


if __name__ == "__main__":
    options.run_script(main)
