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
from functools import partial
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
from common.settings import NEWTON_SCHULZ_STEPS, PLAIN_SGD, Settings
from part1 import comparison, crop, flip, normalize, procedure, raw
from part1 import controls as part1_controls
from part2 import accuracy, controls, design, gradients, signals, solution, vanishing
from part2.networks import describe, designed_network
from part3 import adversarial, attack, transfer
from part3 import controls as transfer_controls
from part3 import plots as adversarial_plots
from report import figures, trace
from report.runs import LONG, trial_beside

TEXT = ROOT / "report" / "report.typ"
FONTS = sorted((Path(matplotlib.get_data_path()) / "fonts" / "ttf").glob("[!L]*.ttf"))  # not LastResort's boxes
MOST_PAGES = 10  # before the appendix
QUESTIONS = ("1.1", "1.2", "1.3", "1.4", "2.1", "2.2", "2.3", "2.4", "3.1", "3.2")


def answers(out):
    """Every number of the report: the scripts' answers, and values about all experiments."""
    return in_json({name: source() for name, source in sources(out).items()})


def sources(out):
    """The function that each part of `answers` comes from."""
    in_fp32, by_sgd = trial_beside(out, {"precision": "fp32"}), trial_beside(out, {"optimizer": "sgd"})
    long = trial_beside(out, {"iterations": LONG})
    return {
        "runs": partial(experiments, out),
        "fp32": partial(precision, out, in_fp32),
        "sgd": partial(experiments, by_sgd),
        "long": partial(experiments, long),
        "longer": partial(longer, out, long),
        "gpu": partial(experiments, out / "checks" / "nvidia-h200"),
        "totals": partial(totals, out, in_fp32, by_sgd),
        "procedure": partial(comparisons, log_path(out, "1.0", "folds"), procedure.CHOSEN),
        "design": partial(comparisons, log_path(out, "2.0", "folds"), design.CHOSEN),
        "solutions": partial(solutions, out),
        "fold_training": partial(training_on_folds, log_path(out, "2.0", "folds")),
        "constants": constants,
        "1.1": partial(raw.answer, out),
        "1.2": partial(normalize.answer, out),
        "1.2 in fp32": partial(normalize.answer, in_fp32),
        "1.2 by sgd": partial(normalize.answer, by_sgd),
        "part1 controls": partial(part1_controls.answer, out),
        "part1 controls in fp32": partial(part1_controls.answer, in_fp32),
        "part1 controls by sgd": partial(part1_controls.answer, by_sgd),
        "rounding": partial(rounding, out, in_fp32),
        "1.3": partial(flip.answer, out),
        "1.4": partial(crop.answer, out),
        "gains": partial(gains, out),
        "gains by sgd": partial(gains, by_sgd),
        "overfitting": partial(comparison.answer, out),
        "2.1": partial(accuracy.answer, out),
        "2.2": partial(gradients.answer, out),
        "2.2 by sgd": partial(gradients.answer, by_sgd),
        "2.3": partial(vanishing.answer, out),
        "2.3 controls": partial(controls.answer, out),
        "2.3 controls by sgd": partial(controls.answer, by_sgd),
        "2.4": partial(solution.answer, out),
        "3.1": partial(adversarial.answer, out),
        "3.2": partial(transfer.answer, out),
        "3.2 controls": partial(transfer_controls.answer, out),
        "shown": partial(adversarial.shown, out),
        "torchattacks": partial(results.read_rows, log_path(out, "3.1", "torchattacks")),
    }


def constants():
    """Values set in code rather than measured."""
    return {
        "settings": asdict(Settings()),
        "plain_sgd": asdict(PLAIN_SGD),
        "clip_norm": solution.CLIPPED.clip_norm,
        "sgd_clip_norm": solution.CLIPPED_SGD.clip_norm,
        "norms_kept": {
            "ordinary": controls.NORMS_KEPT.learning_rate,
            "divided": controls.NORMS_KEPT_DIVIDED.learning_rate,
        },
        "newton_schulz_steps": NEWTON_SCHULZ_STEPS,
        "chosen": procedure.CHOSEN,
        "best_sgd": procedure.BEST_SGD,
        "architecture": describe(designed_network()),
        "batchnorm": {name: getattr(designed_network().norm1, name) for name in ("eps", "momentum", "ghost")},
        "asked": accuracy.ASKED,
        "long": LONG,
        "overfitting_images": accuracy.OVERFITTING_IMAGES,
        "signal_images": signals.IMAGES,
        "initializations": signals.INITIALIZATIONS,
        "confidence": attack.CONFIDENCE,
        "amplified": adversarial_plots.AMPLIFIED,
        "classes": list(CLASSES),
    }


def totals(out, in_fp32, by_sgd):
    """The number of runs, their hours in total, and the versions of PyTorch."""
    runs = [
        [row for seeds in results.read_results(folder / "logs" / "results.csv").values() for row in seeds.values()]
        for folder in (out, by_sgd, in_fp32)
    ]
    rows = sum(runs, [])
    return {
        **dict(zip(("runs", "by_sgd", "in_fp32"), map(len, runs))),
        "hours": sum(row["seconds"] for row in rows) / 3600,
        "torch": {  # by device; the last are early runs
            "cpu": sorted({row["torch"] for row in rows if row["device"] == "cpu" and row["processor"]}),
            "gpu": sorted({row["torch"] for row in rows if row["device"] != "cpu"}),
            "early": sorted({row["torch"] for row in rows if not row["processor"]}),
        },
    }


def precision(out, in_fp32):
    """Each experiment's fp32 accuracy, and bf16 minus fp32, paired by seed."""
    logs = out / "logs"
    return {
        name: {"test": found["test"], "difference": results.paired_difference(logs / found["log"].name, found["log"])}
        for name, found in experiments(in_fp32).items()
    }


def rounding(out, in_fp32):
    """By how much less subtracting the mean raises accuracy in fp32 than in bf16, after division by 255; by seed."""

    def gains_in(folder):
        divided, centered = (results.runs(log_path(folder, "1.2", name)) for name in ("divided", "centered"))
        common = centered.keys() & divided.keys()
        return {seed: centered[seed]["test_accuracy"] - divided[seed]["test_accuracy"] for seed in common}

    bf16, fp32 = gains_in(out), gains_in(in_fp32)
    differences = [bf16[seed] - fp32[seed] for seed in sorted(bf16.keys() & fp32.keys())]
    return results.Difference.of(differences) if len(differences) > 1 else None


def gains(out):
    """The gain of 1.3 and 1.4 over the previous question, paired by seed."""
    logs = [script.CURVE.log(out) for script in (normalize, flip, crop)]
    return dict(zip(("1.3", "1.4"), map(results.paired_difference, logs[1:], logs)))


def longer(out, long):
    """The effect of `LONG` training on 1.3 and 1.4, and 1.4's gain over 1.3 before and after it, paired by seed."""
    before, after = ([script.CURVE.log(folder) for script in (flip, crop)] for folder in (out, long))
    return {
        **dict(zip(("flip", "crop"), map(results.paired_difference, after, before))),
        "gain before": results.paired_difference(*before[::-1], of=after[1]),
        "gain": results.paired_difference(*after[::-1]),
    }


def solutions(out):
    """Only the candidates for 2.4, compared with the solution."""
    found = comparisons(log_path(out, "2.0", "folds"), design.SOLUTION)
    return {name: row for name, row in found.items() if name.startswith(design.SOLUTION.partition(" ")[0])}


def training_on_folds(table):
    """Each candidate's last-epoch training accuracy on fold 0."""
    return {row["candidate"]: row["train_accuracy"] for row in results.read_rows(table) if row["fold"] == 0}


def experiments(out):
    """Each experiment's results, by the name of its log."""
    found = {}
    for name, seeds in results.read_results(out / "logs" / "results.csv").items():
        log = out / "logs" / f"{name}.csv"
        found[name] = {
            "log": log,
            "test": results.final_accuracy(log),
            "each": results.final_accuracies(log),
            "device": next(iter(seeds.values()))["device"],
            "training": results.last_epoch(log, "train_accuracy"),
            "losses": [columns["loss"][:2].tolist() for columns in results.read_log(log).values()],
            "parameters": next(iter(seeds.values()))["parameters"],
        }
    return found


def in_json(value):
    """Convert for JSON: non-finite floats to None, named tuples to dicts, paths to names."""
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
    """The report as PDF bytes; raises `RecordError` if it is too long or lacks a question or a figure."""
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
        except RuntimeError as error:  # also in a query
            raise RecordError(f"Typst: {str(error).splitlines()[0]}") from error
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def fingerprint(numbers):
    """A hash of the report's text and numbers, stored in the PDF's keywords."""
    return hashlib.sha256((TEXT.read_text(encoding="utf-8") + numbers).encode()).hexdigest()


def needs_system_fonts(arguments):
    """Whether a name has letters that matplotlib's fonts lack; raises `RecordError` if all installed fonts lack one."""
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
    """Check the page count, the section of every question, and every drawn figure."""

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
    """The flags for the report's authors and the folder of logs."""
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
        raise argparse.ArgumentTypeError(f"{text!r} is not valid in a file name: use letters, digits, - and _")
    return text


def parse(parser):
    """Parse, and reject invalid names before the report is built."""
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
    flags = parser(__doc__)
    text = "only print where this number, written as in the report (85.06; 7.6e-13), comes from"
    flags.add_argument("--trace", metavar="NUMBER", help=text)
    arguments = parse(flags)
    if arguments.trace:
        print(*trace.trace(arguments.out, arguments.trace), sep="\n")
    else:
        write(arguments)


if __name__ == "__main__":
    options.run_script(main)
