"""Question 3.1: what change makes 1.4's network 99 % sure of a wrong category?

Attacks all test images (part3/attack.py), shows the first two of each category that the network classifies correctly,
and repeats the attack with six step sizes on the first 1,000 correctly classified images. With a step ε of a whole
level, an adversarial image is an 8-bit image, which saving preserves. With half a level it is not, so saved images and
their table are rounded, and the sweep over step sizes reports success before and after rounding.

Predict before you run: what is the median, over images, of the largest pixel change (in levels of 255)?
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np

from common import data, experiment, options, results
from common.data import CLASSES
from common.plots import drawn
from common.records import RecordError, replacing, within
from part3 import plots
from part3.attack import CONFIDENCE, EPSILON, MAX_ITERATIONS, attack, predict
from part3.measures import as_saved, distances, spectrum, sweep, zero_gradients
from part3.networks import network_on_pixels, weights_of

ATTACKED = "1.4"  # the network
EPSILONS = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0)
SWEPT = 1000  # correctly classified test images that are attacked with each of these
VEHICLES = ("airplane", "automobile", "ship", "truck")
SHOWN = 2  # images of each category


def first_of_each_category(rows):
    """The rows of the first correctly classified images of each category, not chosen by appearance."""
    chosen = []
    for category in range(10):
        correct = [row for row in rows if row["category_before"] == row["category"] == category]
        chosen += correct[:SHOWN]
    return chosen


def save_images(folder, rows, images, attacked):
    """Save each original and adversarial image as lossless PNG; file names give the categories."""
    from torchvision.utils import save_image  # here, since importing torchvision takes seconds

    for stale in folder.glob("*.png"):
        stale.unlink()
    for row in rows:
        for name, pixels in zip(plots.pair_names(row), (images, attacked.images)):
            with replacing(folder / name) as temporary:
                save_image(pixels[row["index"]] / 255, temporary, format="png")


def lacks_images(out):
    """Whether an image that the table names is missing or damaged."""
    try:
        plots.read_pairs(out, tables_in(out)["adversarial"])
        return False
    except RecordError:
        return True


def tables_in(out):
    return {name: results.log_path(out, "3.1", name) for name in ("attacks", "epsilon", "spectrum", "adversarial")}


def measure(network, images, labels, epsilon, max_iterations):
    """Attack all images; return the rows of each table, and the images as they are saved.

    Raises `RecordError` if the network classifies no image correctly.
    """
    before = predict(network, images)
    swept = (before[0] == labels).nonzero().flatten()[:SWEPT]
    if len(swept) == 0:
        raise RecordError("the network classifies no test image correctly: none to attack")
    attacked = attack(network, images, labels, epsilon, CONFIDENCE, max_iterations, "all test images")
    epsilons = list(sweep(network, images[swept], labels[swept], EPSILONS, max_iterations))
    attacked = as_saved(network, labels, attacked)
    rows = distances(images, labels, before, zero_gradients(network, images, labels), attacked)
    correct = before[0] == labels
    tables = {
        "attacks": rows,
        "epsilon": epsilons,
        "spectrum": spectrum(images[correct], attacked.images[correct]),
        "adversarial": first_of_each_category(rows),
    }
    return tables, attacked


def run(arguments, again=False):
    """Attack all test images and write images and tables, unless done with these weights."""
    tables, weights = tables_in(arguments.out), weights_of(arguments.trained, ATTACKED)

    def attack_all():
        cifar = data.load(arguments.data_dir, arguments.device)
        network = network_on_pixels(ATTACKED, cifar, arguments)
        images, labels = cifar.test_images, cifar.test_labels
        rows, attacked = measure(network, images, labels, arguments.epsilon, arguments.max_iterations)
        save_images(arguments.out / "figures" / "adversarial", rows["adversarial"], images, attacked)
        return rows

    experiment.measure_once(tables, weights, again or lacks_images(arguments.out), attack_all)


def draw(out):
    tables = tables_in(out)
    plots.pairs(out, tables["adversarial"])
    plots.perturbations(out, tables["adversarial"])
    plots.enlarged(out, tables["adversarial"])
    plots.attack_distributions(out, tables["attacks"])
    plots.category_matrix(out, tables["attacks"])
    plots.step_sizes(out, tables["epsilon"])
    plots.spectra(out, tables["spectrum"])


def answer(out):
    """How many attacks succeed, how far images move, and in which categories they end."""
    tables = tables_in(out)
    rows, of_shown = plots.attacked_rows(tables["attacks"]), shown(out)
    columns = {name: np.array([row[name] for row in rows]) for name in ("iterations", "linf", "l2", "psnr_db")}
    succeeded = sum(row["succeeded"] for row in rows)
    return {
        "shown": len(of_shown),
        "shown_succeeded": sum(row["succeeded"] for row in of_shown),
        "attacked": len(rows),
        "succeeded": succeeded,
        "failed": len(rows) - succeeded,
        "iterations": columns["iterations"].mean(),
        "iterations_most": int(columns["iterations"].max()),
        "linf": np.median(columns["linf"]),
        "linf_is_steps": np.mean(columns["linf"] == EPSILON * columns["iterations"]),
        "l2": np.median(columns["l2"]),
        "psnr": np.median(columns["psnr_db"]),
        "zero_gradient": np.mean([row["zero_gradient"] for row in rows]),
        "spectrum": fall_and_peak(results.read_rows(tables["spectrum"])),
        "same_kind": same_kind(rows),
        "favorites": favorites(tables["attacks"]),
    }


def fall_and_peak(spectrum):
    """The fall in power from the lowest to the highest frequency, and the change's peak in the upper half.

    Frequency 0 is excluded; `period` is in pixels; `excess` is relative to the change with random signs.
    """
    rows = spectrum[1:]
    falls = {name: rows[0][name] / rows[-1][name] for name in ("natural", "change")}
    peak = max(rows[len(rows) // 2 :], key=lambda row: row["change"])
    excess = {name: row["change"] / row["random"] for name, row in [("lowest", rows[0]), ("peak", peak)]}
    period = 2 * rows[-1]["frequency"] / peak["frequency"]
    return {"falls": falls, "peak": peak["frequency"], "period": period, "excess": excess}


def shown(out):
    """The rows of the images that are shown."""
    return results.read_rows(tables_in(out)["adversarial"])


def same_kind(rows):
    """The share of animals that become another animal, and of vehicles another vehicle, and the chance levels."""
    shares = {}
    for kind, members in [("vehicles", VEHICLES), ("animals", [name for name in CLASSES if name not in VEHICLES])]:
        ends = [CLASSES[row["category_after"]] for row in rows if CLASSES[row["category"]] in members]
        others, all_others = len(members) - 1, len(CLASSES) - 1
        shares[kind] = {"share": np.mean([end in members for end in ends]), "chance": others / all_others}
    return shares


def favorites(table):
    """The three most frequent changes of category, as shares of the true category."""
    percent = plots.category_percentages(table)
    places = [np.unravel_index(place, percent.shape) for place in percent.argsort(axis=None)[::-1][:3]]
    return [
        {"category": CLASSES[true], "as": CLASSES[wrong], "share": percent[true, wrong] / 100} for true, wrong in places
    ]


def parse(description):
    """The shared flags, for training missing networks, and the attack's flags.

    Runs with values other than the attack's defaults get their own folder.
    """
    parser = options.parser(description, seeds=False)
    add, step, steps = parser.add_argument, within(float, 0.1, 255), within(int, 1, 10**6)
    add("--epsilon", type=step, default=EPSILON, help="step in intensity levels (default: 1)")
    text = "maximum steps per image (default: %(default)s)"
    add("--max-iterations", type=steps, default=MAX_ITERATIONS, help=text)
    return options.parse(parser, constants=("epsilon", "max_iterations"))


def main():
    arguments = parse(__doc__)
    run(arguments, again=arguments.retrain)
    draw(arguments.out)
    found = answer(arguments.out)
    print(
        f"of {found['attacked']} correctly classified test images, now wrong with at least 99 % confidence: "
        f"{found['succeeded']}; not within the iteration limit: {found['failed']} (succeeded = 0 in the table)"
    )
    print(
        f"iterations: {found['iterations']:.1f} on average, at most {found['iterations_most']}; "
        f"medians: largest change {found['linf']:.0f} levels, PSNR {found['psnr']:.1f} dB"
    )
    print(drawn(arguments.out))


if __name__ == "__main__":
    options.run_script(main)
