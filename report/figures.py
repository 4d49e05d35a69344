"""Draw every figure of the report from the logs of the runs, without any training.

python report/figures.py [--out DIR]
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from common import options
from common.plots import drawn
from part1 import comparison, crop, flip, normalize, raw
from part2 import accuracy, controls, gradients, solution, vanishing
from part3 import adversarial, transfer
from part3 import controls as transfer_controls
from report.runs import RUNS

SCRIPTS = (
    *(raw, normalize, flip, crop, comparison),
    *(accuracy, gradients, vanishing, controls, solution),
    *(adversarial, transfer, transfer_controls),
)


def draw(out):
    """Draw all figures; raise `RecordError`, which names the log's command, if a log is missing or damaged."""
    for run in RUNS:
        run.check(out)
    for script in SCRIPTS:
        script.draw(out)


def main():
    parser = options.Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_out(parser, "folder of logs/ and figures/ (default: report)")
    out = parser.parse_args().out
    draw(out)
    print(drawn(out))


if __name__ == "__main__":
    options.run_script(main)
