"""Question 2.2: how large are the gradients in the first and the last convolution while 2.1's network trains?

G = max |∂L/∂w| over a convolution's weights, where L is the cross-entropy, is logged for every convolution at every
iteration of question 2.1's own run (`magnitudes` in common/gradients.py). This script draws G. If the run is
missing, it is trained first.

Two possible causes of a difference are tested. A weight's gradient is a sum over the output's positions. So G is
computed again from one random position, in new networks and in the trained one. With BatchNorm after a convolution,
the loss does not depend on the scale of its weights, so the gradient is inversely proportional to their norm: the norms
of new and trained weights are also measured.

Predict before you run: which convolution has larger gradients?
"""

import statistics
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
from torch.nn import functional as F

from common import data, experiment, options, results
from common.gradients import convolutions
from common.plots import drawn
from part2 import accuracy, plots, signals
from part2.networks import designed_network

IMAGES = 100  # of the training set, one batch, unaugmented


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


def measure_positions(network, images, labels, generator):
    """Rows: G of the first and last convolution, from all positions and from one random position.

    Args:
        network: in training mode, so that BatchNorm uses the statistics of the images.
        images: the network's input, `(N, 3, 32, 32)`.
        generator: draws the position, for each image and output channel.
    """
    inputs, outputs, hidden = {}, {}, images
    for layer in network:
        inputs[layer] = hidden
        outputs[layer] = hidden = layer(hidden)
    first, *_, last = convolutions(network)
    gradients = torch.autograd.grad(F.cross_entropy(hidden, labels), [outputs[first], outputs[last]])
    rows = []
    for place, layer, gradient in zip(("first", "last"), (first, last), gradients):
        by_position = gradient.flatten(2)
        position = torch.randint(by_position.shape[2], (*by_position.shape[:2], 1), generator=generator)
        single = torch.zeros_like(by_position).scatter(2, position, by_position.gather(2, position))
        row = {"place": place}
        for name, kept in [("all", gradient), ("single", single.view_as(gradient))]:
            weights = torch.nn.grad.conv2d_weight(inputs[layer], layer.weight.shape, kept, padding=layer.padding)
            row[name] = weights.abs().max().item()
        rows.append(row)
    return rows


def update_positions(table, arguments):
    """Write `measure_positions` for new networks and for the trained one of the first seed into `table`, if missing."""
    trained_seed = min(results.finished(accuracy.CURVE.log(arguments.out)))

    def measure():
        cifar = data.load(arguments.data_dir)
        images, labels = accuracy.prepare(cifar.train_images[:IMAGES], cifar.statistics), cifar.train_labels[:IMAGES]
        trained = experiment.trained_network(accuracy.EXPERIMENT, trained_seed, cifar, arguments).cpu().train()
        rows = []
        for seed in range(signals.INITIALIZATIONS):  # of the new network, and of the positions
            torch.manual_seed(seed)
            for state, network in [("new", designed_network()), ("trained", trained)]:
                found = measure_positions(network, images, labels, torch.Generator().manual_seed(seed))
                rows += [{"network": state, "seed": seed} | row for row in found]
        return {"positions": rows}

    weights = experiment.weights_path(arguments.trained, accuracy.EXPERIMENT, trained_seed)
    experiment.measure_once({"positions": table}, [weights], arguments.retrain, measure)


def draw(out):
    log, title = accuracy.CURVE.log(out), "The designed network"
    plots.gradient_curves(out, "2.2", {title: log})
    plots.heat_map(out, "2.2", log, title)


def answer(out):
    """For the first and last convolution: G at the first step, at its highest, in its lowest epoch and in the last one.

    Also the norm of their weights in a new network (seed 0) and, averaged over seeds, in trained ones, and G in new and
    trained networks from all positions and from a single one: medians over initializations or random positions.
    """
    log = accuracy.CURVE.log(out)
    start, end = signals.start_and_end(log)
    highest, lowest = signals.highest(log), signals.lowest_epoch(log)
    norms, positions = (results.read_rows(results.log_path(out, "2.2", name)) for name in ("norms", "positions"))
    found = {}
    for place, layer in [("first", 0), ("last", len(start) - 1)]:
        found[place] = {"start": start[layer], "highest": highest[layer], "lowest": lowest[layer], "end": end[layer]}
        mine = [row for row in norms if row["convolution"] == 1 + layer]
        for name in ("new", "trained"):
            found[place][f"norm_{name}"] = statistics.mean(row[name] for row in mine)
            summed = [row for row in positions if row["place"] == place and row["network"] == name]
            found[place][name] = {kept: statistics.median(row[kept] for row in summed) for kept in ("all", "single")}
    return found


def main():
    arguments = options.parse(options.parser(__doc__))
    experiment.run(accuracy.EXPERIMENT, arguments)
    norms = results.log_path(arguments.out, "2.2", "norms")
    experiment.measure_trained(accuracy.EXPERIMENT, norms, measure_norms, arguments)
    update_positions(results.log_path(arguments.out, "2.2", "positions"), arguments)
    draw(arguments.out)
    for place, g in answer(arguments.out).items():
        print(
            f"G of the {place} convolution: {g['start']:.2g} at the first step, {g['end']:.2g} in the last epoch; "
            f"norm of its weights: {g['norm_new']:.2f} in a new network, {g['norm_trained']:.2f} in a trained one"
        )
        for state in ("new", "trained"):
            print(f"  {state} network: {g[state]['all']:.2g} from all positions, {g[state]['single']:.2g} from one")
    print(drawn(arguments.out))


if __name__ == "__main__":
    options.run_script(main)
