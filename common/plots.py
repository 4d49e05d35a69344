"""One figure style, and the figures of the report, drawn from logs alone."""

from pathlib import Path

import matplotlib

matplotlib.use("Agg")  # files only: no window system needed
import matplotlib.pyplot as plt
import numpy as np

from common.experiment import final_accuracies, log_path, mean_and_deviation
from common.options import departures
from common.records import read_log, replacing

# An experiment has one colour in every figure, and a line style by which it is told apart in grey.
# The colours are Okabe and Ito's, which the colour-blind can tell apart.
STYLES = {
    "raw": {"color": "#000000", "linestyle": ":"},
    "normalize": {"color": "#D55E00", "linestyle": "--"},
    "flip": {"color": "#009E73", "linestyle": "-."},
    "crop": {"color": "#0072B2", "linestyle": "-"},
}
PART1 = {
    "raw": ("1.1", "raw pixels"),
    "normalize": ("1.2", "+ normalised"),
    "flip": ("1.3", "+ random flip"),
    "crop": ("1.4", "+ random crop"),
}

plt.rcParams.update(
    {
        "figure.figsize": (6.4, 3.6),
        "figure.constrained_layout.use": True,
        "font.size": 9,
        "axes.grid": True,
        "grid.alpha": 0.3,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "legend.frameon": False,
        "savefig.dpi": 160,
        "pdf.fonttype": 42,
    }
)


def save(figure: plt.Figure, out: Path, name: str) -> None:
    """Write `out/figures/name.pdf` (for the report) and `.png` (for eyes); the same figure, the same bytes."""
    if departures(out):
        figure.suptitle(f"not the report's run: {', '.join(departures(out))}", color="#D55E00")
    for suffix, metadata in [(".pdf", {"CreationDate": None}), (".png", {})]:
        with replacing(out / "figures" / f"{name}{suffix}") as temporary:
            figure.savefig(temporary, format=suffix[1:], metadata=metadata)
    plt.close(figure)
    print(f"drew {out / 'figures' / name}.png")


def running_mean(values: np.ndarray, window: int = 100) -> np.ndarray:
    """Mean over the `window` values around each (an epoch, in the assignment's budget); fewer at the ends."""
    sums = np.concatenate([[0], np.cumsum(values)])
    index = np.arange(len(values))
    half = np.minimum(index, window // 2)  # at the steep start as many before as after
    first, last = index - half, np.minimum(index + half + 1, len(values))
    return (sums[last] - sums[first]) / (last - first)


def accuracy_curves(out: Path, question: str, name: str, title: str) -> None:
    """Training accuracy over iterations of all seeds of one experiment, and its final test accuracy."""
    log = log_path(out, question, name)
    style, accuracies = STYLES[name], final_accuracies(log)
    figure, axes = plt.subplots()
    for number, columns in enumerate(read_log(log).values()):
        accuracy = 100 * columns["train_accuracy"]
        axes.plot(columns["iteration"], accuracy, color=style["color"], alpha=0.2, linewidth=0.5)
        axes.plot(
            columns["iteration"],
            running_mean(accuracy),
            color=style["color"],
            linewidth=1.2,
            label=None if number else "training accuracy: batches (faint), mean over 100 (strong)",
        )
    axes.axhline(
        100 * np.mean(accuracies),
        color="#CC79A7",
        linestyle=(0, (6, 2)),
        label=f"test accuracy after the last iteration: {mean_and_deviation(accuracies)}",
    )
    axes.set(xlabel="iteration", ylabel="accuracy (%)", ylim=(0, 100), title=title)
    axes.margins(x=0.01)
    axes.legend(loc="lower right")
    save(figure, out, f"{question}_{name}")


def part1_comparison(out: Path) -> None:
    """The four pre-processings of Part 1 side by side, as far as they have been run.

    Left, training accuracy: the running mean's mean over the seeds, and a band from the lowest to the
    highest seed. Right, each seed at the end.
    """
    logs = {name: log_path(out, question, name) for name, (question, _) in PART1.items()}
    logs = {name: log for name, log in logs.items() if log.exists() and final_accuracies(log)}
    figure, (curves, ends) = plt.subplots(1, 2, width_ratios=(3, 2), sharey=True, figsize=(7.2, 3.8))
    for position, (name, log) in enumerate(logs.items()):
        seeds = list(read_log(log).values())
        training = np.stack([100 * columns["train_accuracy"] for columns in seeds])
        means = np.apply_along_axis(running_mean, 1, training)
        test = 100 * np.array(final_accuracies(log))
        color, label = STYLES[name]["color"], "{} {}".format(*PART1[name])
        curves.plot(seeds[0]["iteration"], means.mean(0), **STYLES[name], linewidth=1.4, label=label)
        curves.fill_between(seeds[0]["iteration"], means.min(0), means.max(0), color=color, alpha=0.2, linewidth=0)
        for marker, face, values in [("o", color, test), ("^", "none", training[:, -100:].mean(1))]:
            places = np.full(len(values), position)
            ends.plot(places, values, marker, color=color, markerfacecolor=face, alpha=0.6, clip_on=False)
        ends.annotate(
            f"{test.mean():.1f}", (position, test.mean()), (7, 0), textcoords="offset points", va="center", color=color
        )
    curves.set(xlabel="iteration", ylabel="accuracy (%)", ylim=(20, 100), title="training accuracy")
    curves.margins(x=0.01)
    curves.legend(loc="lower right")
    ends.plot([], [], "^", color="grey", markerfacecolor="none", label="training, last epoch")
    ends.plot([], [], "o", color="grey", label="test (mean beside it)")
    ends.set(
        xticks=range(len(logs)), xticklabels=[PART1[name][0] for name in logs], xlim=(-0.5, 3.7),
        xlabel="question", title="at the end, each seed",
    )  # fmt: skip
    ends.legend(loc="lower left")
    save(figure, out, "1_comparison")
