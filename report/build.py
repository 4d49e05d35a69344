"""The report: figures and numbers from the logs of the runs, text from report.typ, typeset by Typst.

    python report/build.py --author "Ada Lovelace" --penn-key ada --collaborator "Charles Babbage"

The same logs give the same bytes.
"""

import argparse
import hashlib
import json
import math
import re
import shutil
import sys
from dataclasses import asdict
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import matplotlib
import typst
from matplotlib import font_manager, ft2font

from common import options, plots, results
from common.data import CLASSES
from common.held_out import comparisons
from common.records import ROOT, RecordError, lock, replacing
from common.results import log_path
from common.settings import NEWTON_SCHULZ_STEPS, Settings
from part1 import comparison, crop, flip, normalize, procedure, raw
from part2 import accuracy, controls, design, gradients, signals, solution, vanishing
from part2.networks import describe, designed_network
from part3 import adversarial, attack, transfer
from part3 import controls as transfer_controls
from report import figures
from report.runs import trial_beside

TEXT = ROOT / "report" / "report.typ"
FONTS = sorted((Path(matplotlib.get_data_path()) / "fonts" / "ttf").glob("[!L]*.ttf"))  # not LastResort's boxes
MOST_PAGES = 10  # before the appendix
QUESTIONS = ("1.1", "1.2", "1.3", "1.4", "2.1", "2.2", "2.3", "2.4", "3.1", "3.2")


def answers(out):
    """Every number of the report: what the scripts answer, and what all experiments have in common."""
    in_fp32, by_sgd = trial_beside(out, {"precision": "fp32"}), trial_beside(out, {"optimizer": "sgd"})
    runs, fp32 = experiments(out), experiments(in_fp32)
    rows = [row for seeds in results.read_results(out / "logs" / "results.csv").values() for row in seeds.values()]
    return in_json(
        {
            "runs": runs,
            "fp32": {
                name: {"test": found["test"], "difference": results.paired_difference(runs[name]["log"], found["log"])}
                for name, found in fp32.items()
            },
            "sgd": experiments(by_sgd),
            "number_in_fp32": sum(found["test"].seeds for found in fp32.values()),
            "procedure": comparisons(log_path(out, "1.0", "folds"), procedure.CHOSEN),
            "design": comparisons(log_path(out, "2.0", "folds"), design.CHOSEN),
            "solutions": of_solution(comparisons(log_path(out, "2.0", "folds"), design.SOLUTION)),
            "fold_training": training_on_folds(log_path(out, "2.0", "folds")),
            "chosen": procedure.CHOSEN,
            "best_sgd": procedure.BEST_SGD,
            "architecture": describe(designed_network()),
            "1.1": raw.answer(out),
            "1.2": normalize.answer(out),
            "1.2 in fp32": normalize.answer(in_fp32),
            "1.3": {
                "test": flip.answer(out),
                "difference": results.paired_difference(flip.CURVE.log(out), normalize.CURVE.log(out)),
            },
            "1.4": {
                "test": crop.answer(out),
                "difference": results.paired_difference(crop.CURVE.log(out), flip.CURVE.log(out)),
            },
            "overfitting": comparison.answer(out),
            "2.1": accuracy.answer(out),
            "2.2": gradients.answer(out),
            "2.3": vanishing.answer(out),
            "2.3 controls": controls.answer(out),
            "2.4": solution.answer(out),
            "3.1": adversarial.answer(out),
            "3.2": transfer.answer(out),
            "3.2 controls": transfer_controls.answer(out),
            "shown": adversarial.shown(out),
            "torchattacks": results.read_rows(log_path(out, "3.1", "torchattacks")),
            "classes": list(CLASSES),
            "overfitting_images": accuracy.OVERFITTING_IMAGES,
            "asked": accuracy.ASKED,
            "signal_images": signals.IMAGES,
            "initializations": signals.INITIALIZATIONS,
            "confidence": attack.CONFIDENCE,
            "machine": {name: sorted({row[name] for row in rows}) for name in ("device", "precision", "torch")},
            "number_of_runs": len(rows),
            "hours": sum(row["seconds"] for row in rows) / 3600,
            "settings": asdict(Settings()),
            "newton_schulz_steps": NEWTON_SCHULZ_STEPS,
            "batchnorm": {name: getattr(designed_network().norm1, name) for name in ("eps", "momentum", "ghost")},
        }
    )


def of_solution(found):
    """The candidates for 2.4 alone, compared with the solution."""
    return {name: row for name, row in found.items() if name.startswith(design.SOLUTION.partition(" ")[0])}


def training_on_folds(table):
    """Training accuracy in the last epoch of each candidate, mean over its folds."""
    shares = {}
    for row in results.read_rows(table):
        shares.setdefault(row["candidate"], []).append(row["train_accuracy"])
    return {name: sum(values) / len(values) for name, values in shares.items()}


def experiments(out):
    """How each experiment ended, by the name of its log."""
    found = {}
    for name, seeds in results.read_results(out / "logs" / "results.csv").items():
        log = out / "logs" / f"{name}.csv"
        found[name] = {
            "log": log,
            "test": results.final_accuracy(log),
            "training": results.last_epoch(log, "train_accuracy"),
            "parameters": next(iter(seeds.values()))["parameters"],
        }
    return found


def in_json(value):
    """What JSON can say: None for what is not finite, dicts for named tuples, text for paths."""
    if hasattr(value, "_asdict"):
        value = value._asdict()
    if isinstance(value, dict):
        return {name: in_json(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [in_json(each) for each in value]
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    return value.name if isinstance(value, Path) else value


def typeset(arguments):
    """The report as a PDF's bytes; raise `RecordError` if it is not what the assignment asks for."""
    out, numbers = arguments.out, json.dumps(answers(arguments.out))
    folder = out.resolve() / "checkpoints" / "typst"  # the only files that Typst can read
    with lock(folder.with_suffix(".lock"), f"another process is typesetting {out / 'report.pdf'}"):
        try:
            shutil.rmtree(folder, ignore_errors=True)  # left by a process that was killed
            shutil.copytree(out / "figures", folder / "figures")
            for path in (TEXT, TEXT.with_name("references.bib"), *FONTS):
                shutil.copy(path, folder)
            compiler = typst.Compiler(
                folder / TEXT.name,
                root=folder,
                sys_inputs={
                    "answers": numbers,
                    "fingerprint": fingerprint(numbers),
                    "author": arguments.author or "",
                    "penn_key": arguments.penn_key or "",
                    "collaborators": ", ".join(arguments.collaborator) or ("none" if arguments.author else ""),
                    "trial": results.departures_in_words(out),
                },
                font_paths=[folder],
                ignore_system_fonts=not arguments.system_fonts,
            )
            check(compiler, out)
            return compiler.compile(format="pdf", timestamp=0)
        except RuntimeError as error:  # also of a query
            raise RecordError(f"Typst: {str(error).splitlines()[0]}") from error
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def fingerprint(numbers):
    """Of the report's text and numbers; the PDF bears it among its keywords."""
    return hashlib.sha256((TEXT.read_text(encoding="utf-8") + numbers).encode()).hexdigest()


def needs_system_fonts(arguments):
    """Whether a name has letters that matplotlib's fonts lack; raises `RecordError` for one that no font here has."""
    letters = set("".join([arguments.author or "", *arguments.collaborator]))
    ours = letters_of(FONTS)
    if letters <= ours:
        return False
    if missing := letters - ours - letters_of(font_manager.findSystemFonts()):
        raise RecordError(f"no font on this machine has the letter {min(missing)!r} of a name")
    return True


def letters_of(fonts):
    return {chr(code) for font in fonts for code in ft2font.FT2Font(str(font)).get_charmap()}


def check(compiler, out):
    """Page count, a section for every question, and every figure that the scripts drew."""

    def values(label):
        return json.loads(compiler.query(f"<{label}>", field="value"))

    (pages,) = values("body")
    if pages > MOST_PAGES:
        raise RecordError(f"the report has {pages} pages before its appendix, more than {MOST_PAGES}")
    for what, expected, found in [
        ("a section for question", QUESTIONS, values("question")),
        ("the figure", [name for name in plots.DRAWN if (out / "figures" / f"{name}.pdf").exists()], values("plot")),
    ]:
        missing = [name for name in expected if name not in found]
        if missing:
            raise RecordError(f"the report lacks {what} {', '.join(missing)}")


def parser(description):
    """The flags that say whose report it is, and from which logs."""
    parser = options.Parser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--author", type=options.printable, help="(default: a line to fill in)")
    add("--penn-key", type=penn_key, help="(default: a line to fill in)")
    text = "at most two; give the flag once for each"
    add("--collaborator", type=options.printable, action="append", default=[], help=text)
    options.add_out(parser, "folder of logs/ and figures/ (default: report)")
    return parser


def penn_key(text):
    if not re.fullmatch("[A-Za-z0-9][A-Za-z0-9_-]*", text):
        raise argparse.ArgumentTypeError(f"{text!r} does not belong in a file name: letters, digits, - and _ do")
    return text


def parse(parser):
    """Parse, and refuse at once what the report would refuse in the end."""
    arguments = parser.parse_args()
    if len(arguments.collaborator) > 2:
        parser.error("the assignment allows at most two collaborators")
    arguments.system_fonts = needs_system_fonts(arguments)
    return arguments


def write(arguments):
    """Draw the figures, and write the report."""
    figures.draw(arguments.out)
    with replacing(arguments.out / "report.pdf") as temporary:
        temporary.write_bytes(typeset(arguments))
    print(f"wrote {arguments.out / 'report.pdf'}")


def main():
    write(parse(parser(__doc__)))


if __name__ == "__main__":
    options.run_script(main)
