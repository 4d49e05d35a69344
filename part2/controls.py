"""Controls for 2.3 and 2.4: what is necessary for the deep network to fail, and what is sufficient?

`--depth N …` adds N convolutions instead of 20. The `--controls` also add 20, except those called "shallow", and
make other changes:

batchnorm             BatchNorm, over 25 images as in 2.1, after every convolution
batchnorm_residual    the same, with the added layers in residual blocks as in 2.4's solution
backward              gradients are multiplied by √6 in each added layer, to offset shrinkage; forward pass unchanged
forward               differences between images are multiplied by √6 after each added layer; gradients unchanged
both                  the two together
unbiased              no convolution has a bias, so nothing common to all images is added
no_epsilon            Muon normalizes gradients of any norm above 1e-20 (PyTorch's default: above 1e-7)
adam                  Adam for all parameters; it also divides gradients by their size
sgd_vanishing         plain SGD at a learning rate of 0.1 without weight decay; its steps scale with the gradients
sgd_forward           the same with the forward pass mended as in `forward`
sgd_clipped           plain SGD at its own rate without weight decay, all gradients clipped to a joint norm of 0.1
sgd_…_clipped         the same with the passes mended as in `backward`, `forward` and `both`, or without the added
                      layers (shallow)
backward_halved, …    backward, forward, both and no_epsilon with half of Muon's learning rate and 2.4's clipping
both_clipped          both, with 2.4's clipping alone
slow_softmax          2.4's solution without clipping; the softmax layer's gradients are divided by 100
slow_start            the same, but in the first ten steps only
slow_others           slow_softmax, with the gradients of the convolutions' biases and gains divided instead
fewer_skips           2.4's solution without the skips of the original convolutions 3, 5 and 7
standardized_added    the same, but only the added convolutions have standardized weights; the others are as in cure iii
random_start          2.4's solution with blocks of added convolutions that do not start as the identity
standardized_shallow  fewer_skips without the added layers
he_shallow            standardized_shallow with ordinary weights and He initialization
centered_shallow      standardized_shallow with weights that are only centered, not divided, and no gain
normalized_shallow    standardized_shallow with weights that are divided by their norm but not centered
gained_shallow        he_shallow with a learned gain
kept_shallow          he_shallow with weights kept at their initial norm, without weight decay
kept_gained_shallow   kept_shallow with a learned gain
kept_normalized_…     normalized_shallow with weights kept at their initial norm, and relative steps as in kept_shallow

Predict before you run: which of these learn?
"""

import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from common import experiment, options, results
from common.experiment import Experiment
from common.plots import BLACK, VERMILION, drawn
from common.records import within
from common.settings import PLAIN_SGD, Settings
from part2 import ablations, accuracy, plots, signals, solution, vanishing
from part2.ablations import GAIN, mended_network, shallow_network, slow_network
from part2.accuracy import prepare
from part2.networks import ADDED, batchnorm_network
from part2.solution import CLIPPED, HALVED

MOST = 100  # most added layers for `--depth`
# Muon's eps in `no_epsilon`. With a smaller one, once gradients are 0 and the momentum fades, float32 could not compute
# the momentum's norm.
TINY = 1e-20
SGD_WITHOUT_DECAY = replace(PLAIN_SGD, learning_rate=0.1, weight_decay=0.0)
# With weight decay, or clipped to 1 as in part2/solution.py, the network does not learn even if both passes are mended.
SGD_CLIPPED = replace(PLAIN_SGD, weight_decay=0.0, clip_norm=CLIPPED.clip_norm)
# The rate for kept norms in part2/design.py, times √6: He initialization makes weights √6 times larger. The weights of
# NormalizedConv2d start √3 times larger.
NORMS_KEPT = replace(CLIPPED, keep_norm=True, learning_rate=0.17, weight_decay=0.0)
NORMS_KEPT_DIVIDED = replace(NORMS_KEPT, learning_rate=0.12)


def control(name, make_network=vanishing.vanishing_network, settings=Settings(), question="2.3", watch=vanishing.watch):
    return Experiment(question, name, make_network, prepare, settings, log_gradients=True, watch=watch)


CONTROLS = {
    each.name: each
    for each in (
        control("batchnorm", batchnorm_network),
        control("batchnorm_residual", ablations.batchnorm_residual_network),
        control("backward", partial(mended_network, 1.0, GAIN)),
        control("forward", partial(mended_network, GAIN, 1.0)),
        control("both", partial(mended_network, GAIN, GAIN)),
        control("unbiased", ablations.unbiased_network),
        control("no_epsilon", settings=Settings(epsilon=TINY)),
        control("adam", settings=Settings(optimizer="adamw", learning_rate=1e-3, weight_decay=0.0)),
        control("sgd_vanishing", settings=SGD_WITHOUT_DECAY),
        control("sgd_forward", partial(mended_network, GAIN, 1.0), SGD_WITHOUT_DECAY),
        control("sgd_clipped", settings=SGD_CLIPPED),
        control("sgd_shallow_clipped", partial(vanishing.vanishing_network, 0), SGD_CLIPPED, watch=None),
        control("sgd_backward_clipped", partial(mended_network, 1.0, GAIN), SGD_CLIPPED),
        control("sgd_forward_clipped", partial(mended_network, GAIN, 1.0), SGD_CLIPPED),
        control("sgd_both_clipped", partial(mended_network, GAIN, GAIN), SGD_CLIPPED),
        control("backward_halved", partial(mended_network, 1.0, GAIN), HALVED),
        control("forward_halved", partial(mended_network, GAIN, 1.0), HALVED),
        control("both_clipped", partial(mended_network, GAIN, GAIN), CLIPPED),
        control("both_halved", partial(mended_network, GAIN, GAIN), HALVED),
        control("no_epsilon_halved", settings=replace(HALVED, epsilon=TINY)),
        control("slow_softmax", partial(slow_network, True), question="2.4"),
        control("slow_start", ablations.slow_start_network, question="2.4"),
        control("slow_others", partial(slow_network, False), question="2.4"),
        control("fewer_skips", ablations.fewer_skips_network, CLIPPED, question="2.4"),
        control("standardized_added", ablations.standardized_added_network, CLIPPED, question="2.4"),
        control("random_start", ablations.random_start_network, CLIPPED, question="2.4"),
        *(
            control(f"{name}_shallow", make_network, settings, question="2.4", watch=None)
            for name, make_network, settings in (
                ("standardized", ablations.standardized_shallow_network, CLIPPED),
                ("he", shallow_network, CLIPPED),
                ("centered", partial(shallow_network, ablations.CenteredConv2d), CLIPPED),
                ("gained", partial(shallow_network, ablations.GainedConv2d), CLIPPED),
                ("normalized", partial(shallow_network, ablations.NormalizedConv2d), CLIPPED),
                ("kept", shallow_network, NORMS_KEPT),
                ("kept_gained", partial(shallow_network, ablations.GainedConv2d), NORMS_KEPT),
                ("kept_normalized", partial(shallow_network, ablations.NormalizedConv2d), NORMS_KEPT_DIVIDED),
            )
        ),
    )
}


def of_depth(added):
    if added == ADDED:
        return vanishing.EXPERIMENT
    return control(f"depth{added}", partial(vanishing.vanishing_network, added), watch=None)


def logs_by_depth(out):
    """The finished logs without and with BatchNorm, by the number of added layers."""
    names = results.read_results(out / "logs" / "results.csv")
    depths = sorted(int(name.removeprefix("2.3_depth")) for name in names if name.startswith("2.3_depth"))
    without = {added: results.log_path(out, "2.3", of_depth(added).name) for added in [*depths, ADDED]}
    with_it = {0: accuracy.CURVE.log(out), ADDED: results.log_path(out, "2.3", "batchnorm")}
    return {
        "no BatchNorm": {added: log for added, log in without.items() if results.finished(log)},
        "BatchNorm": {added: log for added, log in with_it.items() if results.finished(log)},
    }


def draw(out):
    logs = logs_by_depth(out)
    if len(logs["no BatchNorm"]) > 1:
        styles = {"no BatchNorm": (VERMILION, "o"), "BatchNorm": (BLACK, "s")}
        plots.depth_points(out, "2.3_depth", [(kind, *styles[kind], logs[kind]) for kind in logs])


def answer(out):
    """For each number of added layers and each control: the first convolution's G and the outcome of training."""
    by_depth = {kind: {str(added): log for added, log in logs.items()} for kind, logs in logs_by_depth(out).items()}
    chosen = {each.name: each for each in (vanishing.EXPERIMENT, solution.experiment_of("none"))} | CONTROLS
    logs = {name: results.log_path(out, each.question, name) for name, each in chosen.items()}
    groups = by_depth | {"controls": {name: log for name, log in logs.items() if results.finished(log)}}
    return {group: {name: ending(out, log) for name, log in of.items()} for group, of in groups.items()}


def ending(out, log):
    """G of the first convolution at the first step and in the last epoch, signals in trained networks, and accuracy.

    `image_share` is the share of the last added layer's mean square that differs between images.
    """
    start, end = (layers[0] for layers in signals.start_and_end(log))
    question, _, name = log.stem.partition("_")
    return {
        "first_step": start,
        "end": end,
        "kept_gradient": signals.kept_gradient(out, question, name, ADDED),
        "image_share": signals.image_share(out, question, name, ADDED),
        "kept_scale": signals.kept_scale(out, question, name, ADDED),
        "least_live": signals.least_live(out, question, name),
        "peak": signals.peak(log),
        "test": results.final_accuracy(log),
    }


def main():
    parser = options.parser(__doc__)
    group = parser.add_mutually_exclusive_group()
    kind, text = within(int, 0, MOST), "train with N added layers (default: 0 2 5 10)"
    group.add_argument("--depth", type=kind, nargs="+", default=[0, 2, 5, 10], metavar="N", help=text)
    group.add_argument("--controls", choices=CONTROLS, nargs="+", metavar="NAME", help="train these, see above")
    arguments = options.parse(parser)
    if arguments.controls:
        chosen = [CONTROLS[name] for name in arguments.controls]
    else:
        chosen = [of_depth(added) for added in arguments.depth]
    for each in chosen:
        experiment.run(each, arguments)
    if "sgd_clipped" in (arguments.controls or ()):
        vanishing.draw_training(arguments.out)
    draw(arguments.out)
    for group, rows in answer(arguments.out).items():
        for name, row in rows.items():
            print(
                f"{group}, {name}: test accuracy {row['test']}, G of the first convolution {row['first_step']:.1e} at "
                f"the first step, {row['end']:.1e} in the last epoch"
            )
    print(drawn(arguments.out))


if __name__ == "__main__":
    options.run_script(main)
