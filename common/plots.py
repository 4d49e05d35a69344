"""The figure style and the figures that several parts share, drawn from logs."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import matplotlib
import matplotlib.pyplot as plt
import numpy as np

from common.records import READ_ONLY, replacing
from common.results import departures_in_words, epoch_of, final_accuracies, final_accuracy, log_path, read_log

# Okabe and Ito's colors, which color-blind readers can distinguish, and two more; line styles distinguish them in
# grayscale.
BLACK, GRAY, ORANGE, SKY = "#000000", "#999999", "#E69F00", "#56B4E9"
GREEN, BLUE, VERMILION, PURPLE = "#009E73", "#0072B2", "#D55E00", "#CC79A7"
BROWN, VIOLET = "#8B5A2B", "#5D3A9B"
DRAWN: list[str] = []  # the names of the figures that this process has saved
HALF_WIDTH, FULL_WIDTH = 3.4, 6.9  # widths in the report, inches

matplotlib.rcdefaults()  # ignores any matplotlibrc
matplotlib.use("Agg")  # files only: no window system needed
plt.rc("figure", figsize=(HALF_WIDTH, 1.65))
plt.rc("figure.constrained_layout", use=True)
plt.rc("font", family="STIXGeneral", size=9)  # as in the report
plt.rc("mathtext", fontset="stix")
plt.rc("axes", titlesize=9, grid=True)
plt.rc("axes.spines", top=False, right=False)
plt.rc("grid", alpha=0.3)
plt.rc("legend", fontsize=8, frameon=False)
plt.rc("savefig", dpi=200)
plt.rc("pdf", fonttype=42)


class Curve(NamedTuple):
    """How an experiment is drawn in every figure; defined in the experiment's script."""

    question: str
    name: str  # of the experiment
    label: str
    color: str = GRAY
    linestyle: str | tuple = "-"
    tick: str = ""  # its short label on an axis

    @property
    def style(self) -> dict:
        return {"color": self.color, "linestyle": self.linestyle}

    def log(self, out: Path) -> Path:
        return log_path(out, self.question, self.name)


def save(figure: plt.Figure, out: Path, name: str, formats: Sequence[str] = ("pdf", "png")) -> None:
    """Write `out/figures/name.pdf` (for the report) and `.png` (for viewing); the output is deterministic."""
    if departing := departures_in_words(out):
        figure.suptitle(f"not the report's run: {departing}", color=VERMILION)
    DRAWN.append(name)
    figure.draw_without_rendering()  # lays it out: once, not for each format
    figure.set_layout_engine("none")
    try:
        for suffix in formats:
            content = io.BytesIO()  # matplotlib's PDF writer ends in a traceback on a full disk
            figure.savefig(content, format=suffix, metadata={"CreationDate": None} if suffix == "pdf" else {})
            with replacing(out / "figures" / f"{name}.{suffix}") as temporary:
                temporary.write_bytes(content.getvalue())
    except OSError as error:
        if error.errno not in READ_ONLY:
            raise
        print(f"{out / 'figures' / name}.png not updated: {error.strerror}")
    plt.close(figure)


def drawn(out: Path) -> str:
    """The figures that this process has drawn, in one line."""
    names = ", ".join(f"{name}.png" for name in dict.fromkeys(DRAWN))
    return f"figures, in {out / 'figures'}: {names}"


def running_mean(values: np.ndarray, window: int) -> np.ndarray:
    """Mean over the `window` values around each; fewer at the ends."""
    sums = np.concatenate([[0], np.cumsum(values)])
    index = np.arange(len(values))
    before = np.minimum(index, window // 2)
    after = np.minimum(index + 1, (window + 1) // 2)  # symmetric at the steep start
    first, last = index - before, np.minimum(index + after, len(values))
    return (sums[last] - sums[first]) / (last - first)


def accuracy_curves(out: Path, curve: Curve, title: str) -> None:
    """Plot each seed's training accuracy over iterations, and the experiment's final test accuracy."""
    log, epoch = curve.log(out), epoch_of(out)
    test = final_accuracy(log)
    figure, axes = plt.subplots()
    for number, columns in enumerate(read_log(log).values()):
        accuracy = 100 * columns["train_accuracy"]
        axes.plot(columns["iteration"], accuracy, color=curve.color, alpha=0.2, linewidth=0.5)
        axes.plot(
            columns["iteration"],
            running_mean(accuracy, epoch),
            color=curve.color,
            linewidth=1.2,
            label=None if number else f"training ({epoch}-iteration mean)",
        )
    axes.axhline(100 * test.mean, color=PURPLE, linestyle=(0, (6, 2)), label=f"final test: {test}")
    axes.set(xlabel="iteration", ylabel="accuracy (%)", ylim=(0, 100), title=title)
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.margins(x=0.01)
    axes.legend(loc="lower right" if test.mean > 0.5 else "upper right")  # avoids the curves
    save(figure, out, f"{curve.question}_{curve.name}")


def comparison(
    out: Path,
    figure_name: str,
    curves: Sequence[Curve],
    lowest: int,
    xlabel: str = "question",
    unaugmented: dict[str, list[float]] | None = None,
) -> None:
    """Compare the experiments that have finished runs.

    Left: the running mean of training accuracy, averaged over seeds, with a band from the lowest to the
    highest seed. Right: each seed's final accuracies. `unaugmented` maps an experiment's name to its accuracies on
    unaugmented training images. The axis starts at `lowest` percent.
    """
    drawn = [curve for curve in curves if final_accuracies(curve.log(out))]
    figure, (courses, ends) = plt.subplots(1, 2, width_ratios=(3, 2), sharey=True, figsize=(FULL_WIDTH, 1.9))
    epoch = epoch_of(out)
    for position, curve in enumerate(drawn):
        seeds = list(read_log(curve.log(out)).values())
        training = np.stack([100 * columns["train_accuracy"] for columns in seeds])
        means = np.stack([running_mean(accuracy, epoch) for accuracy in training])
        test = 100 * np.array(final_accuracies(curve.log(out)))
        label = f"{curve.question} {curve.label}"
        courses.plot(seeds[0]["iteration"], means.mean(0), **curve.style, linewidth=1.4, label=label)
        band = {"color": curve.color, "alpha": 0.2, "linewidth": 0}
        courses.fill_between(seeds[0]["iteration"], means.min(0), means.max(0), **band)
        last_epoch = training[:, -epoch:].mean(1)
        shown = [("o", curve.color, test, 0.0), ("^", "none", last_epoch, -0.22)]
        if unaugmented and curve.name in unaugmented:
            shown.append(("s", "none", 100 * np.array(unaugmented[curve.name]), 0.22))
        for marker, face, values, aside in shown:  # beside one another, so that none hides another
            places = np.full(len(values), position + aside)
            ends.plot(places, values, marker, color=curve.color, markerfacecolor=face, alpha=0.6, clip_on=False)
        above = min(*test, *last_epoch) < lowest + 15  # no room below
        place = max(*test, *last_epoch) if above else min(*test, *last_epoch)
        if np.ptp(test) < 10:  # a mean of seeds that learn and seeds that fail says little
            ends.annotate(
                f"{test.mean():.1f}", (position, place), (0, 6 if above else -6), textcoords="offset points",
                ha="center", va="bottom" if above else "top", color=curve.color, fontsize=8,
            )  # fmt: skip
    courses.set(xlabel="iteration", ylabel="accuracy (%)", ylim=(lowest, 103), title="training accuracy")
    courses.yaxis.set_major_locator(matplotlib.ticker.MultipleLocator(25 if lowest else 50))
    courses.xaxis.set_major_formatter("{x:,.0f}")
    courses.margins(x=0.01)
    ends.plot([], [], "^", color="gray", markerfacecolor="none", label="training, last epoch")
    if unaugmented:
        ends.plot([], [], "s", color="gray", markerfacecolor="none", label="unaugmented training images")
    ends.plot([], [], "o", color="gray", label="test (number: mean)")
    ends.set(
        xticks=range(len(drawn)), xticklabels=[curve.tick for curve in drawn], xlim=(-0.5, len(drawn) - 0.5),
        xlabel=xlabel, title="final accuracy, each seed",
    )  # fmt: skip
    figure.legend(loc="outside lower center", ncols=4, columnspacing=1)
    save(figure, out, figure_name)
