"""What is committed: the real runs, and a README that says what their logs say."""

import pytest

from common.experiment import describe, final_accuracies, log_path, results
from common.options import ITERATIONS
from common.plots import PART1
from common.records import read_log
from tests.conftest import ROOT

REPORT = ROOT / "report"


@pytest.mark.parametrize("name", PART1)
def test_part_1_has_five_full_real_runs_and_the_readme_has_their_answer(name):
    question, _ = PART1[name]
    log = log_path(REPORT, question, name)
    assert sorted(results(log)) == sorted(read_log(log)) == [0, 1, 2, 3, 4]
    assert all(int(row["iterations"]) == ITERATIONS for row in results(log).values())
    for columns in read_log(log).values():
        assert columns["iteration"].tolist() == list(range(1, ITERATIONS + 1))
    lines = (ROOT / "README.md").read_text().splitlines()
    (line,) = [line for line in lines if f"[part1/{name}.py]" in line]
    assert describe(final_accuracies(log)) in line
    assert (REPORT / "figures" / f"{question}_{name}.png").exists() and f"{question}_{name}.png" in line
