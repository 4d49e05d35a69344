"""The figures of Part 2: gradients over training, signals through new networks, accuracy against depth."""

import itertools
from pathlib import Path

import matplotlib.colors
import matplotlib.pyplot as plt
import matplotlib.ticker
import numpy as np
from matplotlib.animation import FuncAnimation, PillowWriter

from common.plots import BLACK, FULL_WIDTH, VERMILION, Curve, save
from common.records import replacing
from common.results import final_accuracies, log_path, read_rows
from part2.signals import DEFAULT_FACTOR, column, geometric_mean, magnitudes_of

FIRST, LAST = {"color": BLACK, "linestyle": "-"}, {"color": VERMILION, "linestyle": (0, (4, 2))}  # convolutions


def medians(magnitudes: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """The median of G over seeds and the iterations between two `edges` (counted from 0), `(convolutions, bins)`."""
    cells = [np.median(magnitudes[..., first:last], axis=(0, 2)) for first, last in itertools.pairwise(edges)]
    return above_zero(np.stack(cells, axis=1))


def above_zero(values: np.ndarray) -> np.ndarray:
    """Replace values that are not positive by NaN, which matplotlib omits."""
    return np.where(values > 0, values, np.nan)


def gradient_curves(out: Path, question: str, logs: dict[str, Path]) -> None:
    """G of the first and the last convolution over iterations, as 2.2 and 2.3 ask; one panel for each of `logs`.

    The keys are titles. Pale lines: each seed at each iteration. Strong lines: medians over seeds and intervals that
    are equally long on the logarithmic axis. If G becomes 0, which such an axis cannot show, a strip for each
    convolution shows the share of seeds for which it is 0.
    """
    size = plt.rcParams["figure.figsize"] if len(logs) == 1 else (FULL_WIDTH, 2.3)
    figure, panels = plt.subplots(1, len(logs), figsize=size, sharex=True, sharey=True, squeeze=False)
    magnitudes = {title: magnitudes_of(log)[:, [0, -1]] for title, log in logs.items()}
    # Exponents of ten. A strip is a seventh as high as the range of G.
    positive = np.log10(np.concatenate([values[values > 0] for values in magnitudes.values()]))
    top, bottom = positive.max(), positive.min()
    strip = (top - bottom) / 7 if any((values == 0).any() for values in magnitudes.values()) else 0.0
    for axes, (title, values) in zip(panels.flat, magnitudes.items()):
        count = values.shape[-1]
        edges = np.unique(np.geomspace(1, count + 1, 120).round().astype(int)) - 1
        for layer, (label, style) in enumerate([("first convolution", FIRST), ("last convolution", LAST)]):
            for seed in values[:, layer]:
                axes.plot(1 + np.arange(count), above_zero(seed), color=style["color"], alpha=0.3, linewidth=0.4)
            (middle,) = medians(values[:, [layer]], edges)
            axes.plot(np.sqrt((edges[:-1] + 1) * edges[1:]), middle, **style, label=label)
            if strip:
                place = 10 ** (bottom - strip * (layer + np.array([1.3, 0.4])))
                shades = matplotlib.colors.LinearSegmentedColormap.from_list(label, ["#EEEEEE", style["color"]])
                zero = (values[:, layer] == 0).mean(0, keepdims=True)
                steps = np.arange(count + 1) + 0.5
                axes.pcolormesh(steps, place, zero, cmap=shades, vmin=0, vmax=1, rasterized=True)
        axes.set(xscale="log", yscale="log", xlabel="iteration", title=f"{title} (n = {len(values)})")
        axes.set(xlim=(0.95, 1.05 * count))
        axes.xaxis.set_major_formatter("{x:,.0f}")
        axes.yaxis.set_major_locator(matplotlib.ticker.LogLocator(numticks=9))
        if strip:
            axes.set(ylim=(10 ** (bottom - 2.5 * strip), 10 ** (top + strip)))
            axes.set_yticks([10.0**power for power in range(-60, 6, 6) if bottom <= power <= top + strip])
    panels[0, 0].set(ylabel="$G$")
    if strip:
        place = panels[0, 0].get_yaxis_transform()
        for layer, text in enumerate(("$G$ = 0: first", "last")):
            height = 10 ** (bottom - strip * (0.85 + layer))
            panels[0, 0].text(-0.02, height, text, transform=place, ha="right", va="center", fontsize=8)
    figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=2)
    save(figure, out, f"{question}_gradients")


def heat_map(out: Path, question: str, log: Path, title: str) -> None:
    """G of every convolution over iterations: medians over seeds and each 1/200 of the iterations."""
    magnitudes = magnitudes_of(log)
    edges = np.linspace(0, magnitudes.shape[-1], min(200, magnitudes.shape[-1]) + 1).round().astype(int)
    values = medians(magnitudes, edges)
    figure, axes = plt.subplots()
    layers = np.arange(len(values) + 1) + 0.5
    mesh = axes.pcolormesh(edges, layers, values, norm=matplotlib.colors.LogNorm(), cmap="viridis", rasterized=True)
    axes.set_facecolor("#BBBBBB")
    axes.grid(False)
    axes.set(xlabel="iteration", ylabel="convolution", title=title)
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.yaxis.set_major_locator(matplotlib.ticker.MaxNLocator(integer=True))
    axes.invert_yaxis()  # the image enters at the top
    figure.colorbar(mesh, label=r"$G$ (gray: exactly 0)" if np.isnan(values).any() else r"$G$")
    save(figure, out, f"{question}_heatmap")


def signal_curves(
    out: Path, question: str, curves: dict[str, Curve], theory: dict[str, np.ndarray] | None = None
) -> None:
    """The gradient, and the difference between images, after each convolution of new networks.

    `curves` are keyed by the network's name in the table. Lines are geometric means over the initializations, and
    bands reach from the lowest to the highest. `theory` is the predicted gradient, by the network's name, relative to
    that of the last convolution in it. For its first network, the predicted difference between images is drawn as well.
    """
    table = log_path(out, question, "signals")
    figure, (backward, forward) = plt.subplots(1, 2, figsize=(FULL_WIDTH, 2.05))
    figure.get_layout_engine().set(wspace=0.06)
    for network, curve in curves.items():
        depth = column(table, network, "convolution")[0]
        for axes, name in (backward, "gradient"), (forward, "image_variance"):
            values = column(table, network, name)
            axes.plot(depth, geometric_mean(values, axis=0), **curve.style, marker=".", markersize=4, label=curve.label)
            axes.fill_between(depth, values.min(0), values.max(0), color=curve.color, alpha=0.2, linewidth=0)
    expected = {"color": "black", "linestyle": ":", "label": "theory"}
    for number, (network, factors) in enumerate((theory or {}).items()):
        gradient, variance, square = (
            geometric_mean(column(table, network, name), axis=0)
            for name in ("gradient", "image_variance", "mean_square")
        )
        depth = np.arange(len(factors))
        backward.plot(depth + 1, gradient[depth[-1]] * factors, **expected)
        if number == 0:
            forward.plot(depth + 1, variance[0] * DEFAULT_FACTOR**depth, **expected)
            forward.plot(depth + 1, square, color="gray", label="mean square, default")
    for axes in (backward, forward):
        axes.set(yscale="log", xlabel="convolution")
        axes.xaxis.set_major_locator(matplotlib.ticker.MaxNLocator(integer=True))
    figure.legend(*forward.get_legend_handles_labels(), loc="outside lower center", ncols=3)
    backward.set(title="backward: gradient of the output", ylabel=r"RMS of $\partial\mathcal{L}/\partial z$")
    forward.set(title="forward: variance between images", ylabel="variance")
    save(figure, out, f"{question}_signals")


WATCHED_SIGNALS = {
    "live (%)": lambda row: 100 * row["live"],
    "RMS of\noutput": lambda row: row["mean_square"] ** 0.5,
    "RMS of\ndifferences": lambda row: row["image_variance"] ** 0.5,
    "RMS of\ngradient": lambda row: row["gradient"],
}


def course(out: Path, question: str, curves: list[Curve]) -> None:
    """Signals after each convolution during training, one column for each experiment that logged them.

    Each line is the median over seeds after a number of iterations. Values of 0 are not drawn.
    """
    rows = read_rows(log_path(out, question, "course"))
    watched = {curve.name: [row for row in rows if row["name"] == curve.name] for curve in curves}
    curves = [curve for curve in curves if watched[curve.name]]
    if not curves:
        return
    size = (FULL_WIDTH, 0.88 * len(WATCHED_SIGNALS) + 0.6)
    figure, panels = plt.subplots(
        len(WATCHED_SIGNALS), len(curves), figsize=size, sharex=True, sharey="row", squeeze=False
    )
    iterations = sorted({row["iteration"] for row in rows})
    colors = plt.get_cmap("turbo")(np.linspace(0.05, 0.95, len(iterations)))
    for across, (label, value) in zip(panels, WATCHED_SIGNALS.items()):
        for axes, curve in zip(across, curves):
            for iteration, color in zip(iterations, colors):
                layers: dict[int, list[float]] = {}
                for row in watched[curve.name]:
                    if row["iteration"] == iteration:
                        layers.setdefault(row["convolution"], []).append(value(row))
                medians_by_layer = np.array([np.median(seeds) for seeds in layers.values()])
                shown = medians_by_layer if "%" in label else above_zero(medians_by_layer)
                axes.plot(list(layers), shown, color=color, label=f"{iteration:,}")
            axes.xaxis.set_major_locator(matplotlib.ticker.MaxNLocator(5, integer=True))
        across[0].set(ylabel=label, yscale="linear" if "%" in label else "log")
    for axes, curve in zip(panels[0], curves):
        axes.set(title=curve.label)
    for axes in panels[-1]:
        axes.set(xlabel="convolution")
    handles = panels[0, 0].get_legend_handles_labels()
    figure.legend(*handles, title="iterations", loc="outside lower center", ncols=len(iterations))
    save(figure, out, f"{question}_course")


def depth_points(out: Path, name: str, kinds: list[tuple[str, str, str, dict[int, Path]]]) -> None:
    """Test accuracy, and G of the first convolution at the first step, against the number of added layers.

    Each of `kinds` is (label, color, marker, logs by number of added layers). Each point is a seed.
    """
    figure, (accuracy, gradient) = plt.subplots(1, 2, figsize=(FULL_WIDTH, 2.2))
    accuracy.axhline(10, color="black", linestyle=":", label="chance")
    for number, (label, color, marker, logs) in enumerate(kinds):
        style = {"color": color, "marker": marker, "linestyle": "none", "alpha": 0.6}
        accuracy.plot([], [], **style, label=label)
        for added, log in logs.items():
            values, starts = 100 * np.array(final_accuracies(log)), magnitudes_of(log)[:, 0, 0]
            place = added + 0.4 * number  # so that none hides another
            accuracy.plot([place] * len(values), values, **style)
            gradient.plot([place] * len(starts), starts, **style)
    accuracy.set(ylim=(0, 100), ylabel="test accuracy (%)", title="accuracy")
    gradient.set(yscale="log", ylabel=r"$G$", title="first convolution, first step")
    ticks = sorted({added for _, _, _, logs in kinds for added in logs})
    for axes in (accuracy, gradient):
        axes.set(xlabel="added convolutions", xticks=ticks)
    figure.legend(loc="outside lower center", ncols=3)
    save(figure, out, name)


def exploration(path: Path, found: dict[str, tuple], title: str) -> None:
    """Draw what part2/explore.py measured on networks, by name; see its `look`."""
    figure = plt.figure(figsize=(FULL_WIDTH, 6.8))
    draw_exploration(figure, found)
    figure.suptitle(title)
    with replacing(path) as temporary:
        figure.savefig(temporary, format=path.suffix[1:])
    plt.close(figure)
    print(f"drew {path}")


def animation(path: Path, frames: list[dict[str, tuple]], iterations: list[int], title: str) -> None:
    """A GIF of explorations after `iterations`; all frames share their axis limits."""
    figure = plt.figure(figsize=(FULL_WIDTH, 6.8), dpi=80)
    limits: list[tuple[float, float]] = []
    for found in frames:
        panels = draw_exploration(figure, found)
        limits = [
            (min(low, limits[number][0]), max(high, limits[number][1])) if len(limits) > number else (low, high)
            for number, (low, high) in enumerate(axes.get_ylim() for axes in panels)
        ]
        figure.clear()

    def draw(number: int) -> None:
        figure.clear()
        for axes, limit in zip(draw_exploration(figure, frames[number]), limits):
            axes.set_ylim(limit)
        figure.suptitle(f"{title}, after {iterations[number]:,} iterations")

    held = [*range(len(frames)), *[len(frames) - 1] * 6]  # pause on the last frame
    content = FuncAnimation(figure, draw, held, init_func=lambda: None)
    with replacing(path) as temporary:
        content.save(temporary.with_suffix(".gif"), writer=PillowWriter(fps=3))
        temporary.with_suffix(".gif").rename(temporary)
    plt.close(figure)
    print(f"drew {path}")


EVERY = 5  # layers per histogram


def draw_exploration(figure: plt.Figure, found: dict[str, tuple]) -> list[plt.Axes]:
    """Four panels over the layers, a line for each network."""
    panels = list(figure.subplots(4, 1, sharex=True))
    columns = [
        ("gradient", "gradient of output (RMS)"),
        ("image_variance", "variance between images"),
        ("live", "live channels (%)"),
    ]
    for number, (name, (rows, received, color, theory)) in enumerate(found.items()):
        layers = [row["convolution"] for row in rows]
        for axes, (key, _) in zip(panels, columns):
            values = np.array([row[key] for row in rows]) * (100 if key == "live" else 1)
            style = {"color": color, "marker": "o", "markersize": 3}
            axes.plot(layers, values if key == "live" else above_zero(values), **style, label=name)
        if theory is not None:
            last = max(received)
            added = [row for row in rows if row["convolution"] <= last]
            expected = added[-1]["gradient"] * theory ** (last - np.array([row["convolution"] for row in added]))
            panels[0].plot([row["convolution"] for row in added], above_zero(expected), color="black", linestyle=":")
        room = EVERY / (len(found) + 0.5)
        shift = room * (number - (len(found) - 1) / 2)
        for layer, values in received.items():
            size = np.sqrt(np.mean(values**2)) or 1.0
            counts, edges = np.histogram(np.clip(values / size, -3, 3), bins=48, range=(-3, 3))
            widths = min(room, 2.0) / 2 * counts / max(counts)
            centers = (edges[:-1] + edges[1:]) / 2
            panels[3].fill_betweenx(centers, layer + shift - widths, layer + shift + widths, color=color, linewidth=0)
    for axes, (key, label) in zip(panels, columns):
        axes.set(ylabel=label, yscale="linear" if key == "live" else "log")
    panels[2].set(ylim=(-5, 105), xticks=[layer for layer in layers if layer % EVERY == 1])
    panels[3].set(ylabel="input of activation / its RMS", xlabel="convolution, first to last", ylim=(-3.2, 3.2))
    panels[3].axhline(0, color="black", linewidth=0.5)
    if any(theory is not None for *_, theory in found.values()):
        panels[0].plot([], [], color="black", linestyle=":", label="theory, added layers")
    panels[0].legend(ncols=len(found) + 1, loc="lower center", bbox_to_anchor=(0.5, 1))
    return panels
