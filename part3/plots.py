"""The figures of Part 3: images, perturbations, and how networks classify them."""

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

from common.data import CLASSES
from common.plots import BLACK, BLUE, FULL_WIDTH, GREEN, VERMILION, save
from common.records import RecordError
from common.results import read_rows

AMPLIFIED = 8  # the factor by which perturbations are shown


def pair_names(row: dict) -> tuple[str, str]:
    """File names of an original (test index, category) and its adversarial image (also the wrong category)."""
    true, wrong = (CLASSES[row[name]] for name in ("category", "category_after"))
    return f"{row['index']:04d}_{true}.png", f"{row['index']:04d}_{true}_as_{wrong}.png"


def read_pairs(out: Path, table: Path) -> list[tuple[dict, np.ndarray, np.ndarray]]:
    """Rows of the table with original and adversarial image, `(32, 32, 3)` in 0..1."""
    folder = out / "figures" / "adversarial"
    return [(row, *(read_image(folder / name) for name in pair_names(row))) for row in read_rows(table)]


def read_image(path: Path) -> np.ndarray:
    """An image as it was saved; raises `RecordError` if it is missing or damaged."""
    try:
        image = plt.imread(path)
    except (OSError, SyntaxError, ValueError):  # from matplotlib's reader
        image = None
    if image is None or image.shape != (32, 32, 3):
        raise RecordError(f"{path} is missing or damaged: `python part3/adversarial.py` restores it")
    return image


def attacked_rows(table: Path) -> list[dict]:
    """The rows of an attack on all test images that were classified correctly before."""
    return [row for row in read_rows(table) if row["category_before"] == row["category"]]


def show(axes: plt.Axes, image: np.ndarray, title: str) -> None:
    axes.imshow(image, interpolation="nearest")
    axes.set_title(title, fontsize=8, pad=2)


def pairs(out: Path, table: Path) -> None:
    """Each original next to its adversarial image, with the network's category and confidence.

    All of them for the report, and four for the README.
    """
    shown = read_pairs(out, table)
    save(side_by_side(shown), out, "3.1_adversarial")
    save(side_by_side(shown[::5]), out, "3.1_four", formats=["png"])


def side_by_side(shown: list[tuple[dict, np.ndarray, np.ndarray]]) -> plt.Figure:
    lines = -(-len(shown) // 4)  # rounded up
    # Every third column is a gap between pairs.
    figure, grid = plt.subplots(
        lines, 12, figsize=(FULL_WIDTH, 1.15 * lines), squeeze=False, width_ratios=4 * [1, 1, 0.2]
    )
    figure.get_layout_engine().set(w_pad=0.01, h_pad=0.03, wspace=0, hspace=0)  # inches
    figure.suptitle("each pair: original (left), adversarial image (right)", fontsize=8)
    for axes in grid.flat:
        axes.set_axis_off()
    for (row, *images), cells in zip(shown, grid.reshape(-1, 3)):
        for when, image, axes in zip(("before", "after"), images, cells):
            category, confidence = CLASSES[row[f"category_{when}"]], row[f"confidence_{when}"]
            show(axes, image, f"{category}\n{100 * confidence:.1f} %")
    return figure


def perturbations(out: Path, table: Path) -> None:
    """Each image's perturbation, amplified around gray."""
    figure, grid = plt.subplots(2, 10, figsize=(FULL_WIDTH, 1.85))
    figure.get_layout_engine().set(w_pad=0.02, h_pad=0.02, wspace=0, hspace=0)  # inches
    for axes in grid.flat:
        axes.set_axis_off()
    for (row, original, adversarial), axes in zip(read_pairs(out, table), grid.T.flat):
        title = f"{CLASSES[row['category']]}\n$L_\\infty$ = {row['linf']:.0f}"
        show(axes, amplified(original, adversarial), title)
    save(figure, out, "3.1_perturbations")


def amplified(original: np.ndarray, adversarial: np.ndarray) -> np.ndarray:
    return (0.5 + AMPLIFIED * (adversarial - original)).clip(0, 1)


def enlarged(out: Path, table: Path) -> None:
    """The second image shown and that with the largest change: original, change and adversarial image."""
    shown = read_pairs(out, table)
    largest = max(shown, key=lambda pair: pair[0]["linf"])
    figure, grid = plt.subplots(2, 3, figsize=(5.2, 3.9))
    for (row, original, adversarial), line in zip((shown[1], largest), grid):
        before, after = (CLASSES[row[f"category_{when}"]] for when in ("before", "after"))
        show(line[0], original, f"{before}, {100 * row['confidence_before']:.1f} %")
        show(line[1], amplified(original, adversarial), f"change × {AMPLIFIED}, $L_\\infty$ = {row['linf']:.0f}")
        show(line[2], adversarial, f"{after}, {100 * row['confidence_after']:.1f} %")
    for axes in grid.flat:
        axes.set_axis_off()
    save(figure, out, "3.1_enlarged")


def attack_distributions(out: Path, table: Path) -> None:
    """The largest pixel change, over all test images that were classified correctly."""
    values = np.array([row["linf"] for row in attacked_rows(table)])
    figure, axes = plt.subplots()
    bins = np.arange(np.floor(values.min()), np.percentile(values, 99.5) + 2) - 0.5
    axes.hist(values.clip(max=bins[-2]), bins, color=BLUE)
    median = np.median(values)
    text = f"median {median:.0f}, maximum {values.max():.0f}"
    axes.axvline(median, color=VERMILION, linestyle="--", label=text)
    axes.set(xlabel=r"$L_\infty$ distance (levels; last bar: and above)", ylabel="number of images")
    axes.legend()
    save(figure, out, "3.1_distributions")


def category_percentages(table: Path) -> np.ndarray:
    """How often each category becomes each other one, in percent of its correctly classified test images."""
    counts = np.zeros((10, 10))
    for row in attacked_rows(table):
        counts[row["category"], row["category_after"]] += 1
    return 100 * counts / counts.sum(1, keepdims=True).clip(min=1)


def category_matrix(out: Path, table: Path) -> None:
    """`category_percentages` as a figure."""
    figure, axes = plt.subplots(figsize=(2.9, 2.6))
    heat_table(axes, category_percentages(table), CLASSES, CLASSES)
    axes.tick_params(labelsize=8)
    axes.set_xlabel("predicted category", fontsize=8)
    axes.set_ylabel("true category", fontsize=8)
    save(figure, out, "3.1_categories")


def heat_table(
    axes: plt.Axes, percent: np.ndarray, columns: list[str], rows: list[str], darkest: float | None = None
) -> None:
    """A matrix of percentages as colors (the darkest for the maximum, unless given) and numbers."""
    darkest = darkest or percent.max()
    axes.imshow(percent, cmap="Blues", vmin=0, vmax=darkest)
    axes.grid(False)
    if max(map(len, columns)) > 5:
        axes.set_xticks(range(len(columns)), columns, rotation=45, ha="right")
    else:
        axes.set_xticks(range(len(columns)), columns)
    axes.set_yticks(range(len(rows)), rows)
    for (row, column), value in np.ndenumerate(percent):
        color = "white" if value > darkest / 2 else "black"
        axes.text(column, row, f"{value:.0f}", ha="center", va="center", color=color, fontsize=8)


def step_sizes(out: Path, table: Path) -> None:
    """Success, iterations and distances against the size of a step ε."""
    rows = read_rows(table)
    columns = {name: np.array([row[name] for row in rows]) for name in rows[0]}
    figure, (success, iterations, distance) = plt.subplots(1, 3, figsize=(FULL_WIDTH, 2.2))
    success.plot(columns["epsilon"], 100 * columns["succeeded"], "o-", color=BLUE, label="as computed")
    success.plot(
        columns["epsilon"], 100 * columns["succeeded_rounded"], "^--", color=VERMILION, label="rounded to 8 bits"
    )
    success.set(ylabel="successful attacks (%)")
    iterations.plot(columns["epsilon"], columns["iterations_mean"], "o-", color=BLUE, label="mean")
    iterations.plot(columns["epsilon"], columns["iterations_max"], "^--", color=VERMILION, label="maximum")
    iterations.set(yscale="log", ylabel="steps")
    iterations.set_yticks(ticks := [2, 5, 10, 20, 50], ticks)
    iterations.minorticks_off()
    distance.plot(columns["epsilon"], columns["linf_median"], "o-", color=BLUE, label=r"$L_\infty$")
    distance.plot(columns["epsilon"], columns["l2_median"], "^--", color=VERMILION, label=r"$L_2$")
    distance.set(yscale="log", ylabel="median distance (levels)")
    for axes in (success, iterations, distance):
        axes.set_xscale("log", base=2)
        axes.set_xticks(columns["epsilon"], [f"{epsilon:g}" for epsilon in columns["epsilon"]])
        axes.set(xlabel=r"step size $\epsilon$ (levels)")
        axes.legend()
    save(figure, out, "3.1_epsilon")


def spectra(out: Path, table: Path) -> None:
    """Power of an attack's perturbation at each spatial frequency, compared with natural images and random signs."""
    rows = read_rows(table)[1:]  # without frequency 0, the mean
    figure, axes = plt.subplots()
    for name, label, color, line in [
        ("natural", "natural images", BLACK, ":"),
        ("change", "perturbation", VERMILION, "-"),
        ("random", "with random signs", GREEN, "--"),
    ]:
        axes.plot(
            [row["frequency"] for row in rows], [row[name] for row in rows], color=color, linestyle=line, label=label
        )
    axes.set(yscale="log", xlabel="spatial frequency (cycles per image)", ylabel="power (levels²)")
    axes.legend()
    save(figure, out, "3.1_spectrum")


def transfer_accuracies(out: Path, table: Path, epsilon_table: Path, victim: str) -> None:
    """Accuracy of the network `victim` on originals, random signs and adversarial images, and against the step ε."""
    figure, (groups, steps) = plt.subplots(1, 2, figsize=(FULL_WIDTH, 1.75), sharey=True, width_ratios=(2, 3))
    styles = {
        "original": {"color": BLACK, "marker": "s", "linestyle": ":", "label": "original"},
        "random signs": {"color": GREEN, "marker": "^", "linestyle": "--", "label": "random signs"},
        "another's change": {"color": BLUE, "marker": "v", "linestyle": "-.", "label": "another image's perturbation"},
        "adversarial": {"color": VERMILION, "marker": "o", "linestyle": "-", "label": "adversarial"},
    }
    rows = [row for row in read_rows(table) if row["victim"] == victim]
    numbers = list(dict.fromkeys(row["number"] for row in rows))
    for row in rows:
        accuracy, low, high = (100 * row[name] for name in ("accuracy", "low", "high"))
        place = numbers.index(row["number"]) + 0.2 * (list(styles).index(row["inputs"]) - 1.5)
        style = styles[row["inputs"]]
        reach = [[accuracy - low], [high - accuracy]]
        groups.errorbar(place, accuracy, reach, color=style["color"], marker=style["marker"], capsize=3)
        groups.annotate(
            f"{accuracy:.0f}", (place, accuracy), (4, 6), textcoords="offset points", va="center", fontsize=8
        )
    groups.set(
        title=r"$\epsilon$ = 1", xticks=range(len(numbers)), xticklabels=[f"{number:,} images" for number in numbers],
        xlim=(-0.5, len(numbers) - 0.5), ylim=(-4, 118), yticks=(0, 50, 100), ylabel="accuracy (%)",
    )  # fmt: skip
    rows = read_rows(epsilon_table)
    for inputs, style in styles.items():
        points = [(row["epsilon"], 100 * row["accuracy"]) for row in rows if row["inputs"] == inputs]
        steps.plot(*zip(*points), **style, markersize=4)
    steps.set_xscale("log", base=2)
    ticks = sorted({row["epsilon"] for row in rows})
    steps.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    steps.set(title=r"effect of $\epsilon$", xlabel=r"step size $\epsilon$ (levels)")
    figure.legend(loc="outside lower center", ncols=len(styles))
    save(figure, out, "3.2_transfer")


def source_and_victim(out: Path, table: Path) -> None:
    """Accuracy of each network on images crafted on each network; one panel per attack."""
    rows = read_rows(table)
    attacks, sources, victims = (
        list(dict.fromkeys(row[name] for row in rows)) for name in ("attack", "source", "victim")
    )
    accuracies = np.array([100 * row["accuracy"] for row in rows]).reshape(len(attacks), len(sources), -1)
    changes = {(row["attack"], row["source"]): row["linf_median"] for row in rows}
    figure, panels = plt.subplots(1, len(attacks), figsize=(2.1 * len(attacks), 2.1))
    for attack, accuracy, axes in zip(attacks, accuracies, panels):
        names = [f"{source}\n$L_\\infty$ = {changes[attack, source]:.0f}" for source in sources]
        heat_table(axes, accuracy, victims, names, darkest=100)
        axes.set(title=attack)
    panels[0].set(ylabel="source")
    figure.supxlabel("target (cells: its accuracy in %)", fontsize=9)
    save(figure, out, "3.2_matrix")


def causes_of_transfer(out: Path, table: Path, causes: dict[str, str], floors: tuple[str, ...]) -> None:
    """Share of images that fool another network, against each of `causes`; one point per pair of networks.

    `causes` maps columns of the table to labels; `floors` are sources that are not in the correlations.
    """
    rows = read_rows(table)
    figure, panels = plt.subplots(1, len(causes), figsize=(FULL_WIDTH, 2.4), sharey=True)
    compared = [row for row in rows if row["source"] not in floors]
    of_part_1 = [row for row in compared if max(row["source"], row["victim"]) < "2"]
    kinds = {
        "both networks from Part 1": (BLUE, "o", of_part_1),
        "at least one from Part 2": (VERMILION, "^", [row for row in compared if row not in of_part_1]),
        "other sources (not in correlation)": (BLACK, "x", [row for row in rows if row["source"] in floors]),
    }
    for axes, (column, label) in zip(panels, causes.items()):
        unit = 100 if column == "source_accuracy" else 1  # in percent
        for kind, (color, marker, chosen) in kinds.items():
            fooled = [100 - 100 * row["accuracy"] for row in chosen]
            axes.plot([unit * row[column] for row in chosen], fooled, marker, color=color, alpha=0.6, label=kind)
        axes.set(xlabel=label, xscale="log" if column == "levels" else "linear")
        if column == "levels":  # the axis ends soon after the compared pairs
            axes.set_xlim(right=5 * max(row[column] for row in compared))
            axes.set_xticks([3, 10, 30], ["3", "10", "30"])
            axes.minorticks_off()
    panels[0].set(ylabel="fooled (%)")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    save(figure, out, "3.2_causes")
