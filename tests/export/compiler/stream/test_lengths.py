"""Lengths of sequences, however they reach a cell: a stream of frames obeys them as onnxruntime does over the whole."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorProto

from export.graphs import CELLS, assert_close, gru_weights, model, node, onnxruntime, rng
from streamgru import Model
from streamgru.errors import CannotStreamError, ModelError, ShapeError
from streamgru.sequences import run_fresh
from streamgru_export.compiler.compile import compile

FEATURES, H, T, B = 3, 4, 6, 2
INT32, INT64 = TensorProto.INT32, TensorProto.INT64
LENGTHS = [2, 5]


def graph(chain=(), dtype=INT32, shape=("B",), constants=None, *, op="GRU", opset=17, batch="B", t="T", **attrs):
    """A cell whose sequence_lens is `l`, made by the chain from the input `lens` (or is `lens` itself); shape None: no
    input."""
    directions = 2 if attrs.get("direction") == "bidirectional" else 1
    weights = gru_weights(rng(), FEATURES, H, directions, CELLS[op])
    outputs = ["Y", "Y_h"] + (["Y_c"] if op == "LSTM" else [])
    lens = "l" if chain or shape is None else "lens"
    cell = node(op, ["x", "W", "R", "B", lens], outputs, hidden_size=H, **attrs)
    inputs = {"x": [t, batch, FEATURES], **({"lens": list(shape)} if shape is not None else {})}
    return model([*chain, cell], inputs, outputs, {**weights, **(constants or {})}, opset, {"lens": dtype})


def frames(batch=B, t=T):
    return rng().normal(size=(t, batch, FEATURES)).astype(np.float32)


def ran(source, feeds, batch=B):
    image = Model(compile(source, batch=batch).image)
    return image.named(image.run(feeds if len(feeds) > 1 else feeds["x"]))


def to_int32(value):
    return node("Cast", [value], ["l"], to=INT32)


CHAINS = {  # how lengths [2, 5] reach the cell: the nodes, the input's dtype and shape, constants, the input
    "identity": ([node("Identity", ["lens"], ["l"])], INT32, ["B"], {}, LENGTHS),
    "cast": ([to_int32("lens")], INT64, ["B"], {}, LENGTHS),
    "clip": ([node("Clip", ["lens", "low", "high"], ["c"]), to_int32("c")], INT64, ["B"],
             {"low": np.array(3), "high": np.array(4)}, LENGTHS),
    "min": ([node("Min", ["lens", "high"], ["c"]), to_int32("c")], INT64, ["B"], {"high": np.array(4)}, LENGTHS),
    "max": ([node("Max", ["lens", "low"], ["c"]), to_int32("c")], INT64, ["B"], {"low": np.array(3)}, LENGTHS),
    "gather": ([node("Gather", ["lens", "at"], ["l"])], INT32, [3], {"at": np.array([2, 0])}, [5, 1, 2]),
    "squeeze": ([node("Squeeze", ["lens", "axis"], ["l"])], INT32, ["B", 1], {"axis": np.array([1])}, [[2], [5]]),
    "reshape": ([node("Reshape", ["lens", "to"], ["l"])], INT32, [1, "B"], {"to": np.array([-1])}, [LENGTHS]),
    "expand": ([node("Expand", ["lens", "to"], ["l"])], INT32, [1], {"to": np.array([2])}, [3]),
    "arithmetic": ([node("Sub", ["lens", "one"], ["c"]), to_int32("c")], INT64, ["B"], {"one": np.array(1)}, LENGTHS),
    "sorted": ([node("TopK", ["lens", "k"], ["c", "order"], axis=0), to_int32("c")], INT64, [2],
               {"k": np.array([2])}, LENGTHS),
    "sum of a mask": ([node("Cast", ["lens"], ["f"], to=1), node("ReduceSum", ["f", "axis"], ["c"], keepdims=0),
                       to_int32("c")], INT64, ["B", 7], {"axis": np.array([1])}, np.arange(7) < [[2], [5]]),
}  # fmt: skip


@pytest.mark.parametrize("name", CHAINS)
def test_lengths_are_obeyed_however_they_reach_the_cell(name):
    chain, dtype, shape, constants, given = CHAINS[name]
    source = graph(chain, dtype, shape, constants)
    feeds = {"x": frames(), "lens": np.array(given, np.int32 if dtype == INT32 else np.int64)}
    assert_close(ran(source, feeds), onnxruntime(source, feeds))


@pytest.mark.parametrize("op, opset", [("GRU", 7), ("LSTM", 9), ("RNN", 12), ("LSTM", 22)])
@pytest.mark.parametrize("lengths", [[6, 1], [3, 3], [0, 6]])
def test_the_output_ends_at_the_length_and_the_state_is_the_one_there(op, opset, lengths):
    source = graph(op=op, opset=opset)
    feeds = {"x": frames(), "lens": np.int32(lengths)}
    assert_close(ran(source, feeds), onnxruntime(source, feeds))


def test_two_cells_each_have_their_own_lengths():
    weights = gru_weights(rng(), FEATURES, H)
    cells = [node("GRU", ["x", "W", "R", "B", lens], [y, f"{y}h"], hidden_size=H)
             for lens, y in (("lens", "a"), ("less", "b"), ("lens", "c"))]  # fmt: skip
    nodes = [node("Sub", ["lens", "one"], ["less"]), *cells]
    outputs = [o for n in cells for o in n.output]
    source = model(nodes, {"x": ["T", "B", FEATURES], "lens": ["B"]}, outputs, {**weights, "one": np.int32(1)},
                   dtypes={"lens": INT32})  # fmt: skip
    feeds = {"x": frames(), "lens": np.int32([6, 2])}
    assert_close(ran(source, feeds), onnxruntime(source, feeds))
    assert [s.name for s in Model(compile(source).image).states if "lens" in s.name] == ["sequence_lens.frame"]


def test_lengths_behind_other_cells_and_layers():
    r = rng()
    first, second = gru_weights(r, FEATURES, H), {f"{k}2": v for k, v in gru_weights(r, H, H).items()}
    nodes = [
        to_int32("lens"),
        node("GRU", ["x", "W", "R", "B", "l"], ["y1", ""], hidden_size=H),
        node("Squeeze", ["y1", "one"], ["y2"]),
        node("Tanh", ["y2"], ["y3"]),
        node("GRU", ["y3", "W2", "R2", "B2", "l"], ["y4", "h"], hidden_size=H),
        node("Add", ["y4", "half"], ["y"]),
    ]
    constants = {**first, **second, "one": np.array([1]), "half": np.float32([0.5])}
    source = model(nodes, {"x": ["T", "B", FEATURES], "lens": ["B"]}, ["y", "h"], constants, dtypes={"lens": INT64})
    feeds = {"x": frames(), "lens": np.array([4, 2])}
    assert_close(ran(source, feeds), onnxruntime(source, feeds))


# ---- lengths that the file has ----


@pytest.mark.parametrize("t", ["T", T], ids=["any", "burnt in"])
@pytest.mark.parametrize("lengths", [[T, T], [T, 2], [1, 4]])
def test_lengths_of_the_file_are_obeyed(lengths, t):
    source = graph(shape=None, constants={"l": np.int32(lengths)}, t=t)
    compiled = compile(source, batch=2)
    assert list(compiled.inputs) == ["x"]
    feeds = {"x": frames()}
    assert_close(ran(source, feeds), onnxruntime(source, feeds))


def test_lengths_of_the_file_that_end_are_noted():
    notes = compile(graph(shape=None, constants={"l": np.int32([3, 4])}), batch=2).notes
    assert any("sequence_lens [3, 4] are numbers of the file" in note.text for note in notes)


def test_a_burnt_in_length_that_is_full_is_that_of_every_sequence():
    source = graph(shape=None, constants={"l": np.int32([T, T])}, t=T)
    longer = frames(t=11)
    expected = onnxruntime(graph(shape=None, constants={"l": np.int32([11, 11])}, t=11), {"x": longer})
    assert_close(ran(source, {"x": longer}), expected)


def test_lengths_made_of_the_sequence_itself_are_none():
    chain = [node("Shape", ["x"], ["s"]), node("Gather", ["s", "zero"], ["t"]),
             node("Expand", ["t", "to"], ["e"]), to_int32("e")]  # fmt: skip
    source = graph(chain, shape=None, constants={"zero": np.array(0), "to": np.array([B])})
    image = Model(compile(source, batch=B).image)
    assert [s.name for s in image.states] == ["GRU_Y.h"]
    assert_close(image.named(image.run(frames())), onnxruntime(source, {"x": frames()}))


def test_lengths_of_zero_in_the_file_are_refused():
    with pytest.raises(ModelError, match=r"GRU_Y.*its sequence_lens \[0\] lie outside"):
        compile(graph(shape=None, constants={"l": np.int32([0])}, batch=1))


# ---- what a stream cannot know runs whole ----

UNKNOWN = {
    "a mask over time": ([node("Cast", ["lens"], ["f"], to=1), node("ReduceSum", ["f", "axis"], ["c"], keepdims=0),
                          to_int32("c")], INT64, ["T", "B"], {"axis": np.array([0])}),
    "no more than there are": ([node("Shape", ["x"], ["s"]), node("Gather", ["s", "zero"], ["t"]),
                                node("Min", ["lens", "t"], ["c"]), to_int32("c")], INT64, ["B"],
                               {"zero": np.array(0)}),
    "reverse": ([to_int32("lens")], INT64, ["B"], {}),
}  # fmt: skip


@pytest.mark.parametrize("name", UNKNOWN)
def test_lengths_that_a_stream_cannot_know_are_refused_and_run_whole(name, tmp_path):
    chain, dtype, shape, constants = UNKNOWN[name]
    source = graph(chain, dtype, shape, constants, direction="bidirectional" if name == "reverse" else "forward")
    with pytest.raises(CannotStreamError, match="mode='whole'"):
        compile(source, batch=B)
    lens = (np.arange(T)[:, None] < LENGTHS).astype(np.int64) if shape[0] == "T" else np.array(LENGTHS)
    feeds = {"x": frames(), "lens": lens}
    image = Model(compile(source, batch=B, mode="whole", length=T).image)
    assert_close(image.named(image.run(feeds)), onnxruntime(source, feeds))


# ---- a stream of single frames ----


def test_a_step_takes_a_length_of_one_and_nothing_else():
    image = Model(compile(graph(), batch=B).image)
    x, one = frames(), np.ones(B, np.int32)
    with image.stream() as stream:
        stepped = [stream.step({"x": x[0], "lens": one})["Y"]]
        before = stream.save()
        for wrong in ([1, 2], [0, 1], [T, T], [-1, 1], [2**31 - 1, 1], [-(2**31), 1], [1, 2**24 + 1]):
            with pytest.raises(ShapeError, match=r"lens is \[.*a length is 1|of length 1"):
                stream.step({"x": x[1], "lens": np.int32(wrong)})
            assert stream.save() == before
        stepped += [stream.step({"x": frame, "lens": one})["Y"] for frame in x[1:]]
    whole = image.named(image.run({"x": x, "lens": np.int32([T, T])}))["Y"]
    np.testing.assert_array_equal(np.stack(stepped), whole)
    assert_close({"Y": whole}, {"Y": onnxruntime(graph(), {"x": x, "lens": np.int32([T, T])})["Y"]})


def test_a_graph_of_one_step_takes_a_length_of_one():
    source = graph(t=1, batch=1, shape=[1])
    image = Model(compile(source).image)
    feeds = {"x": frames(1, 1), "lens": np.int32([1])}
    with image.stream() as stream:
        y = image.named(stream.step({"x": feeds["x"][0], "lens": feeds["lens"]}))["Y"]
        np.testing.assert_allclose(y.ravel(), onnxruntime(source, feeds)["Y"].ravel(), rtol=0, atol=2e-6)
        with pytest.raises(ShapeError, match=r"lens is \[0\]"):
            stream.step({"x": feeds["x"][0], "lens": np.int32([0])})


@pytest.mark.parametrize("wrong", [[T + 1, 1], [1, -1], [2**31 - 1, 1]])
def test_run_refuses_lengths_that_no_sequence_of_it_has(wrong):
    image = Model(compile(graph(), batch=B).image)
    with pytest.raises(ShapeError, match="lens is"):
        image.run({"x": frames(), "lens": np.int32(wrong)})


@pytest.mark.parametrize("block", [1, 2, 5, 16])
def test_blocks_of_frames_change_no_bit(block):
    image = Model(compile(graph(op="LSTM"), batch=B).image)
    feeds = {"x": frames(), "lens": np.int32(LENGTHS)}
    with image.stream(block=block) as stream:
        found = run_fresh(stream, feeds, None)
    for name, value in image.named(image.run(feeds)).items():
        np.testing.assert_array_equal(found[name], value)


def test_a_pool_takes_a_length_of_one_and_nothing_else():
    image = Model(compile(graph(), batch=B).image)
    x, one = frames(), np.ones((2, B), np.int32)
    with image.pool(2) as pool, image.stream() as stream:
        slots = [pool.open(), pool.open()]
        y = pool.step(slots, {"x": x[:2], "lens": one})["Y"]
        np.testing.assert_array_equal(y[0], stream.step({"x": x[0], "lens": one[0]})["Y"])
        with pytest.raises(ShapeError, match=r"number 1.*lens is \[1, 3\].*no slot has moved"):
            pool.step(slots, {"x": x[:2], "lens": np.int32([[1, 1], [1, 3]])})


def test_whole_mode_names_the_length_that_is_out_of_range():
    image = Model(compile(graph(), batch=B, mode="whole", length=T).image)
    with pytest.raises(ShapeError, match=r"lens is \[2, 7\].*0 to the number of frames"):
        image.run({"x": frames(), "lens": np.int32([2, 7])})
