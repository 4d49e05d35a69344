"""Before question 1.1: which optimizer and learning rate? Chosen without a look at the test images.

Trains question 1.4's network and pre-processing for the full 2,000 iterations on the first 8,000
images of train batch 1 with each candidate, and evaluates on its last 2,000. "Plain" settings are
those of all parameters but the convolutions' weights. The winner is the default of
`common.training.Settings`, the procedure of the whole assignment.

Muon wins over every setting of SGD and AdamW that was tried by about 5 points, several times what a
seed or 2,000 images leave uncertain (about 1 point). Among Muon's own settings the best few differ by
less than that: they are a choice, not a finding. Muon was given more candidates than the others.
"""

import sys
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import mean

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from common import data, options
from common.experiment import log_path
from common.networks import table1_network
from common.preprocess import channel_statistics
from common.records import merge_rows, read_csv
from common.training import Settings, evaluate, train
from part1.crop import prepare

HELD_OUT = 2000

# Written out, so that a change of the defaults does not change what a logged name means.
MUON = Settings(
    optimizer="muon",
    learning_rate=0.05,
    momentum=0.6,
    weight_decay=0.1,
    plain_learning_rate=0.05,
    plain_weight_decay=1e-3,
)
SGD = replace(MUON, optimizer="sgd", momentum=0.9)
ADAMW = replace(MUON, optimizer="adamw", weight_decay=0.05)
CANDIDATES = {
    "SGD 0.05": replace(SGD, learning_rate=0.05, weight_decay=5e-4),
    "SGD 0.1": replace(SGD, learning_rate=0.1, weight_decay=1e-3),
    "SGD 0.2": replace(SGD, learning_rate=0.2, weight_decay=1e-3),
    "SGD 0.1, weight decay 0.005": replace(SGD, learning_rate=0.1, weight_decay=5e-3),
    "AdamW 0.001": replace(ADAMW, learning_rate=1e-3),
    "AdamW 0.003": replace(ADAMW, learning_rate=3e-3),
    "AdamW 0.01": replace(ADAMW, learning_rate=1e-2),
    "Muon 0.03": replace(MUON, learning_rate=0.03),
    "Muon 0.05": MUON,
    "Muon 0.08": replace(MUON, learning_rate=0.08),
    "Muon 0.05, no weight decay": replace(MUON, weight_decay=0),
    "Muon 0.05, weight decay 0.2": replace(MUON, weight_decay=0.2),
    "Muon 0.03, momentum 0.9": replace(MUON, learning_rate=0.03, momentum=0.9),
    "Muon 0.05, plain rate 0.1": replace(MUON, plain_learning_rate=0.1),
    "Muon 0.05, plain weight decay 0.005": replace(MUON, plain_weight_decay=5e-3),
    "Muon 0.05, plain weight decay 0.02": replace(MUON, plain_weight_decay=0.02),
    "Muon 0.05, plain weight decay 0.05": replace(MUON, plain_weight_decay=5e-2),
    "Muon 0.03, plain weight decay 0.005": replace(MUON, learning_rate=0.03, plain_weight_decay=5e-3),
    "Muon 0.05, weight decay 0.2, plain weight decay 0.005": replace(MUON, weight_decay=0.2, plain_weight_decay=5e-3),
}


def held_out_means(log):
    """Mean accuracy of each logged candidate over its seeds, on the held-out images."""
    accuracies = {}
    for row in read_csv(log):
        accuracies.setdefault(row["candidate"], []).append(float(row["held_out_accuracy"]))
    return {candidate: mean(values) for candidate, values in accuracies.items()}


def main():
    parser = options.parser(__doc__)
    arguments = options.parse(parser)
    log = log_path(arguments.out, "1.0", "procedure")
    done = set() if arguments.retrain else {(row["candidate"], int(row["seed"])) for row in read_csv(log)}
    wanted = [(name, seed) for seed in arguments.seeds for name in CANDIDATES if (name, seed) not in done]
    if wanted:
        cifar = data.load(arguments.data_dir, arguments.device)
        images, held_out_images = cifar.train_images.tensor_split([-HELD_OUT])
        labels, held_out_labels = cifar.train_labels.tensor_split([-HELD_OUT])
        if arguments.batch_size > len(images):
            parser.error(f"argument --batch-size: only {len(images)} images are not held out")
        held_out_prepare = partial(prepare, statistics=channel_statistics(images))
    for candidate, seed in wanted:
        settings = replace(CANDIDATES[candidate], iterations=arguments.iterations, batch_size=arguments.batch_size)
        network, columns, _ = train(
            table1_network,
            images,
            labels,
            held_out_prepare,
            settings,
            seed,
            arguments.precision,
            description=f"{candidate}, seed {seed}",
        )
        accuracy, _ = evaluate(network, held_out_images, held_out_labels, held_out_prepare)
        training_accuracy = mean(columns["train_accuracy"][-100:])
        row = {"candidate": candidate, "seed": seed, "held_out_accuracy": accuracy, "train_accuracy": training_accuracy}
        row |= vars(settings)
        merge_rows(log, list(row), [list(row.values())], key=2)
        print(f"{candidate}, seed {seed}: held out {accuracy:.2%}, training {training_accuracy:.2%}", flush=True)
    print("mean accuracy on the held-out images")
    for candidate, accuracy in sorted(held_out_means(log).items(), key=lambda item: -item[1]):
        print(f"{accuracy:.2%}  {candidate}")


if __name__ == "__main__":
    options.run_script(main)
