"""The report: figures and numbers from the logs of the runs, text from report.typ, typeset by Typst.

    python report/build.py --author "Ada Lovelace" --penn-key ada --collaborator "Charles Babbage"

The same logs give the same bytes.
"""

import argparse
import hashlib
import json
import re
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import matplotlib
import typst

from common import experiment, options
from common.choice import held_out_means
from common.experiment import log_path, mean_and_deviation
from common.records import ROOT, RecordError, read_csv, read_results, replacing
from common.training import Settings
from part1 import normalize, overfitting
from part2 import accuracy, gradients, solution, vanishing
from part3 import adversarial, attack, transfer
from report import figures

TEXT = ROOT / "report" / "report.typ"
MOST_PAGES = 12
QUESTIONS = ("1.1", "1.2", "1.3", "1.4", "2.1", "2.2", "2.3", "2.4", "3.1", "3.2")
COMPARED = [  # (question, name) of an experiment, and of the one it is measured against, seed by seed
    (("1.3", "flip"), ("1.2", "normalize")),
    (("1.4", "crop"), ("1.3", "flip")),
]


def experiments(out):
    """What came of each experiment, by the name of its log; numbers as text."""
    found = {}
    for name in sorted({f"{row['question']}_{row['name']}" for row in read_results(out / "logs" / "results.csv")}):
        log = log_path(out, *name.removesuffix("_synthetic").split("_", 1))
        accuracies = experiment.final_accuracies(log)
        found[name.removesuffix("_synthetic")] = {
            "test": mean_and_deviation(accuracies),
            "mean": f"{100 * sum(accuracies) / len(accuracies):.1f} %",
            "training": f"{100 * experiment.last_epoch(log, 'train_accuracy'):.1f} %",
            "seeds": str(len(accuracies)),
            "minutes": f"{experiment.median_seconds(log) / 60:.1f}",
            "parameters": next(iter(experiment.results(log).values()))["parameters"],
        }
    return found


def answers(out):
    """Every number of the report, as text: what the scripts print, and what all experiments have in common."""
    rows = read_results(out / "logs" / "results.csv")
    return {
        "runs": experiments(out),
        "differences": {
            f"{first[1]} less {second[1]}": experiment.paired_difference(log_path(out, *first), log_path(out, *second))
            for first, second in COMPARED
        },
        "procedure": {
            name: f"{100 * mean:.2f} %" for name, mean in held_out_means(log_path(out, "1.0", "procedure")).items()
        },
        "design": {
            name: f"{100 * mean:.2f} %" for name, mean in held_out_means(log_path(out, "2.0", "design")).items()
        },
        "architecture": read_csv(log_path(out, "2.1", "architecture")),
        "1.2": normalize.answer(out),
        "1.2 in fp32": normalize.answer(out / options.TRIALS / "fp32"),
        "overfitting": overfitting.answer(out),
        "2.1": accuracy.answer(out),
        "2.2": gradients.answer(out),
        "2.3": vanishing.answer(out),
        "2.4": solution.answer(out),
        "unaugmented": f"{accuracy.UNAUGMENTED:,}",
        "batchnorm": vanishing.with_batchnorm(out),
        "3.1": adversarial.answer(out),
        "3.2": transfer.answer(out),
        "asked": f"{100 * accuracy.ASKED:.0f} %",
        "confidence": f"{100 * attack.CONFIDENCE:.0f} %",
        "machine": {name: ", ".join(sorted({row[name] for row in rows})) for name in ("device", "precision", "torch")},
        "number_of_runs": str(len(rows)),
        "number_in_fp32": str(len(read_results(out / options.TRIALS / "fp32" / "logs" / "results.csv"))),
        "hours": f"{sum(float(row['seconds']) for row in rows) / 3600:.1f}",
        "settings": {name: str(value) for name, value in vars(Settings()).items()},
    }


def typeset(arguments, target):
    """Write the report; raise `RecordError` if it is not what the assignment asks for."""
    out = arguments.out.resolve()
    numbers = json.dumps(answers(out))
    compiler = typst.Compiler(
        TEXT,
        root=out.anchor,
        sys_inputs={
            "answers": numbers,
            "fingerprint": fingerprint(numbers),
            "figures": "/" + (out / "figures").relative_to(out.anchor).as_posix(),
            "author": arguments.author,
            "penn_key": arguments.penn_key,
            "collaborators": ", ".join(arguments.collaborator) or "none",
            "trial": ", ".join(options.departures(out)),
        },
        font_paths=[Path(matplotlib.get_data_path()) / "fonts" / "ttf"],
        ignore_system_fonts=True,
    )
    try:
        check(compiler, out)
        with replacing(target) as temporary:
            compiler.compile(output=temporary, format="pdf", timestamp=0)
    except RuntimeError as error:  # also of a query
        raise RecordError(f"Typst: {str(error).splitlines()[0]}") from error


def fingerprint(numbers):
    """Of the report's text and numbers; the PDF bears it among its keywords."""
    return hashlib.sha256(TEXT.read_bytes() + numbers.encode()).hexdigest()


def check(compiler, out):
    """Page count, a section for every question, and every figure that the scripts drew."""

    def values(label):
        return json.loads(compiler.query(f"<{label}>", field="value"))

    (pages,) = values("pages")
    if pages > MOST_PAGES:
        raise RecordError(f"the report has {pages} pages, more than {MOST_PAGES}")
    for what, expected, found in [
        ("a section for question", QUESTIONS, values("question")),
        ("the figure", sorted(path.stem for path in (out / "figures").glob("*.pdf")), values("plot")),
    ]:
        missing = [name for name in expected if name not in found]
        if missing:
            raise RecordError(f"the report lacks {what} {', '.join(missing)}")


def parser(description):
    """The flags that say whose report it is, and from which logs."""
    parser = options.Parser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--author", default="Reference solution", help="(default: %(default)s)")
    add("--penn-key", default="reference", type=penn_key, help="(default: %(default)s)")
    add("--collaborator", action="append", default=[], help="at most two; give the flag once for each")
    add(
        "--out",
        type=Path,
        default=ROOT / "report",
        metavar="DIR",
        help="folder of logs/ and figures/ (default: report)",
    )
    return parser


def penn_key(text):
    if not re.fullmatch("[A-Za-z0-9][A-Za-z0-9_-]*", text):
        raise argparse.ArgumentTypeError(f"{text!r} does not belong in a file name: letters, digits, - and _ do")
    return text


def build(arguments, target):
    if len(arguments.collaborator) > 2:
        raise RecordError("the assignment allows at most two collaborators")
    figures.draw(arguments.out)
    typeset(arguments, target)
    print(f"wrote {target}")


def main():
    arguments = parser(__doc__).parse_args()
    build(arguments, arguments.out / "report.pdf")


if __name__ == "__main__":
    options.run_script(main)
