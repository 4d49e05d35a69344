"""Question 3.1: how little must an image change until 1.4's network is 99 % sure of a wrong category?

Attacks all test images (part3/attack.py); shows, of each category, the first two that the network
classifies correctly; and repeats it on the first 1,000 of these with steps of other sizes. With a step ε of
a whole intensity level, an adversarial image is an 8-bit image and survives being saved. With half a level
it is none: all images that are saved or tabled are rounded, and the sweep states success before and after.
"""

import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
from torchvision.utils import save_image

from common import data, image_plots, options
from common.data import CLASSES
from common.experiment import log_path
from common.records import RecordError, read_csv, replacing, write_rows
from part3.attack import CONFIDENCE, EPSILON, MAX_ITERATIONS, attack, predict
from part3.measures import as_saved, distances, sweep
from part3.networks import trained_network

EPSILONS = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0)
SWEPT = 1000  # correctly classified test images that are attacked with each of these
VEHICLES = ("airplane", "automobile", "ship", "truck")
SHOWN = 2  # images of each category
SUMMARY = """\
of {attacked} test images classified correctly, wrong now with 99 % confidence: {succeeded}; not within the limit of \
iterations: {failed} (their rows have succeeded = 0)
iterations: {iterations} on average, at most {iterations_most}; medians: largest change {linf} levels, PSNR {psnr} dB
{images_per_second} images/s; leaving early saves {saved} of all passes through the network"""


def first_of_each_category(rows):
    """The rows of the first images of each category that are classified correctly: no choosing by looks."""
    correct = [row for row in rows if row["category_before"] == row["category"]]
    return [row for category in range(10) for row in [row for row in correct if row["category"] == category][:SHOWN]]


def save_images(folder, rows, images, attacked):
    """Each original and adversarial image as PNG, which loses nothing; the name tells the categories."""
    for stale in folder.glob("*.png"):
        stale.unlink()
    for row in rows:
        for name, pixels in zip(image_plots.pair_names(row), (images, attacked.images)):
            with replacing(folder / name) as temporary:
                save_image(pixels[row["index"]] / 255, temporary, format="png")


def tables_in(out):
    return {name: log_path(out, "3.1", name) for name in ("adversarial", "attacks", "epsilon", "speed")}


def run(arguments, again=False):
    """Attack all test images, unless that is done, and write images and tables.

    Raises `RecordError` if the network classifies no test image correctly.
    """
    tables = tables_in(arguments.out)
    if tables["adversarial"].exists() and not again:
        print(f"{tables['adversarial']} is there already: --retrain or another --out attacks again")
        return
    cifar = data.load(arguments.data_dir, arguments.device)
    images, labels = cifar.test_images, cifar.test_labels
    network = trained_network("1.4", arguments, cifar)
    before = predict(network, images)
    correct = (before[0] == labels).nonzero().flatten()
    if len(correct) == 0:
        raise RecordError("the network classifies no test image correctly: none to attack")
    began = time.perf_counter()
    attacked = attack(
        network, images, labels, arguments.epsilon, CONFIDENCE, arguments.max_iterations, "all test images"
    )
    seconds = time.perf_counter() - began
    passes = attacked.iterations + 1  # of an image through the network
    speed = {
        "images": len(images),
        "seconds": seconds,
        "images_per_second": len(images) / seconds,
        "passes": passes.sum().item(),
        "passes_if_none_left": len(images) * passes.max().item(),
    }
    swept = correct[:SWEPT]
    tables["adversarial"].unlink(missing_ok=True)  # it says that all is there
    write_rows(tables["speed"], [speed])
    write_rows(
        tables["epsilon"], list(sweep(network, images[swept], labels[swept], EPSILONS, arguments.max_iterations))
    )
    attacked = as_saved(network, labels, attacked)
    rows = distances(images, labels, before, attacked)
    write_rows(tables["attacks"], rows)
    shown = first_of_each_category(rows)
    save_images(arguments.out / "figures" / "adversarial", shown, images, attacked)
    write_rows(tables["adversarial"], shown)


def draw(out):
    tables = tables_in(out)
    image_plots.pairs(out, tables["adversarial"])
    image_plots.perturbations(out, tables["adversarial"])
    image_plots.attack_distributions(out, tables["attacks"])
    image_plots.category_matrix(out, tables["attacks"])
    image_plots.step_sizes(out, tables["epsilon"])


def answer(out):
    """How many images were driven to 99 %, how far they had to move, and how long that took; numbers as text."""
    tables = tables_in(out)
    (speed,) = read_csv(tables["speed"])
    rows = image_plots.attacked_rows(tables["attacks"])
    succeeded = sum(int(row["succeeded"]) for row in rows)
    shown = read_csv(tables["adversarial"])
    columns = {name: np.array([float(row[name]) for row in rows]) for name in ("iterations", "linf", "l2", "psnr_db")}
    return {
        "shown": str(len(shown)),
        "shown_succeeded": str(sum(int(row["succeeded"]) for row in shown)),
        "attacked": str(len(rows)),
        "succeeded": str(succeeded),
        "failed": str(len(rows) - succeeded),
        "iterations": f"{columns['iterations'].mean():.1f}",
        "iterations_most": f"{columns['iterations'].max():.0f}",
        "linf": f"{np.median(columns['linf']):.0f}",
        "l2": f"{np.median(columns['l2']):.0f}",
        "psnr": f"{np.median(columns['psnr_db']):.1f}",
        "same_kind": same_kind(tables["attacks"]),
        "favourites": ", ".join(favourites(tables["attacks"])),
        "images_per_second": f"{float(speed['images_per_second']):.0f}",
        "seconds": f"{float(speed['seconds']):.0f}",
        "saved": f"{100 * (1 - int(speed['passes']) / int(speed['passes_if_none_left'])):.0f} %",
    }


def same_kind(table):
    """How many of the attacked animals end as another animal, and of the vehicles as another vehicle; in percent."""
    rows = image_plots.attacked_rows(table)
    shares = {}
    for kind, is_of in ("vehicles", VEHICLES.__contains__), ("animals", lambda category: category not in VEHICLES):
        ends = [is_of(CLASSES[int(row["category_after"])]) for row in rows if is_of(CLASSES[int(row["category"])])]
        others = sum(map(is_of, CLASSES)) - 1
        shares[kind] = f"{100 * np.mean(ends):.0f} % (by chance {100 * others / (len(CLASSES) - 1):.0f} %)"
    return shares


def favourites(table, number=3):
    """The most frequent changes of category, in percent of the images of the true one."""
    percent = image_plots.category_percentages(table)
    places = [np.unravel_index(place, percent.shape) for place in percent.argsort(axis=None)[::-1][:number]]
    return [f"{CLASSES[true]} as {CLASSES[wrong]} ({percent[true, wrong]:.0f} %)" for true, wrong in places]


def parse(description):
    """The shared flags, and the attack's: other values than its defaults have a folder of their own."""
    parser = options.parser(description)
    add = parser.add_argument
    add("--epsilon", type=options.number(0.1, 255), default=EPSILON, help="a step, in intensity levels (default: 1)")
    add(
        "--max-iterations",
        type=options.whole_number(1, 10**6),
        default=MAX_ITERATIONS,
        help="steps that an image may take (default: %(default)s)",
    )
    return options.parse(parser, constants=("epsilon", "max_iterations"))


def main():
    arguments = parse(__doc__)
    run(arguments, again=arguments.retrain)
    draw(arguments.out)
    print(SUMMARY.format(**answer(arguments.out)))


if __name__ == "__main__":
    options.run_script(main)
