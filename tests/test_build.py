"""The report and the ZIP: from the logs alone, and as the assignment wants them."""

import json
import re
import shutil
import subprocess
import sys
import zipfile

import pytest

from common.records import ROOT, RecordError, read_csv
from report import build, figures, submission

REPORT = ROOT / "report"


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    """What the report is made from, where it may be changed."""
    out = tmp_path_factory.mktemp("report")
    for logs in ("logs", "trials/fp32/logs"):
        shutil.copytree(REPORT / logs, out / logs)
    shutil.copytree(REPORT / "figures" / "adversarial", out / "figures" / "adversarial")
    return out


def run(monkeypatch, script, *flags):
    monkeypatch.setattr("sys.argv", ["script.py", *map(str, flags)])
    script.main()


def test_the_committed_report_is_the_one_that_build_makes(copy, monkeypatch):
    run(monkeypatch, build, "--out", copy)
    fingerprint = build.fingerprint(json.dumps(build.answers(REPORT))).encode()
    assert fingerprint in (copy / "report.pdf").read_bytes()
    assert fingerprint in (REPORT / "report.pdf").read_bytes()
    assert {path.name for path in (copy / "figures").iterdir()} == {
        path.name for path in (REPORT / "figures").iterdir()
    }


def test_the_same_logs_give_the_same_bytes_and_another_number_other_text(copy, monkeypatch):
    """Without drawing again, which the test above has done."""
    monkeypatch.setattr(figures, "draw", lambda out: None)
    texts = []
    monkeypatch.setattr(build, "check", lambda compiler, out: texts.append(compiler.query("<answer>")))
    run(monkeypatch, build, "--out", copy)
    first = (copy / "report.pdf").read_bytes()
    run(monkeypatch, build, "--out", copy)
    assert (copy / "report.pdf").read_bytes() == first
    results = copy / "logs" / "results.csv"
    (row,) = [row for row in read_csv(results) if (row["question"], row["seed"]) == ("2.1", "0")]
    unchanged = results.read_text()
    results.write_text(unchanged.replace(f"2.1,accuracy,0,{row['test_accuracy']}", "2.1,accuracy,0,0.5"))
    run(monkeypatch, build, "--out", copy)
    results.write_text(unchanged)
    assert texts[0] == texts[1] != texts[2] and (copy / "report.pdf").read_bytes() != first


def test_no_percentage_is_typed_into_the_report():
    prose = re.sub(r"width: \d+%", "", build.TEXT.read_text(encoding="utf-8"))
    assert "%" in prose and not re.findall(r"\d\s*%", prose)


def test_a_missing_log_is_one_line_that_names_its_script(copy, monkeypatch):
    log = copy / "logs" / "1.3_flip.csv"
    log.rename(copy / "elsewhere")
    with pytest.raises(RecordError, match="1.3_flip.csv is missing: `python part1/flip.py"):
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
    for script in ("part1/raw.py", "part2/gradients.py", "part3/adversarial.py"):
        process = subprocess.run(
            [sys.executable, tmp_path / script, "--iterations", "2", "--batch-size", "20", "--data-dir", "synthetic"]
            + ["--max-iterations", "1"] * script.startswith("part3"),
            capture_output=True, text=True, cwd="/",
        )  # fmt: skip
        assert process.returncode == 0, process.stderr
