"""A state that is packed, cut, stacked, turned or squeezed by hand is followed element by element."""

from __future__ import annotations

import re

import numpy as np
import pytest

from export.compiler.stream.steps import H, I, assert_steps_equal
from export.graphs import assert_close, gru_weights, model, node, onnxruntime, rng, whole
from streamgru.errors import ModelError
from streamgru_export.compiler.compile import compile
from streamgru_export.compiler.graph import budget
from streamgru_export.compiler.graph.onnx_reader import read
from streamgru_export.compiler.static.specialise import specialise
from streamgru_export.compiler.stream.elements import Elements

INTS = {"zero": np.array(0), "one": np.array(1), "ax0": np.array([0]), "ax1": np.array([1]), "ax2": np.array([2]),
        "h": np.array([H]), "end": np.array([2**31 - 1]), "start": np.array([0])}  # fmt: skip


def lstm(n, x, h, c, k=""):
    """LSTM number n over x from h and c; its results are y, hn and cn with that number."""
    return node("LSTM", [x, f"W{k}", f"R{k}", f"B{k}", "", h, c], [f"y{n}", f"hn{n}", f"cn{n}"], hidden_size=H)


def weights(*sizes):
    """Of LSTMs with these inputs; each has numbers of its own."""
    r, found = rng(), {}
    for k, size in enumerate(sizes):
        found |= {f"{name}{k or ''}": value for name, value in gru_weights(r, size, H, gates=4).items()}
    return {**found, **INTS}


def packed(join=("hn1", "cn1")):
    """[1, B, 2H]: h and c side by side, cut by Slice and put together by Concat."""
    nodes = [
        node("Slice", ["s", "start", "h", "ax2"], ["h1"]),
        node("Slice", ["s", "h", "end", "ax2"], ["c1"]),
        lstm(1, "x", "h1", "c1"),
        node("Concat", list(join), ["s_new"], axis=2),
    ]
    return model(nodes, {"x": [1, 1, I], "s": [1, 1, 2 * H]}, ["y1", "s_new"], weights(I))


def split():
    """[B, 2, H] by Split, Transpose and back."""
    nodes = [
        node("Transpose", ["s"], ["t"], perm=[1, 0, 2]),
        node("Split", ["t"], ["h1", "c1"], axis=0, num_outputs=2),
        lstm(1, "x", "h1", "c1"),
        node("Concat", ["hn1", "cn1"], ["both"], axis=0),
        node("Transpose", ["both"], ["s_new"], perm=[1, 0, 2]),
    ]
    return model(nodes, {"x": [1, 3, I], "s": [3, 2, H]}, ["y1", "s_new"], weights(I), opset=18)


def stacked(order=(0, 1)):
    """[2, layers, B, H]: two layers, cut by Gather, stacked by Unsqueeze and Concat."""
    nodes = []
    for kind, at in (("h", "zero"), ("c", "one")):
        nodes.append(node("Gather", ["s", at], [f"{kind}s"], axis=0))
        nodes += [node("Gather", [f"{kind}s", k], [f"{kind}{n}_"], axis=0) for n, k in ((1, "zero"), (2, "one"))]
        nodes += [node("Unsqueeze", [f"{kind}{n}_", "ax0"], [f"{kind}{n}"]) for n in (1, 2)]
    nodes += [lstm(1, "x", "h1", "c1"), node("Squeeze", ["y1", "ax1"], ["z"]), lstm(2, "z", "h2", "c2", "1")]
    for kind in ("h", "c"):
        parts = [(f"{kind}n1", f"{kind}n2")[k] for k in order]
        nodes.append(node("Concat", parts, [f"{kind}all"], axis=0))
        nodes.append(node("Unsqueeze", [f"{kind}all", "ax0"], [f"{kind}new"]))
    nodes.append(node("Concat", ["hnew", "cnew"], ["s_new"], axis=0))
    return model(nodes, {"x": [1, 2, I], "s": [2, 2, 2, H]}, ["y2", "s_new"], weights(I, H))


def written():
    """[2, B, H], of which the cell's row is written and the other stays: `s[0] = ...` in PyTorch."""
    nodes = [
        node("Slice", ["s", "start", "one_", "ax0"], ["h1"]),
        node("GRU", ["x", "W", "R", "B", "", "h1"], ["y1", "hn1"], hidden_size=H),
        node("ScatterND", ["s", "row", "hn1"], ["s_new"]),
    ]
    constants = {**gru_weights(rng(), I, H), **INTS, "one_": np.array([1]), "row": np.array([[0]])}
    return model(nodes, {"x": [1, 1, I], "s": [2, 1, H]}, ["y1", "s_new"], constants)


def last_of_y():
    """The state that comes out is the last entry of Y, squeezed."""
    nodes = [
        node("Unsqueeze", ["s", "ax0"], ["h1"]),
        node("Unsqueeze", ["c", "ax0"], ["c1"]),
        lstm(1, "x", "h1", "c1"),
        node("Squeeze", ["cn1", "ax0"], ["c_new"]),
        node("Gather", ["y1", "last"], ["y_last"], axis=0),
        node("Squeeze", ["y_last", "ax0"], ["s_new"]),
    ]
    constants = weights(I) | {"last": np.array(-1)}
    return model(nodes, {"x": [4, 2, I], "s": [2, H], "c": [2, H]}, ["y1", "c_new", "s_new"], constants)


@pytest.mark.parametrize(
    "source, pairs",
    [
        (packed(), [("s", "s_new")]),
        (split(), [("s", "s_new")]),
        (stacked(), [("s", "s_new")]),
        (last_of_y(), [("s", "s_new"), ("c", "c_new")]),
        (written(), [("s", "s_new")]),
    ],
    ids=["packed", "split", "stacked", "last of Y", "written"],
)
def test_a_state_in_pieces_is_a_pair(source, pairs):
    compiled = compile(source)
    assert compiled.pairs == pairs
    assert [n for n in compiled.notes if n.kind == "warning"] == []
    assert_steps_equal(source, compiled)


@pytest.mark.parametrize("source", [packed(("cn1", "hn1")), stacked((1, 0))], ids=["h and c", "layers"])
def test_a_state_whose_parts_come_out_in_another_order_is_no_pair(source):
    """Shape and name are the same. Fed back as it stands, it would be another model than its author had."""
    with pytest.warns(
        UserWarning, match=r"'s' is a state of LSTM node .*another order.*say state=\[\('s', 's_new'\)\]"
    ):
        compiled = compile(source)
    assert (compiled.pairs, set(compiled.inputs), set(compiled.states)) == ([], {"x", "s"}, set())
    said = compile(source, state=[("s", "s_new")])  # the advice: he knows what he says
    assert said.pairs == [("s", "s_new")]
    assert_steps_equal(source, said)


@pytest.mark.parametrize("names", [("h_out", "c_out"), ("c_out", "h_out"), ("a", "b")])
def test_states_of_one_shape_are_never_swapped(names):
    """Not by their names, nor by the order in which they come out."""
    h, c = names
    nodes = [node("LSTM", ["x", "W", "R", "B", "", "h_in", "c_in"], ["y", h, c], hidden_size=H)]
    source = model(nodes, {"x": [1, 1, I], "c_in": [1, 1, H], "h_in": [1, 1, H]}, ["y", *sorted(names)], weights(I))
    compiled = compile(source)
    assert sorted(compiled.pairs) == [("c_in", c), ("h_in", h)]
    assert_steps_equal(source, compiled)


def test_a_state_that_comes_out_in_two_tensors_is_told():
    nodes = packed().graph.node[:3]
    source = model(nodes, {"x": [1, 1, I], "s": [1, 1, 2 * H]}, ["y1", "hn1", "cn1"], weights(I))
    compiled = compile(source)
    assert (compiled.pairs, list(compiled.inputs)) == ([], ["x", "s"])
    assert re.search(r"'s' is a state of .*'hn1', 'cn1' hold it in another shape", compiled.notes[0].text)


def test_a_state_that_goes_in_and_does_not_come_out_stays_an_input():
    """A step from what the caller gives each time."""
    gru = node("GRU", ["x", "W", "R", "B", "", "given"], ["y"], hidden_size=H)
    source = model([gru, node("Relu", ["y"], ["z"])], {"x": [1, 1, I], "given": [1, 1, H]}, ["z"],
                   gru_weights(rng(), I, H))  # fmt: skip
    compiled = compile(source)
    assert (list(compiled.inputs), compiled.states) == (["x", "given"], {})
    assert [str(n) for n in compiled.notes] == [
        "note: input 'given' is a state of GRU node 'GRU_y', and no output continues it: it stays an input"
    ]
    feeds = {n: rng().normal(size=s).astype(np.float32) for n, s in compiled.inputs.items()}
    assert_close(whole(compiled, feeds), onnxruntime(source, feeds))


def test_elements_keep_their_numbers_on_the_way():
    graph = specialise(read(packed()), {})
    found = Elements(graph, ["s"])
    assert found.continues("s", "s_new")
    assert not found.contradicts("s", "s_new")
    assert found.holding("s", ["y1", "s_new"]) == ["y1", "s_new"]
    assert str(found.cells["s"]) == "LSTM node 'LSTM_y1'"
    swapped = Elements(specialise(read(packed(("cn1", "hn1"))), {}), ["s"])
    assert swapped.contradicts("s", "s_new")
    assert not swapped.continues("s", "s_new")


@pytest.mark.parametrize(
    "source", [packed(), split(), stacked(), written()], ids=["packed", "split", "stacked", "written"]
)
def test_what_comes_out_continues_every_element(source):
    assert Elements(specialise(read(source), {}), ["s"]).continues("s", "s_new")


def test_what_no_cell_touched_is_no_state():
    """An input that comes out as it went in."""
    graph = specialise(read(model([node("Transpose", ["s"], ["t"], perm=[1, 0])], {"s": [1, 3]}, ["t"])), {})
    assert not Elements(graph, ["s"]).continues("s", "t")


@pytest.mark.parametrize("outputs", [("y", "hn"), ("hn", "y"), ("a", "b"), ("b", "a")])
def test_of_a_result_and_a_final_state_that_are_equal_the_state_is_kept(outputs):
    """A step of one layer: what it gives is its new state."""
    result, final = ("y", "hn") if "y" in outputs else ("a", "b")
    nodes = [node("GRU", ["x", "W", "R", "B", "", "h"], ["Y", final], hidden_size=H),
             node("Squeeze", ["Y", "ax1"], [result])]  # fmt: skip
    source = model(nodes, {"x": [1, 1, I], "h": [1, 1, H]}, list(outputs),
                   {**gru_weights(rng(), I, H), "ax1": np.array([1])})  # fmt: skip
    compiled = compile(source)
    assert compiled.pairs == [("h", final)]
    assert_steps_equal(source, compiled)


def test_only_what_may_be_a_state_is_numbered():
    """An input of 2^31 - 1 values that no cell reads, in a file of some bytes."""
    graph = specialise(read(model([node("Relu", ["x"], ["y"])], {"x": [1, 2**31 - 1]}, ["y"])), {})
    elements = Elements(graph, ["x"])
    assert elements.numbers == {}
    assert not elements.continues("x", "y")


def test_more_numbers_than_there_is_room_for_are_refused(monkeypatch):
    graph = specialise(read(packed()), {})
    monkeypatch.setattr(budget, "MAX_BYTES", 8 * 2 * H)
    with pytest.raises(ModelError, match="state '"):
        Elements(graph, ["s"])
    monkeypatch.setattr(budget, "MAX_BYTES", 2**32)
    monkeypatch.setattr(budget, "MAX_WORK", 8 * 2 * H)
    with pytest.raises(ModelError, match="operations"):
        Elements(graph, ["s"])
