"""The commands that produce the report's logs, in an order in which they can run, and the logs that each writes."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from common.experiment import hashes_of, remembered
from common.options import trial_path
from common.records import RecordError
from common.results import departures, finished, read_log, read_results, read_rows

LONG = 8000  # iterations, four times the assignment's
TEXTS = ("precision", "optimizer")  # flags with text values that make a run differ from the report's


class Run(NamedTuple):
    """A command, and what it writes under logs/.

    Attributes:
        script: path and flags, without seeds.
        minutes: estimated, on two cores.
        experiments: names of the training logs that it writes, with rows in results.csv.
        tables: other tables it writes.
        seeds: those it trains; empty for a script without seeds.
    """

    script: str
    minutes: int
    experiments: tuple[str, ...] = ()
    tables: tuple[str, ...] = ()
    seeds: Sequence[int] = (0,)

    @property
    def command(self) -> str:
        return " ".join([self.script, *(["--seeds", *map(str, self.seeds)] if self.seeds else [])])

    def folder(self, out: Path) -> Path:
        words = self.script.split()
        flags = dict(zip(words, words[1:]))
        departing: dict[str, str | int] = {name: flags[f"--{name}"] for name in TEXTS if f"--{name}" in flags}
        if "--iterations" in flags:
            departing["iterations"] = int(flags["--iterations"])
        return trial_beside(out, departing)

    def logs(self, out: Path) -> list[Path]:
        return [self.folder(out) / "logs" / f"{name}.csv" for name in self.experiments + self.tables]

    def check(self, out: Path) -> None:
        """Raise `RecordError`, which names the command, if a log that it writes is missing, damaged or incomplete."""
        for path in self.logs(out):
            try:
                if not path.exists():
                    raise RecordError(f"{path} is missing")
                if path.stem in self.experiments and (broken := read_log(path).keys() ^ finished(path)):
                    raise RecordError(f"{path} and its results.csv disagree on seed {min(broken)}")
                read_rows(path)
                measured_on = {path.parents[1] / "weights" / name for name in remembered(path)}
                if changed := hashes_of(measured_on).items() - remembered(path).items():
                    raise RecordError(f"{path} was measured on other weights than those in {min(changed)[0]}")
            except RecordError as error:
                raise RecordError(f"{error}; `python {self.command}` writes it") from None


INPUTS = (
    *(f"1.2_{kind}_without_batchnorm" for kind in ("raw", "divided", "centered", "scaled", "normalize")),
    "1.2_divided",
)
NORMALIZED = (("1.2_normalize", "1.2_centered"), ("1.2_gradients", "1.2_statistics"))
OF_SOLUTION = ("2.4_signals", "2.4_overfitting", "2.4_branches", "2.4_course")
SHALLOW = ("standardized_shallow", "he_shallow", "centered_shallow", "normalized_shallow", "gained_shallow")
SHALLOW += ("kept_shallow", "kept_gained_shallow", "kept_normalized_shallow")
UNREPEATED = ("backward", "forward", "both", "both_clipped", "unbiased", "no_epsilon", "adam", "sgd_forward")
UNREPEATED += ("sgd_clipped", "sgd_backward_clipped", "sgd_forward_clipped", "sgd_both_clipped", "sgd_shallow_clipped")
TRAINED_OTHERWISE = ("first_half", "last_half", "few_images", "more_images", "shuffled_labels", "more_shuffled")
RUNS = (
    Run("part1/procedure.py", 20, (), ("1.0_folds",)),
    Run("part1/procedure.py --finalists --folds 0 1 2 3 4", 8, (), ("1.0_folds",)),
    Run("part1/raw.py", 4, ("1.1_raw",), seeds=range(5)),
    Run("part1/normalize.py", 8, *NORMALIZED, seeds=range(5)),
    Run("part1/flip.py", 4, ("1.3_flip",), seeds=range(5)),
    Run("part1/crop.py", 4, ("1.4_crop",), seeds=range(5)),
    Run("part1/comparison.py", 2, (), ("1.4_overfitting",), seeds=range(5)),
    Run("part1/raw.py --precision fp32", 5, ("1.1_raw",), seeds=range(5)),
    Run("part1/normalize.py --precision fp32", 10, *NORMALIZED, seeds=range(5)),
    Run("part1/flip.py --precision fp32", 5, ("1.3_flip",), seeds=range(5)),
    Run("part1/crop.py --precision fp32", 5, ("1.4_crop",), seeds=range(5)),
    Run("part1/controls.py --normalization", 15, INPUTS, seeds=range(5)),
    Run("part1/controls.py --normalization divided --precision fp32", 5, ("1.2_divided",), seeds=range(5)),
    Run(
        "part1/controls.py --augmentation",
        16,
        ("1.3_flip_fixed", "1.4_crop_alone", "1.4_crop_fixed", "1.4_roll_fixed"),
        seeds=range(5),
    ),
    Run("part1/controls.py --shifts", 1, (), ("1.4_shifts",), seeds=range(5)),
    Run("part2/design.py", 160, (), ("2.0_folds",)),
    Run("part2/design.py --finalists --folds 0 1 2 3 4", 200, (), ("2.0_folds",)),
    Run("part2/accuracy.py", 20, ("2.1_accuracy",), ("2.1_overfitting",), seeds=range(5)),
    Run("part2/accuracy.py --ordinary-batchnorm", 14, ("2.1_ordinary_batchnorm",), seeds=range(3)),
    Run("part2/gradients.py", 1, (), ("2.2_norms", "2.2_positions"), seeds=range(5)),
    Run("part2/vanishing.py", 42, ("2.3_vanishing",), ("2.3_signals", "2.3_course"), seeds=range(5)),
    Run(
        f"part2/controls.py --controls {' '.join(UNREPEATED)}",
        125,
        tuple(f"2.3_{name}" for name in UNREPEATED),
        ("2.3_course",),
    ),
    Run(
        "part2/controls.py --controls sgd_vanishing",
        24,
        ("2.3_sgd_vanishing",),
        ("2.3_course",),
        seeds=range(3),
    ),
    Run(
        "part2/controls.py --controls backward_halved forward_halved no_epsilon_halved",
        95,
        ("2.3_backward_halved", "2.3_forward_halved", "2.3_no_epsilon_halved"),
        ("2.3_course",),
        seeds=range(3),
    ),
    Run(
        "part2/controls.py --controls batchnorm batchnorm_residual both_halved",
        115,
        ("2.3_batchnorm", "2.3_batchnorm_residual", "2.3_both_halved"),
        ("2.3_course",),
        seeds=range(3),
    ),
    Run(
        "part2/controls.py --depth 0 2 5 10",
        70,
        ("2.3_depth0", "2.3_depth2", "2.3_depth5", "2.3_depth10"),
        seeds=range(3),
    ),
    Run("part2/controls.py --depth 10 --precision fp32", 12, ("2.3_depth10",)),
    Run("part2/solution.py", 40, ("2.4_scaled",), OF_SOLUTION, seeds=range(5)),
    Run("part2/solution.py --cures residual", 30, ("2.4_residual",), seeds=range(3)),
    Run(
        "part2/solution.py --cures none he dirac slowed",
        95,
        ("2.4_none", "2.4_he", "2.4_dirac", "2.4_slowed"),
        ("2.4_course",),
        seeds=range(3),
    ),
    Run(
        "part2/solution.py --cures he scaled_chain --procedure clipped",
        16,
        ("2.4_he_clipped", "2.4_scaled_chain"),
        ("2.4_course",),
    ),
    Run(
        "part2/solution.py --cures residual --procedure clipped",
        24,
        ("2.4_residual_clipped",),
        ("2.4_course",),
        seeds=range(3),
    ),
    Run("part2/solution.py --cures he --procedure unchanged", 8, ("2.4_he_unchanged",), ("2.4_course",)),
    Run(
        "part2/solution.py --cures residual --procedure unchanged",
        24,
        ("2.4_residual_unchanged",),
        ("2.4_course",),
        seeds=range(3),
    ),
    Run(
        "part2/solution.py --cures scaled_chain scaled --procedure unchanged",
        34,
        ("2.4_scaled_chain_unchanged", "2.4_scaled_unchanged"),
        ("2.4_course",),
        seeds=range(2),
    ),
    Run(
        "part2/solution.py --cures scaled_chain scaled --procedure halved",
        36,
        ("2.4_scaled_chain_halved", "2.4_scaled_halved"),
        ("2.4_course",),
        seeds=range(2),
    ),
    Run(
        "part2/controls.py --controls fewer_skips slow_softmax",
        54,
        ("2.4_fewer_skips", "2.4_slow_softmax"),
        ("2.4_course",),
        seeds=range(3),
    ),
    Run(
        "part2/controls.py --controls standardized_added random_start slow_others",
        52,
        ("2.4_standardized_added", "2.4_random_start", "2.4_slow_others"),
        ("2.4_course",),
        seeds=range(2),
    ),
    Run("part2/controls.py --controls slow_start", 9, ("2.4_slow_start",), ("2.4_course",)),
    Run(
        f"part2/controls.py --controls {' '.join(SHALLOW)}",
        48,
        tuple(f"2.4_{name}" for name in SHALLOW),
        seeds=range(2),
    ),
    # The main questions with plain SGD.
    Run("part1/raw.py --optimizer sgd", 4, ("1.1_raw",), seeds=range(5)),
    Run("part1/normalize.py --optimizer sgd", 8, *NORMALIZED, seeds=range(5)),
    Run("part1/flip.py --optimizer sgd", 4, ("1.3_flip",), seeds=range(5)),
    Run("part1/crop.py --optimizer sgd", 4, ("1.4_crop",), seeds=range(5)),
    Run("part1/controls.py --normalization --optimizer sgd", 13, INPUTS, seeds=range(5)),
    Run("part2/accuracy.py --optimizer sgd", 14, ("2.1_accuracy",), ("2.1_overfitting",), seeds=range(3)),
    Run("part2/gradients.py --optimizer sgd", 1, (), ("2.2_norms", "2.2_positions"), seeds=range(3)),
    Run("part2/vanishing.py --optimizer sgd", 25, ("2.3_vanishing",), ("2.3_signals", "2.3_course"), seeds=range(3)),
    Run("part2/controls.py --controls forward --optimizer sgd", 12, ("2.3_forward",), ("2.3_course",)),
    Run("part2/solution.py --optimizer sgd", 25, ("2.4_scaled",), OF_SOLUTION, seeds=range(3)),
    Run("part2/solution.py --cures he residual --optimizer sgd", 30, ("2.4_he", "2.4_residual"), ("2.4_course",)),
    # Trained for longer: does the gain from crops grow?
    Run(f"part1/flip.py --iterations {LONG}", 6, ("1.3_flip",), seeds=range(2)),
    Run(f"part1/crop.py --iterations {LONG}", 6, ("1.4_crop",), seeds=range(2)),
    # References for `reproduce.py --check`.
    Run("part2/accuracy.py --iterations 200", 2, ("2.1_accuracy",), ("2.1_overfitting",), seeds=range(3)),
    Run("part2/vanishing.py --iterations 200", 3, ("2.3_vanishing",), ("2.3_signals", "2.3_course"), seeds=range(3)),
    Run("part2/solution.py --iterations 200", 3, ("2.4_scaled",), OF_SOLUTION, seeds=range(3)),
    Run("part3/adversarial.py", 1, (), ("3.1_adversarial", "3.1_attacks", "3.1_epsilon", "3.1_spectrum"), seeds=()),
    Run(
        "part3/transfer.py",
        8,
        (),
        ("3.2_transfer", "3.2_epsilon", "3.2_matrix", "3.2_alignment", "3.2_verdicts"),
        seeds=(),
    ),
    Run(
        "part3/controls.py",
        4,
        tuple(f"3.2_{name}" for name in TRAINED_OTHERWISE),
        ("3.2_pairs", "3.2_steps"),
        seeds=range(2),
    ),
)


def trial_beside(out: Path, departing: dict[str, str | int]) -> Path:
    """The folder of runs that differ in these ways from those under `out`, which may themselves be trials.

    It is `out` if its runs already differ in these ways, e.g. if fp32 is a machine's fastest precision.
    """
    known = departures(out)
    rows = [row for seeds in read_results(out / "logs" / "results.csv").values() for row in seeds.values()]
    in_fp32 = bool(rows) and all(row["precision"] == "fp32" for row in rows)
    new = {name: departing[name] for name in departing.keys() - known.keys() if name != "precision" or not in_fp32}
    return trial_path(out.parent.parent if known else out, known | new) if new else out
