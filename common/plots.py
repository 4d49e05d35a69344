"""One figure style, and the figures of the report, drawn from logs alone."""

import itertools
from collections.abc import Sequence
from pathlib import Path

import matplotlib
import matplotlib.colors
import matplotlib.ticker

matplotlib.use("Agg")  # files only: no window system needed
import matplotlib.pyplot as plt
import numpy as np

from common.experiment import (
    final_accuracies,
    geometric_mean,
    log_path,
    magnitudes_of,
    mean_and_deviation,
    signals_of,
)
from common.gradients import DEFAULT_FACTOR
from common.options import departures
from common.records import read_log, replacing
from common.unaugmented import accuracies

# An experiment has one colour in every figure, and a line style by which it is told apart in grey.
# The colours are Okabe and Ito's, which the colour-blind can tell apart.
STYLES = {
    "raw": {"color": "#000000", "linestyle": ":"},
    "normalize": {"color": "#D55E00", "linestyle": "--"},
    "flip": {"color": "#009E73", "linestyle": "-."},
    "crop": {"color": "#0072B2", "linestyle": "-"},
    "accuracy": {"color": "#000000", "linestyle": "-"},
    "vanishing": {"color": "#D55E00", "linestyle": "--"},
    "sgd": {"color": "#E69F00", "linestyle": ":"},
    "none": {"color": "#999999", "linestyle": "--"},
    "he": {"color": "#56B4E9", "linestyle": (0, (1, 1))},
    "dirac": {"color": "#009E73", "linestyle": "-."},
    "residual": {"color": "#CC79A7", "linestyle": (0, (5, 1))},
    "scaled": {"color": "#0072B2", "linestyle": (0, (6, 1, 1, 1, 1, 1))},
}
FIRST, LAST = {"color": "#000000", "linestyle": "-"}, {"color": "#0072B2", "linestyle": "--"}  # convolutions
PART1 = {
    "raw": ("1.1", "raw pixels"),
    "normalize": ("1.2", "+ normalised"),
    "flip": ("1.3", "+ random flip"),
    "crop": ("1.4", "+ random crop"),
}

HALF, WIDE = (3.4, 2.0), 6.9  # inches: a figure of half the report's width, and the whole width

plt.rcParams.update(
    {
        "figure.figsize": HALF,
        "figure.constrained_layout.use": True,
        "font.family": "STIXGeneral",  # as in the report
        "mathtext.fontset": "stix",
        "font.size": 9,
        "axes.titlesize": 9,
        "legend.fontsize": 8,
        "axes.grid": True,
        "grid.alpha": 0.3,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "legend.frameon": False,
        "savefig.dpi": 200,
        "pdf.fonttype": 42,
    }
)


def save(figure: plt.Figure, out: Path, name: str, formats: Sequence[str] = ("pdf", "png")) -> None:
    """Write `out/figures/name.pdf` (for the report) and `.png` (for eyes); the same figure, the same bytes."""
    if departures(out):
        figure.suptitle(f"not the report's run: {', '.join(departures(out))}", color="#D55E00")
    for format in formats:
        with replacing(out / "figures" / f"{name}.{format}") as temporary:
            figure.savefig(temporary, format=format, metadata={"CreationDate": None} if format == "pdf" else {})
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
            label=None if number else "training: batches, mean over 100",
        )
    axes.axhline(
        100 * np.mean(accuracies),
        color="#CC79A7",
        linestyle=(0, (6, 2)),
        label=f"test, at the end: {mean_and_deviation(accuracies)}",
    )
    axes.set(xlabel="iteration", ylabel="accuracy (%)", ylim=(0, 100), title=title)
    axes.margins(x=0.01)
    axes.legend(loc="lower right" if np.mean(accuracies) > 0.5 else "upper right")  # where no curve is
    save(figure, out, f"{question}_{name}")


def part1_comparison(out: Path) -> None:
    """The four pre-processings of Part 1 side by side, as far as they have been run."""
    unaugmented = {name: list(seeds.values()) for name, seeds in accuracies(out, "1.4").items()}
    places = {name: (*place, place[0]) for name, place in PART1.items()}
    comparison(out, "1_comparison", places, lowest=40, unaugmented=unaugmented)


def comparison(
    out: Path,
    figure_name: str,
    experiments: dict[str, tuple[str, str, str]],
    lowest: int,
    xlabel: str = "question",
    unaugmented: dict[str, list[float]] | None = None,
) -> None:
    """Experiments side by side, as far as they have been run: `{name: (question, label, short label)}`.

    Left, training accuracy: the running mean's mean over the seeds, and a band from the lowest to the
    highest seed. Right, each seed at the end, and its accuracy (%) on `unaugmented` training images where
    that is known. The accuracy axis begins at `lowest` percent.
    """
    logs = {name: log_path(out, question, name) for name, (question, _, _) in experiments.items()}
    logs = {name: log for name, log in logs.items() if log.exists() and final_accuracies(log)}
    figure, (curves, ends) = plt.subplots(1, 2, width_ratios=(3, 2), sharey=True, figsize=(WIDE, 2.5))
    for position, (name, log) in enumerate(logs.items()):
        seeds = list(read_log(log).values())
        training = np.stack([100 * columns["train_accuracy"] for columns in seeds])
        means = np.apply_along_axis(running_mean, 1, training)
        test = 100 * np.array(final_accuracies(log))
        color, label = STYLES[name]["color"], "{} {}".format(*experiments[name])
        curves.plot(seeds[0]["iteration"], means.mean(0), **STYLES[name], linewidth=1.4, label=label)
        curves.fill_between(seeds[0]["iteration"], means.min(0), means.max(0), color=color, alpha=0.2, linewidth=0)
        last_epoch = training[:, -100:].mean(1)
        shown = [("o", color, test), ("^", "none", last_epoch)]
        if unaugmented and name in unaugmented:
            shown.append(("s", "none", unaugmented[name]))
        for marker, face, values in shown:
            places = np.full(len(values), position)
            ends.plot(places, values, marker, color=color, markerfacecolor=face, alpha=0.6, clip_on=False)
        below = min(test.min(), last_epoch.min())
        above = below < lowest + 15  # no room below
        ends.annotate(
            f"{test.mean():.1f}", (position, below), (0, 6 if above else -6), textcoords="offset points",
            ha="center", va="bottom" if above else "top", color=color, fontsize=8,
        )  # fmt: skip
    curves.set(xlabel="iteration", ylabel="accuracy (%)", ylim=(lowest, 100), title="training accuracy")
    curves.margins(x=0.01)
    ends.plot([], [], "^", color="grey", markerfacecolor="none", label="training, last epoch")
    if unaugmented:
        ends.plot([], [], "s", color="grey", markerfacecolor="none", label="training images as they are")
    ends.plot([], [], "o", color="grey", label="test, with its mean")
    ends.set(
        xticks=range(len(logs)), xticklabels=[experiments[name][2] for name in logs], xlim=(-0.5, len(logs) - 0.5),
        xlabel=xlabel, title="at the end, each seed",
    )  # fmt: skip
    figure.legend(loc="outside lower center", ncols=3)
    save(figure, out, figure_name)


def medians(magnitudes: np.ndarray, bins: int = 200) -> tuple[np.ndarray, np.ndarray]:
    """Median of G over seeds and over each 1/`bins` of the iterations: the bins' edges, and `(convolutions, bins)`."""
    edges = np.linspace(0, magnitudes.shape[-1], min(bins, magnitudes.shape[-1]) + 1).round().astype(int)
    cells = [np.median(magnitudes[..., first:last], axis=(0, 2)) for first, last in itertools.pairwise(edges)]
    return edges, above_zero(np.stack(cells, axis=1))


def above_zero(values: np.ndarray) -> np.ndarray:
    """NaN, which matplotlib leaves out, for what has no place on a logarithmic axis."""
    return np.where(values > 0, values, np.nan)


def gradient_curves(out: Path, question: str, logs: dict[str, Path]) -> None:
    """G of the first and the last convolution over iterations, as 2.2 and 2.3 ask for it; a panel for each of `logs`.

    The keys are titles. Faint: each seed at each iteration. Strong: `medians`. Where G is 0, there is no line.
    """
    size = HALF if len(logs) == 1 else (WIDE, 2.3)
    figure, panels = plt.subplots(1, len(logs), figsize=size, sharex=True, sharey=True, squeeze=False)
    for axes, (title, log) in zip(panels.flat, logs.items()):
        magnitudes = magnitudes_of(log)
        edges, values = medians(magnitudes)
        iterations = np.arange(1, magnitudes.shape[-1] + 1)
        for layer, label, style in [(0, "first convolution", FIRST), (-1, "last convolution", LAST)]:
            for seed in magnitudes[:, layer]:
                axes.plot(iterations, above_zero(seed), color=style["color"], alpha=0.3, linewidth=0.4)
            axes.plot((edges[:-1] + edges[1:] + 1) / 2, values[layer], **style, label=label)
        axes.set(yscale="log", xlabel="iteration", title=f"{title} (n = {len(magnitudes)})")
        axes.margins(x=0.01)
    panels[0, 0].set(ylabel=r"$G = \max_i\,|\partial L/\partial w_i|$")
    figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=2)
    save(figure, out, f"{question}_gradients")


def heat_map(out: Path, question: str, log: Path, title: str) -> None:
    """G of every convolution at every iteration (`medians`)."""
    edges, values = medians(magnitudes_of(log))
    figure, axes = plt.subplots()
    layers = np.arange(len(values) + 1) + 0.5
    mesh = axes.pcolormesh(edges, layers, values, norm=matplotlib.colors.LogNorm(), cmap="viridis", rasterized=True)
    axes.set_facecolor("#BBBBBB")
    axes.grid(False)
    axes.set(xlabel="iteration", ylabel="convolution, first to last", title=title)
    axes.yaxis.set_major_locator(matplotlib.ticker.MaxNLocator(integer=True))
    axes.invert_yaxis()  # the image enters at the top
    figure.colorbar(mesh, label=r"$G$ (grey: exactly 0)" if np.isnan(values).any() else r"$G$")
    save(figure, out, f"{question}_heatmap")


def signals(out: Path, question: str, labels: dict[str, str], theory: tuple[str, int] | None = None) -> None:
    """What is left of a gradient, and of the difference between images, after each convolution of new networks.

    Lines are geometric means over the initialisations, bands reach from the lowest to the highest.
    `theory` is a network and its number of added layers, for which to draw what theory says of these.
    """
    table = log_path(out, question, "signals")
    figure, (backward, forward) = plt.subplots(1, 2, figsize=(WIDE, 2.7))
    figure.get_layout_engine().set(wspace=0.06)
    for name, label in labels.items():
        depth = signals_of(table, name, "convolution")[0]
        for axes, column in (backward, "gradient"), (forward, "image_variance"):
            values = signals_of(table, name, column)
            axes.plot(depth, geometric_mean(values, axis=0), **STYLES[name], marker=".", markersize=4, label=label)
            axes.fill_between(depth, values.min(0), values.max(0), color=STYLES[name]["color"], alpha=0.2, linewidth=0)
    if theory:
        network, added = theory
        depth = np.arange(added + 1)  # from the first convolution on
        gradient, variance, square = (
            geometric_mean(signals_of(table, network, column), axis=0)
            for column in ("gradient", "image_variance", "mean_square")
        )
        expected = {"color": "black", "linestyle": ":", "label": r"theory: $\sqrt{1/6}$ (right: 1/6) a layer"}
        backward.plot(depth + 1, gradient[added] * DEFAULT_FACTOR ** ((added - depth) / 2), **expected)
        forward.plot(depth + 1, variance[0] * DEFAULT_FACTOR**depth, **expected)
        forward.plot(np.arange(len(square)) + 1, square, color="grey", label="mean square, all in all")
    for axes in (backward, forward):
        axes.set(yscale="log", xlabel="convolution, first to last")
        axes.xaxis.set_major_locator(matplotlib.ticker.MaxNLocator(integer=True))
    figure.legend(*forward.get_legend_handles_labels(), loc="outside lower center", ncols=3)
    backward.set(title="backward: gradient of the output", ylabel=r"root mean square of $\partial L/\partial z$")
    forward.set(title="forward: output after ReLU", ylabel="variance between images")
    save(figure, out, f"{question}_signals")


def depths(out: Path, logs: dict[str, dict[int, Path]]) -> None:
    """Test accuracy, and G of the first convolution at the first step, against the number of added layers.

    Of two kinds of network, by label: a point for each seed.
    """
    figure, (accuracy, gradient) = plt.subplots(1, 2, figsize=(WIDE, 2.2))
    accuracy.axhline(10, color="black", linestyle=":", label="chance")
    for (label, kind), marker, name in zip(logs.items(), "os", ("vanishing", "accuracy")):
        style = {"color": STYLES[name]["color"], "marker": marker, "linestyle": "none", "alpha": 0.6}
        accuracy.plot([], [], **style, label=label)
        for added, log in kind.items():
            values, starts = 100 * np.array(final_accuracies(log)), magnitudes_of(log)[:, 0, 0]
            accuracy.plot([added] * len(values), values, **style)
            gradient.plot([added] * len(starts), starts, **style)
    accuracy.set(ylim=(0, 100), ylabel="test accuracy (%)", title="accuracy")
    gradient.set(yscale="log", ylabel=r"$G$", title="first convolution, first step")
    for axes in (accuracy, gradient):
        axes.set(xlabel="added convolutions", xticks=sorted({added for kind in logs.values() for added in kind}))
    figure.legend(loc="outside lower center", ncols=3)
    save(figure, out, "2.3_depth")
