"""What is done along an open dimension, whatever it is called."""

from __future__ import annotations

import numpy as np
import pytest

from export.compiler.stream.recurrences import N, cell, convolution, loop, over, scan
from export.graphs import gru_weights, model, node, rng
from streamgru_export.compiler.graph.onnx_reader import read
from streamgru_export.compiler.static.specialise import Specialiser
from streamgru_export.compiler.stream.dimensions import Dimensions, Kind, axes_of, sequence_lengths

NAMES = ["T", "unk__1", "N", "batch", None]


def looked(source, **rest):
    return Dimensions(Specialiser(read(source)), rest, 1)


def shifted(name):
    """Every entry where the next one was."""
    return model([node("Pad", ["x", "p"], ["y"])], {"x": [name, N]}, ["y"], {"p": np.array([1, 0, -1, 0])})


def only(source):
    (found,) = looked(source).found
    return found


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "made, kind, why",
    [
        (loop, Kind.RUNS, "Loop node 'Loop_hN' runs along it"),
        (scan, Kind.RUNS, "Scan node 'Scan_hN' runs along it"),
        (lambda n: cell("GRU", n), Kind.RUNS, "GRU node 'GRU_y' runs along it"),
        (lambda n: cell("LSTM", n, "reverse"), Kind.RUNS, "LSTM node"),
        (lambda n: cell("RNN", n, "bidirectional"), Kind.RUNS, "RNN node"),
        (convolution, Kind.REACHES, "Conv node 'Conv_y' reaches along it"),
        (lambda n: over("CumSum", n), Kind.REACHES, "CumSum node 'CumSum_y' reaches along it"),
        (lambda n: over("Softmax", n, axis=0), Kind.MIXES, "Softmax node 'Softmax_y' mixes its entries"),
        (lambda n: over("ReduceMean", n, axes=[0]), Kind.MIXES, "ReduceMean"),
        (lambda n: over("attention", n), Kind.MIXES, "MatMul node 'MatMul_y' mixes its entries"),
        (shifted, Kind.MIXES, "Pad node 'Pad_y' mixes its entries"),
        (lambda n: over("Tanh", n), Kind.ENTRYWISE, ""),
        (lambda n: over("Softmax", n, axis=1), Kind.ENTRYWISE, ""),
    ],
    ids=[
        "loop",
        "scan",
        "gru",
        "lstm",
        "rnn",
        "conv",
        "cumsum",
        "softmax",
        "mean",
        "attention",
        "pad",
        "tanh",
        "features",
    ],
)
def test_what_the_nodes_do_decides(made, kind, why, name):
    found = only(made(name))
    assert found.kind is kind
    assert found.why.startswith(why)
    assert found.is_batch == (kind is Kind.ENTRYWISE)


def test_the_batch_of_a_cell_and_of_its_state_is_one():
    """x [?, ?, N] and h [1, ?, N] without names: neither of the batches can be moved alone."""
    gru = node("GRU", ["x", "W", "R", "B", "", "h"], ["y", "hn"], hidden_size=N)
    source = model([gru], {"x": [None, None, N], "h": [1, None, N]}, ["y", "hn"], gru_weights(rng(), N, N))
    found = {d.names: d.kind for d in looked(source).found}
    assert found == {frozenset({"x.0"}): Kind.RUNS, frozenset({"x.1", "h.1"}): Kind.ENTRYWISE}


def test_two_inputs_of_one_length_and_one_batch_are_told_apart():
    nodes = [node("Concat", ["x", "z"], ["xz"], axis=2),
             node("GRU", ["xz", "W", "R", "B", "", "h"], ["y", "hn"], hidden_size=N)]  # fmt: skip
    inputs = {"x": [None, None, N], "z": [None, None, N], "h": [1, None, N]}
    dimensions = looked(model(nodes, inputs, ["y", "hn"], gru_weights(rng(), 2 * N, N)))
    found = {d.names: d.kind for d in dimensions.found}
    assert found == {frozenset({"x.0", "z.0"}): Kind.RUNS, frozenset({"x.1", "z.1", "h.1"}): Kind.ENTRYWISE}
    assert dimensions.stuck == {}
    assert dimensions.of("z.1").is_batch


def test_a_dimension_that_takes_one_number_is_stuck():
    source = model([node("Reshape", ["x", "shape"], ["y"])], {"x": ["A", N]}, ["y"], {"shape": np.array([N])})
    dimensions = looked(source)
    assert (dimensions.found, list(dimensions.stuck)) == ([], ["A"])
    assert dimensions.of("A") is None


def test_a_dimension_that_an_input_has_twice_is_no_batch():
    source = model([node("Tanh", ["x"], ["y"])], {"x": ["A", "A"]}, ["y"])
    assert (only(source).kind, only(source).why) == (Kind.MIXES, "input 'x' has it twice")


def test_sequences_and_axes_are_found_by_the_names_of_their_values():
    graph = read(cell("GRU", "T"))
    assert sequence_lengths(Specialiser(graph)({"T": 6})) == {"y": 6}
    assert axes_of(graph.inputs, {"T"}) == {"x": 0}
