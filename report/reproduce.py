"""Everything again: each script of the assignment in turn, and the report from what they write.

    python report/reproduce.py            # skips what is done; all of it takes about five hours on two CPU cores
    python report/reproduce.py --quick    # all of it with a small budget, on generated images, in a few minutes

Stop it whenever you like: the same command goes on where it was.
"""

import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tqdm import tqdm

from common import options
from common.records import ROOT, RecordError
from report import build, figures

QUICK = ["--iterations", "10", "--batch-size", "20", "--data-dir", "synthetic", "--seeds", "0"]


def main():
    parser = build.parser(__doc__)
    parser.add_argument("--seeds", nargs="+", metavar="SEED", help="in place of each experiment's own")
    parser.add_argument("--quick", action="store_true", help="10 iterations of 20 generated images each")
    arguments = parser.parse_args()
    flags = ["--out", str(arguments.out)] + (["--seeds", *arguments.seeds] if arguments.seeds else [])
    if arguments.quick:
        flags += QUICK
        arguments.out = arguments.out / options.TRIALS / "10x20-synthetic"
    minutes = {  # what is done takes seconds
        command: run.minutes if figures.missing_logs(arguments.out, command) else 0.1
        for command, run in figures.RUNS.items()
    }
    with tqdm(total=sum(minutes.values()), unit="min", bar_format="{l_bar}{bar}| {elapsed}<{remaining}") as bar:
        for command, cost in minutes.items():
            bar.set_description(command)
            script, *own = command.split()
            process = subprocess.run([sys.executable, ROOT / script, *own, *flags], capture_output=True, text=True)
            if process.returncode:
                raise RecordError(f"`python {command}` failed: {process.stderr.strip().splitlines()[-1]}")
            bar.update(cost)
    build.build(arguments, arguments.out / "report.pdf")


if __name__ == "__main__":
    options.run_script(main)
