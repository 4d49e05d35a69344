"""Question 2.2: how large are the gradients in the first and the last convolution while 2.1's network trains?

G = max |∂L/∂w| over a convolution's weights, where L is the cross-entropy, is logged for every convolution at every
iteration of question 2.1's own run (`magnitudes` in common/gradients.py). This script draws G. If the run is
missing, it is trained first.

With BatchNorm after a convolution, the loss does not depend on the scale of its weights, so the gradient is
inversely proportional to their norm. The norms of new and of trained weights are measured to tell how much of the
difference between layers this explains.

Predict before you run: which of the two has the larger gradient?
"""

import statistics
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch

from common import experiment, options, results
from common.gradients import convolutions
from common.plots import drawn
from part2 import accuracy, plots, signals
from part2.networks import designed_network


def measure_norms(network, cifar):
    """Rows: the norm of each convolution's weights in a new network (seed 0) and in the trained one."""
    torch.manual_seed(0)
    new, trained = (
        [layer.weight.norm().item() for layer in convolutions(each)] for each in (designed_network(), network)
    )
    return [
        {"convolution": number, "new": before, "trained": after}
        for number, (before, after) in enumerate(zip(new, trained), start=1)
    ]


def draw(out):
    log, title = accuracy.CURVE.log(out), "The designed network"
    plots.gradient_curves(out, "2.2", {title: log})
    plots.heat_map(out, "2.2", log, title)


def answer(out):
    """For the first and last convolution: G at the first step, at its highest, in its lowest epoch and in the last one.

    Also the norm of their weights in a new network (seed 0) and, averaged over seeds, in trained ones.
    """
    log = accuracy.CURVE.log(out)
    start, end = signals.start_and_end(log)
    highest, lowest = signals.highest(log), signals.lowest_epoch(log)
    norms = results.read_rows(results.log_path(out, "2.2", "norms"))
    found = {}
    for place, layer in [("first", 0), ("last", len(start) - 1)]:
        found[place] = {"start": start[layer], "highest": highest[layer], "lowest": lowest[layer], "end": end[layer]}
        mine = [row for row in norms if row["convolution"] == 1 + layer]
        for name in ("new", "trained"):
            found[place][f"norm_{name}"] = statistics.mean(row[name] for row in mine)
    return found


def main():
    arguments = options.parse(options.parser(__doc__))
    experiment.run(accuracy.EXPERIMENT, arguments)
    norms = results.log_path(arguments.out, "2.2", "norms")
    experiment.measure_trained(accuracy.EXPERIMENT, norms, measure_norms, arguments)
    draw(arguments.out)
    for place, g in answer(arguments.out).items():
        print(
            f"G of the {place} convolution: {g['start']:.2g} at the first step, {g['end']:.2g} in the last epoch; "
            f"norm of its weights: {g['norm_new']:.2f} in a new network, {g['norm_trained']:.2f} in a trained one"
        )
    print(drawn(arguments.out))


if __name__ == "__main__":
    options.run_script(main)
