"""Every figure of the report, drawn again from the logs of the runs, without any training.

python report/figures.py [--out DIR]
"""

import argparse
import sys
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from common import options
from common.records import ROOT, RecordError
from part1 import crop, flip, normalize, raw
from part2 import accuracy, gradients, solution, vanishing
from part3 import adversarial, transfer

SCRIPTS = (raw, normalize, flip, crop, accuracy, gradients, vanishing, solution, adversarial, transfer)


class Run(NamedTuple):
    minutes: int  # about, on two CPU cores
    logs: list[str]


# The commands behind the report, in the order in which they can run.
RUNS = {
    "part1/procedure.py --seeds 0 1": Run(25, ["1.0_procedure"]),
    "part1/raw.py --seeds 0 1 2 3 4": Run(4, ["1.1_raw"]),
    "part1/normalize.py --seeds 0 1 2 3 4": Run(8, ["1.2_normalize", "1.2_centered", "1.2_gradients"]),
    "part1/flip.py --seeds 0 1 2 3 4": Run(4, ["1.3_flip"]),
    "part1/crop.py --seeds 0 1 2 3 4": Run(4, ["1.4_crop"]),
    "part1/overfitting.py --seeds 0 1 2 3 4": Run(2, ["1.4_overfitting"]),
    "part2/design.py": Run(50, ["2.0_design"]),
    "part2/accuracy.py --seeds 0 1 2": Run(16, ["2.1_accuracy", "2.1_architecture", "2.1_overfitting"]),
    "part2/vanishing.py --seeds 0 1 2": Run(30, ["2.3_vanishing", "2.3_signals", "2.3_active"]),
    "part2/vanishing.py --sgd": Run(9, ["2.3_sgd_vanishing"]),
    "part2/vanishing.py --batchnorm": Run(10, ["2.3_batchnorm"]),
    "part2/vanishing.py --depth 0 2 5 10": Run(24, [f"2.3_depth{added}" for added in (0, 2, 5, 10)]),
    "part2/solution.py --seeds 0 1 2": Run(33, ["2.4_scaled", "2.4_signals", "2.4_overfitting"]),
    "part2/solution.py --cures residual --seeds 0 1 2": Run(30, ["2.4_residual"]),
    "part2/solution.py --cures none he dirac": Run(30, ["2.4_none", "2.4_he", "2.4_dirac"]),
    "part2/solution.py --unchanged": Run(11, ["2.4_scaled_unchanged"]),
    "part3/adversarial.py": Run(1, ["3.1_adversarial", "3.1_attacks", "3.1_epsilon", "3.1_speed"]),
    "part3/transfer.py": Run(2, ["3.2_transfer", "3.2_epsilon", "3.2_matrix", "3.2_alignment"]),
}


def missing_logs(out, command):
    """The logs that a command of `RUNS` writes and that are not there."""
    synthetic = "_synthetic" if "synthetic" in options.departures(out) else ""
    paths = [out / "logs" / f"{log}{synthetic}.csv" for log in RUNS[command].logs]
    return [path for path in paths if not path.exists()]


def draw(out):
    """Draw them all; raise `RecordError`, which names the script that writes it, where a log is missing."""
    for command in RUNS:
        for path in missing_logs(out, command):
            raise RecordError(f"{path} is missing: `python {command}` writes it")
    for script in SCRIPTS:
        script.draw(out)


def main():
    parser = options.Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=ROOT / "report", metavar="DIR", help="folder of logs/ and figures/")
    draw(parser.parse_args().out)


if __name__ == "__main__":
    options.run_script(main)
