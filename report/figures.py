"""Every figure of the report, drawn again from the logs of the runs, without any training.

python report/figures.py [--out DIR]
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from common import options
from common.records import ROOT, RecordError
from part1 import crop, flip, normalize, raw
from part2 import accuracy, gradients, solution, vanishing
from part3 import adversarial, transfer

SCRIPTS = (raw, normalize, flip, crop, accuracy, gradients, vanishing, solution, adversarial, transfer)

# The commands behind the report, in the order in which they can run, and the logs that each writes.
RUNS = {
    "part1/procedure.py": ["1.0_procedure"],
    "part1/raw.py": ["1.1_raw"],
    "part1/normalize.py": ["1.2_normalize", "1.2_centered", "1.2_gradients"],
    "part1/flip.py": ["1.3_flip"],
    "part1/crop.py": ["1.4_crop"],
    "part2/design.py": ["2.0_design"],
    "part2/accuracy.py": ["2.1_accuracy", "2.1_architecture"],
    "part2/vanishing.py": ["2.3_vanishing", "2.3_signals"],
    "part2/vanishing.py --sgd": ["2.3_sgd_vanishing"],
    "part2/vanishing.py --depth 0 2 5 10": [f"2.3_depth{added}" for added in (0, 2, 5, 10)],
    "part2/solution.py": ["2.4_scaled", "2.4_signals"],
    "part2/solution.py --cures none he dirac residual": [f"2.4_{name}" for name in ("none", "he", "dirac", "residual")],
    "part2/solution.py --unchanged": ["2.4_scaled_unchanged"],
    "part3/adversarial.py": ["3.1_adversarial", "3.1_attacks", "3.1_epsilon", "3.1_speed"],
    "part3/transfer.py": ["3.2_transfer", "3.2_epsilon", "3.2_matrix", "3.2_alignment"],
}


def require_logs(out):
    """Raise `RecordError`, which names the script that writes it, for the first log that is missing."""
    for command, logs in RUNS.items():
        for log in logs:
            path = out / "logs" / f"{log}{'_synthetic' if 'synthetic' in options.departures(out) else ''}.csv"
            if not path.exists():
                raise RecordError(f"{path} is missing: `python {command}` writes it")


def draw(out):
    require_logs(out)
    for script in SCRIPTS:
        script.draw(out)


def main():
    parser = options.Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=ROOT / "report", metavar="DIR", help="folder of logs/ and figures/")
    draw(parser.parse_args().out)


if __name__ == "__main__":
    options.run_script(main)
