"""The report and the ZIP: from the logs alone, and as the assignment wants them."""

import re
import shutil
import subprocess
import sys
import zipfile

import matplotlib.pyplot as plt
import numpy as np
import pytest

from common import options
from common.options import REPORT
from common.records import ROOT, RecordError, load_checkpoint, read_rows, save_checkpoint
from part3 import adversarial, plots
from report import build, figures, submission
from report.runs import RUNS, Run, trial_beside


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    """What the report is made from, where it may be changed."""
    out = tmp_path_factory.mktemp("report")
    trials = {f"{run.folder(REPORT).relative_to(REPORT)}/logs" for run in RUNS}
    for name in ("weights", "figures", "checks", *trials):
        shutil.copytree(REPORT / name, out / name)
    return out


def run(monkeypatch, script, *flags):
    monkeypatch.setattr("sys.argv", ["script.py", *map(str, flags)])
    script.main()


def test_the_committed_report_is_the_one_that_build_makes(copy):
    """Drawn and typeset from logs, in a process in which to import the trainer is an error."""
    for path in (copy / "figures").glob("*.p*"):
        path.unlink()
    code = "import sys; sys.modules['common.training'] = None; from report import build; build.main()"
    subprocess.run([sys.executable, "-c", code, "--out", copy], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    fingerprints = [
        re.search(rb"/Keywords\((\w{64})\)", (out / "report.pdf").read_bytes())[1] for out in (copy, REPORT)
    ]
    assert fingerprints[0] == fingerprints[1]
    assert {path.name for path in (copy / "figures").iterdir()} == {
        path.name for path in (REPORT / "figures").iterdir()
    }


def test_the_same_logs_give_the_same_bytes_and_another_number_other_text(copy, monkeypatch):
    """Without drawing again."""
    monkeypatch.setattr(figures, "draw", lambda out: None)
    texts = []
    monkeypatch.setattr(build, "check", lambda compiler, out: texts.append(compiler.query("<answer>")))
    run(monkeypatch, build, "--out", copy)
    first = (copy / "report.pdf").read_bytes()
    run(monkeypatch, build, "--out", copy)
    assert (copy / "report.pdf").read_bytes() == first
    results = copy / "logs" / "results.csv"
    (row,) = [row for row in read_rows(results) if (row["name"], row["seed"]) == ("accuracy", "0")]
    unchanged = results.read_text()
    results.write_text(unchanged.replace(f"2.1,accuracy,0,{row['test_accuracy']}", "2.1,accuracy,0,0.5"))
    run(monkeypatch, build, "--out", copy)
    results.write_text(unchanged)
    assert texts[0] == texts[1] != texts[2] and (copy / "report.pdf").read_bytes() != first


def test_no_percentage_is_typed_into_the_report():
    prose = re.sub(r"width: \d+%", "", build.TEXT.read_text(encoding="utf-8"))
    assert "%" in prose and not re.findall(r"\d\s*%", prose)
    assert not re.findall(r"\b(?:one|three|four|five) (?:seeds?|initializations)\b", prose)  # nor how many there are


def test_a_number_is_traced_to_its_function_and_its_rows(copy, monkeypatch, capsys):
    accuracies = {
        row["seed"]: float(row["test_accuracy"])
        for row in read_rows(copy / "logs" / "results.csv")
        if row["name"] == "flip"
    }
    mean = 100 * sum(accuracies.values()) / len(accuracies)
    run(monkeypatch, build, "--out", copy, "--trace", f"{mean:.2f}")
    printed = capsys.readouterr().out
    origin = printed[printed.index("runs > 1.3_flip > test > mean") :].split(" > ", 4)[3]
    assert "report/build.py, experiments()" in origin and "results.csv" in origin and ".csv" in origin
    assert [line.split(",")[:3] for line in origin.splitlines() if line.startswith("    1.3")] == [
        ["    1.3", "flip", seed] for seed in accuracies
    ]
    with pytest.raises(RecordError, match="no number of the report is shown as '123.456'"):
        run(monkeypatch, build, "--out", copy, "--trace", "123.456")


def test_a_missing_log_is_one_line_that_names_its_script(copy, monkeypatch):
    log = copy / "logs" / "1.3_flip.csv"
    log.rename(copy / "elsewhere")
    with pytest.raises(RecordError, match="1.3_flip.csv is missing; `python part1/flip.py"):
        run(monkeypatch, build, "--out", copy)
    (copy / "elsewhere").rename(log)


@pytest.mark.parametrize(
    "flags",
    [
        ["--penn-key", "a/b"],
        ["--penn-key", ""],
        ["--penn-key", "../a"],
        [],
        ["--penn-key", "a"] + 3 * ["--collaborator", "b"],
    ],
)
def test_a_bad_name_is_refused(flags, monkeypatch, tmp_path, capsys):
    with pytest.raises((SystemExit, RecordError)):
        run(monkeypatch, submission, "--out", tmp_path, *flags)
    assert not list(tmp_path.iterdir()) and capsys.readouterr().err.count("\n") <= 1


def test_the_zip_has_what_the_assignment_wants_and_runs_elsewhere(copy, monkeypatch, tmp_path):
    monkeypatch.setattr(figures, "draw", lambda out: None)
    run(monkeypatch, submission, "--out", copy, "--penn-key", "ada")
    with zipfile.ZipFile(copy / "1-ada.zip") as archive:
        archive.extractall(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"report.pdf", "part1", "part2", "part3"}
    assert [path.name for path in tmp_path.rglob("*.pdf")] == ["report.pdf"]
    budget = ["--iterations", "2", "--batch-size", "20", "--data-dir", "synthetic"]
    commands = [["part1/raw.py"], ["part2/gradients.py"], ["part3/adversarial.py", "--max-iterations", "1"]]
    processes = []
    for number, (script, *flags) in enumerate(commands, start=1):
        alone = (tmp_path / f"part{number}").rename(tmp_path / f"my folder {number}")
        command = [sys.executable, alone / script, *flags, *budget]
        processes.append(subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True))
    for process in processes:
        _, errors = process.communicate()
        assert process.returncode == 0, errors


def test_runs_that_depart_from_the_report_s_lie_beside_the_others_or_among_them(tmp_path):
    """Among them if all runs under `out` differ in the same way, or if fp32 is the fastest precision."""

    def folder(flags, out=tmp_path):
        return Run(f"part1/crop.py {flags}".strip(), 0).folder(out)

    trials = tmp_path / "trials"
    assert [folder(flags) for flags in ("", "--precision fp32", "--optimizer sgd", "--iterations 8000")] == [
        tmp_path,
        *(trials / name for name in ("fp32", "sgd", "iterations8000")),
    ]
    trial = options.trial(options.Parser(), tmp_path, {"iterations": 30, "images": "synthetic"})
    assert folder("--iterations 8000", trial) == trial
    both = options.trial_path(tmp_path, {"iterations": 30, "precision": "fp32", "images": "synthetic"})
    assert folder("--precision fp32", trial) == trial_beside(trial, {"precision": "fp32"}) == both
    shutil.copytree(REPORT / "trials/fp32/logs", tmp_path / "logs")
    assert folder("--precision fp32") == tmp_path and folder("--optimizer sgd") == trials / "sgd"


@pytest.mark.parametrize("name", ["Ada Lovelace", "Zoë Ångström", "Нина", "Ελένη", "Nguyễn", "أمينة"])
def test_names_that_the_reports_fonts_have_need_no_others(name):
    assert not build.needs_system_fonts(build.parser("").parse_args(["--author", name]))


def test_a_letter_that_no_font_has_is_named(monkeypatch):
    monkeypatch.setattr(build.font_manager, "findSystemFonts", lambda: [])
    arguments = build.parser("").parse_args(["--author", "Ada", "--collaborator", "李"])
    with pytest.raises(RecordError, match="李"):
        build.needs_system_fonts(arguments)
    monkeypatch.setattr(build, "letters_of", lambda fonts: set("Ada" if fonts else "李"))
    assert build.needs_system_fonts(arguments)


def test_the_same_files_give_the_same_zip(copy, monkeypatch):
    monkeypatch.setattr(figures, "draw", lambda out: None)
    monkeypatch.setattr(build, "check", lambda compiler, out: None)
    made = []
    for _ in range(2):
        run(monkeypatch, submission, "--out", copy, "--penn-key", "bob")
        made.append((copy / "1-bob.zip").read_bytes())
    assert made[0] == made[1]


def test_every_run_is_checked_before_anything_is_drawn(copy, monkeypatch):
    """A log without its last row, and a table with a word in a cell: the command that writes it is named."""
    monkeypatch.setattr(figures, "SCRIPTS", ())
    figures.draw(copy)
    for name, damage, command in [
        ("2.3_depth2", lambda text: text[: text.rindex("\n", 0, -1) + 1], "part2/controls.py --depth 0 2 5 10"),
        ("3.2_matrix", lambda text: text.replace("500", "many"), "part3/transfer.py"),
    ]:
        path = copy / "logs" / f"{name}.csv"
        unchanged = path.read_text()
        path.write_text(damage(unchanged))
        with pytest.raises(RecordError, match=rf"{name}.csv.*`python {re.escape(command)}"):
            figures.draw(copy)
        path.write_text(unchanged)


def test_tables_of_other_weights_are_refused(copy, monkeypatch):
    monkeypatch.setattr(figures, "SCRIPTS", ())
    path = copy / "weights" / "2.1_accuracy_seed0.pt"
    whole, weights = path.read_bytes(), load_checkpoint(path)
    save_checkpoint(path, {name: value + 1 for name, value in weights.items()})
    with pytest.raises(RecordError, match="2.1_overfitting.csv was measured on other weights.*`python part2/accuracy"):
        figures.draw(copy)
    path.unlink()  # as in a clone, where most weights are not
    figures.draw(copy)
    path.write_bytes(whole)


def test_a_damaged_image_is_one_line(copy):
    tables = adversarial.tables_in(copy)
    path = sorted((copy / "figures" / "adversarial").glob("*.png"))[0]
    whole = path.read_bytes()
    other = copy / "other.png"
    for shape in ((8, 8, 3), (32, 32, 4)):  # of another size, of another mode
        plt.imsave(other, np.zeros(shape))
        for content in (other.read_bytes(), b"", whole[:100], b"a poem"):
            path.write_bytes(content)
            with pytest.raises(RecordError, match=re.escape(f"{path} is missing or damaged")):
                plots.read_pairs(copy, tables["adversarial"])
    path.unlink()
    with pytest.raises(RecordError, match="is missing or damaged"):
        plots.read_pairs(copy, tables["adversarial"])
    path.write_bytes(whole)
    assert len(plots.read_pairs(copy, tables["adversarial"])) == 20
