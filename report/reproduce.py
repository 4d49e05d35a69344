"""Everything again: each script of the assignment in turn, and the report from what they write.

    python report/reproduce.py            # skips what is done; all of it takes about five hours on two CPU cores
    python report/reproduce.py --quick    # all of it with a small budget, on generated images, in a few minutes

Stop it whenever you like: the same command goes on where it was.
"""

import ctypes
import signal
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tqdm import tqdm

from common import options
from common.records import ROOT, RecordError
from report import build
from report.runs import RUNS

QUICK = {"iterations": 30, "batch_size": 20, "images": "synthetic"}
QUICK_FLAGS = ["--iterations", str(QUICK["iterations"]), "--batch-size", str(QUICK["batch_size"])]
QUICK_FLAGS += ["--data-dir", QUICK["images"]]
SECONDS = 10  # that a script takes which has nothing, or next to nothing, to train


def run(command, flags, advance):
    """Run a command of `RUNS`, calling `advance` every second; raise `RecordError` if it fails."""
    script, *own = command.split()
    process = subprocess.Popen(
        [sys.executable, ROOT / script, *own, *flags],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=end_with_parent if sys.platform == "linux" else None,
    )
    try:
        while True:
            try:
                _, errors = process.communicate(timeout=1)
                break
            except subprocess.TimeoutExpired:
                advance()
    finally:
        process.kill()  # where this script is stopped
    if process.returncode:
        raise RecordError(f"`python {command}` failed: {(errors.strip().splitlines() or ['without a word'])[-1]}")


def end_with_parent():
    """Have the kernel kill this process when its parent ends, even by SIGKILL."""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


def main():
    parser = build.parser(__doc__)
    options.add_seeds(parser, None, "in place of each experiment's own")
    parser.add_argument("--quick", action="store_true", help="30 iterations of 20 generated images each")
    arguments = build.parse(parser)
    options.make_folders(parser, arguments.out)
    flags = ["--out", str(arguments.out), *(QUICK_FLAGS if arguments.quick else [])]
    seeds = arguments.seeds or ([0] if arguments.quick else None)
    runs = [run._replace(seeds=seeds) if seeds and run.seeds else run for run in RUNS]
    if arguments.quick:
        arguments.out = options.trial_path(arguments.out, QUICK)
    seconds = {}
    for each in runs:
        trained = arguments.quick or all(path.exists() for path in each.logs(arguments.out))
        seconds[each.command] = SECONDS + (0 if trained else 60 * each.minutes)
    done = 0
    with tqdm(total=sum(seconds.values()), disable=None, bar_format="{l_bar}{bar}| {elapsed}<{remaining}") as bar:

        def advance():
            """Show the time that has passed, up to what this command was expected to take."""
            bar.n = done + min(time.monotonic() - began, expected)
            bar.refresh()

        for number, (command, expected) in enumerate(seconds.items(), start=1):
            bar.set_description(f"{number}/{len(seconds)} {command}")
            began = time.monotonic()
            run(command, flags, advance)
            done += expected
            bar.write(f"{command}: {time.monotonic() - began:.0f} s")
    target = arguments.out / "report.pdf"
    build.build(arguments, target)
    print(f"wrote {target}")


if __name__ == "__main__":
    options.run_script(main)
