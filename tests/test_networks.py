"""Table 1's network, checked against the assignment's table."""

import torch

from common.networks import table1_network
from part2.networks import describe

# Layer kind, kernel, output channels, stride, padding, in the order of Table 1. "Kernel size = (5, 5, 32)"
# is a 5×5 kernel with 32 output channels; the table's padding is the pooling's.
TABLE_1 = [
    ("Conv2d", "5×5", 32, "1×1", "2×2"),
    ("BatchNorm2d", "", 32, "", ""),
    ("ReLU", "", 32, "", ""),
    ("AvgPool2d", "2×2", 32, "2×2", "0×0"),
    ("Conv2d", "5×5", 32, "1×1", "2×2"),
    ("BatchNorm2d", "", 32, "", ""),
    ("ReLU", "", 32, "", ""),
    ("AvgPool2d", "2×2", 32, "2×2", "0×0"),
    ("Conv2d", "5×5", 64, "1×1", "2×2"),
    ("BatchNorm2d", "", 64, "", ""),
    ("ReLU", "", 64, "", ""),
    ("AvgPool2d", "2×2", 64, "2×2", "0×0"),
    ("Flatten", "", 64 * 4 * 4, "", ""),
    ("Linear", "", 64, "", ""),
    ("BatchNorm1d", "", 64, "", ""),
    ("ReLU", "", 64, "", ""),
    ("Linear", "", 10, "", ""),
]


def test_layers_are_those_of_table_1():
    rows = describe(table1_network())
    columns = ("kind", "kernel", "channels", "stride", "padding")
    assert [tuple(row[column] for column in columns) for row in rows] == TABLE_1


def test_parameters_and_sizes():
    network = table1_network()
    rows = describe(network)
    weights = 3 * 25 * 32 + 32 * 25 * 32 + 32 * 25 * 64 + 1024 * 64 + 64 * 10
    normalization, biases = 2 * (32 + 32 + 64 + 64), 10
    assert sum(row["parameters"] for row in rows) == weights + normalization + biases
    assert [row["output"] for row in rows if row["kind"] == "AvgPool2d"] == ["32×16×16", "32×8×8", "64×4×4"]
    assert network(torch.zeros(7, 3, 32, 32)).shape == (7, 10)


def test_describing_a_network_leaves_it_as_it_was():
    network = table1_network().train()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    describe(network)
    assert network.training and not network.conv1._forward_hooks
    assert all(torch.equal(before[name], tensor) for name, tensor in network.state_dict().items())
