"""Each operator places time where its output has it, and what needs other frames is refused.

The places are checked against onnxruntime: an output of place Time(axis) computed from frames 0 .. t is the beginning
of the output computed from all frames.
"""

from __future__ import annotations

import numpy as np
import pytest

from export.graphs import assert_close, gru_weights, model, node, onnxruntime, rng, stream
from streamgru.errors import ModelError
from streamgru_export.compiler.compile import compile
from streamgru_export.compiler.graph.onnx_reader import read
from streamgru_export.compiler.stream.causal import check_causal
from streamgru_export.compiler.stream.places import FIXED, LAST, Time
from streamgru_export.compiler.stream.rules import RULES
from streamgru_export.compiler.stream.timeline import find_time

W = np.linspace(-1, 1, 12, dtype=np.float32)
SQUARE = np.linspace(-1, 1, 16, dtype=np.float32).reshape(4, 4)
CUBE = ["T", 3, 4]  # time, and two axes of features


def constants(**values):
    return {k: np.asarray(v) for k, v in values.items()}


# operator -> the node over x, the shape of x, constants, the place of y
PLACED = {
    "Add of a row": (node("Add", ["x", "w"], ["y"]), CUBE, constants(w=W[:4]), Time(0)),
    "Add from the end": (node("Add", ["w", "x"], ["y"]), ["T", 4], constants(w=W[:8].reshape(2, 1, 4)), Time(1)),
    "Where": (node("Where", ["c", "x", "w"], ["y"]), CUBE, constants(c=[True, False, True, True], w=W[:1]), Time(0)),
    "Expand": (node("Expand", ["x", "s"], ["y"]), ["T", 1, 4], constants(s=[2, 1, 3, 1]), Time(1)),
    "Reshape, features merged": (node("Reshape", ["x", "s"], ["y"]), CUBE, constants(s=[-1, 12]), Time(0)),
    "Reshape, time merged": (node("Reshape", ["x", "s"], ["y"]), CUBE, constants(s=[-1, 4]), Time(0, 3)),
    "Reshape, features torn": (node("Reshape", ["x", "s"], ["y"]), CUBE, constants(s=[-1, 2, 6]), Time(0)),
    "Flatten": (node("Flatten", ["x"], ["y"], axis=1), CUBE, {}, Time(0)),
    "Squeeze": (node("Squeeze", ["x", "a"], ["y"]), [1, "T", 4], constants(a=[0]), Time(0)),
    "Unsqueeze": (node("Unsqueeze", ["x", "a"], ["y"]), CUBE, constants(a=[0, 2]), Time(1)),
    "Transpose": (node("Transpose", ["x"], ["y"], perm=[1, 2, 0]), CUBE, {}, Time(2)),
    "Transpose, reversed": (node("Transpose", ["x"], ["y"]), ["T", 4], {}, Time(1)),
    "Concat": (node("Concat", ["x", "x"], ["y"], axis=-1), CUBE, {}, Time(0)),
    "Gather of features": (node("Gather", ["x", "i"], ["y"], axis=1), CUBE, constants(i=[[0, 2], [1, 1]]), Time(0)),
    "Gather before time": (node("Gather", ["x", "i"], ["y"], axis=0), [3, "T"], constants(i=[[0, 2]]), Time(2)),
    "Gather of one feature": (node("Gather", ["x", "i"], ["y"], axis=0), [3, "T"], constants(i=1), Time(0)),
    "Gather of the last frame": (node("Gather", ["x", "i"], ["y"], axis=0), CUBE, constants(i=-1), LAST),
    "Tile": (node("Tile", ["x", "s"], ["y"]), CUBE, constants(s=[1, 2, 3]), Time(0)),
    "MatMul, rows": (node("MatMul", ["x", "w"], ["y"]), ["T", 4], constants(w=W.reshape(4, 3)), Time(0)),
    "MatMul, columns": (node("MatMul", ["w", "x"], ["y"]), [4, "T"], constants(w=W.reshape(3, 4)), Time(1)),
    "MatMul, batch": (node("MatMul", ["x", "w"], ["y"]), CUBE, constants(w=W.reshape(4, 3)), Time(0)),
    "MatMul, a vector": (node("MatMul", ["x", "w"], ["y"]), ["T", 4], constants(w=W[:4]), Time(0)),
    "MatMul, a vector first": (node("MatMul", ["w", "x"], ["y"]), ["T", 3, 4], constants(w=W[:3]), Time(0)),
    "Gemm": (node("Gemm", ["x", "w", "b"], ["y"]), ["T", 4], constants(w=W.reshape(4, 3), b=W[:3]), Time(0)),
    "Gemm, C of every frame": (node("Gemm", ["x", "w", "x"], ["y"]), ["T", 4], constants(w=SQUARE), Time(0)),
    "Gemm, C along the other axis": (node("Gemm", ["w", "x", "x"], ["y"]), [4, "T"], constants(w=SQUARE), Time(1)),
    "Gemm, transposed": (node("Gemm", ["x", "w"], ["y"], transA=1), [4, "T"], constants(w=W.reshape(4, 3)), Time(0)),
    "Gemm, the second": (node("Gemm", ["w", "x"], ["y"], transB=1), ["T", 4], constants(w=W.reshape(3, 4)), Time(1)),
    "Einsum": (node("Einsum", ["x", "w"], ["y"], equation="tij,jk->kti"), CUBE, constants(w=W[:8].reshape(4, 2)),
               Time(1)),
    "ReduceMean": (node("ReduceMean", ["x"], ["y"], axes=[1]), CUBE, {}, Time(0)),
    "ReduceMean of the axis before": (node("ReduceMean", ["x"], ["y"], axes=[0], keepdims=0), [3, "T"], {}, Time(0)),
    "ReduceSum": (node("ReduceSum", ["x", "a"], ["y"], keepdims=0), [2, 3, "T"], constants(a=[0, -2]), Time(0)),
    "ArgMax": (node("ArgMax", ["x"], ["y"], axis=0, keepdims=0), [3, "T"], {}, Time(0)),
    "Softmax": (node("Softmax", ["x"], ["y"], axis=1), CUBE, {}, Time(0)),
    "CumSum": (node("CumSum", ["x", "a"], ["y"]), CUBE, constants(a=-1), Time(0)),
    "LayerNormalization": (node("LayerNormalization", ["x", "w"], ["y"]), CUBE, constants(w=W[:4]), Time(0)),
    "BatchNormalization": (node("BatchNormalization", ["x", *"wwww"], ["y"]), [1, 3, "T"],
                           constants(w=np.abs(W[:3]) + 1), Time(2)),
    "InstanceNormalization": (node("InstanceNormalization", ["x", "w", "w"], ["y"]), CUBE, constants(w=W[:3]), Time(0)),
    "GlobalAveragePool": (node("GlobalAveragePool", ["x"], ["y"]), CUBE, {}, Time(0)),
    "ConvTranspose of each frame": (node("ConvTranspose", ["x", "w"], ["y"], strides=[2]), ["T", 2, 5],
                                    constants(w=W.reshape(2, 3, 2)), Time(0)),
    "ReverseSequence of features": (node("ReverseSequence", ["x", "n"], ["y"], time_axis=0, batch_axis=1),
                                    [3, 4, "T"], constants(n=[2, 3, 1, 3]), Time(2)),
    "DepthToSpace": (node("DepthToSpace", ["x"], ["y"], blocksize=2), ["T", 4, 2, 3], {}, Time(0)),
    "Pad of features": (node("Pad", ["x", "p"], ["y"]), CUBE, constants(p=[0, 1, 0, 0, 0, 2]), Time(0)),
    "Slice of features": (node("Slice", ["x", "s", "e", "a"], ["y"]), CUBE, constants(s=[1], e=[3], a=[1]), Time(0)),
}  # fmt: skip


def graph_of(made, shape, known):
    kinds = {"y": 7} if made.op_type == "ArgMax" else {}
    return model([made], {"x": shape}, ["y"], known, 17, kinds)


def places(source):
    return check_causal(find_time(read(source), {}, 1)).places


def frames(shape, length):
    return rng().normal(size=[length if d == "T" else d for d in shape]).astype(np.float32)


@pytest.mark.parametrize("name", list(PLACED))
def test_time_is_where_the_output_has_it(name):
    made, shape, known, expected = PLACED[name]
    assert places(graph_of(made, shape, known))["y"] == expected


@pytest.mark.parametrize("name", list(PLACED))
def test_an_output_begins_alike_however_long_the_sequence(name):
    """What the place promises, by onnxruntime."""
    made, shape, known, place = PLACED[name]
    source, axis = graph_of(made, shape, known), shape.index("T")
    x, length, short = frames(shape, 9), 9, 5
    x_short = np.take(x, range(short), axis)
    whole, part = (onnxruntime(source, {"x": v})["y"] for v in (x, x_short))
    if place == LAST:
        np.testing.assert_array_equal(whole, onnxruntime(source, {"x": np.take(x, [length - 1], axis)})["y"])
        return
    count = place.entries(short)
    assert whole.shape[place.axis] == place.entries(length)
    np.testing.assert_allclose(np.take(whole, range(count), place.axis), part, rtol=1e-6, atol=1e-6)


REFUSED = {
    "Reshape": (node("Reshape", ["x", "s"], ["y"]), ["T", 4], constants(s=[4, -1]), "tears frames apart"),
    "Concat": (node("Concat", ["x", "x"], ["y"], axis=0), CUBE, {}, "one after the other along the time axis"),
    "Gather of the first": (node("Gather", ["x", "i"], ["y"], axis=0), CUBE, constants(i=0), "some frames"),
    "Gather of the second last": (node("Gather", ["x", "i"], ["y"], axis=0), CUBE, constants(i=-2), "some frames"),
    "Gather of two": (node("Gather", ["x", "i"], ["y"], axis=0), CUBE, constants(i=[-1, -1]), "some frames"),
    "Tile": (node("Tile", ["x", "s"], ["y"]), CUBE, constants(s=[2, 1, 1]), "repeats the frames"),
    "ReduceMean": (node("ReduceMean", ["x"], ["y"], axes=[0]), CUBE, {}, "reduces over the frames"),
    "ReduceMean of all": (node("ReduceMean", ["x"], ["y"]), CUBE, {}, "reduces over the frames"),
    "ArgMax": (node("ArgMax", ["x"], ["y"], axis=0), CUBE, {}, "reduces over the frames"),
    "Softmax": (node("Softmax", ["x"], ["y"], axis=0), CUBE, {}, "Softmax runs over the frames"),
    "CumSum": (node("CumSum", ["x", "a"], ["y"]), CUBE, constants(a=0), "CumSum runs over the frames"),
    "InstanceNormalization": (node("InstanceNormalization", ["x", "w", "w"], ["y"]), [1, 3, "T"], constants(w=W[:3]),
                              "mixes the frames"),
    "GlobalAveragePool": (node("GlobalAveragePool", ["x"], ["y"]), [1, 3, "T"], {}, "mixes the frames"),
    "DepthToSpace": (node("DepthToSpace", ["x"], ["y"], blocksize=2), [1, 4, 2, "T"], {}, "mixes the frames"),
    "Einsum summed": (node("Einsum", ["x"], ["y"], equation="tij->ij"), CUBE, {}, "sums over the frames"),
    "Einsum attention": (node("Einsum", ["x", "x"], ["y"], equation="tij,sij->ts"), CUBE, {}, "attention"),
    "BatchNormalization in training": (node("BatchNormalization", ["x", *"wwww"], ["y", "m", "v"], training_mode=1),
                                       [2, 3, "T"], constants(w=np.abs(W[:3]) + 1), "is in training mode"),
    "ReverseSequence": (node("ReverseSequence", ["x", "n"], ["y"], time_axis=0, batch_axis=1), CUBE,
                        constants(n=[2, 2, 1]), "turns the frames of the sequence around"),
    "Slice": (node("Slice", ["x", "s", "e", "a"], ["y"]), CUBE, constants(s=[1], e=[99], a=[0]), "some frames"),
}  # fmt: skip


@pytest.mark.parametrize("name", list(REFUSED))
def test_what_needs_other_frames_is_refused_by_node(name):
    made, shape, known, why = REFUSED[name]
    with pytest.raises(ModelError, match=rf"cannot stream: {made.op_type} node '{made.op_type}_y': .*{why}"):
        places(graph_of(made, shape, known))


@pytest.mark.parametrize("transposed", [False, True])
def test_frames_times_frames_are_attention(transposed):
    nodes = [
        node("Transpose", ["x"], ["t"], perm=[1, 0]),
        node("MatMul", ["t", "x"] if transposed else ["x", "t"], ["y"]),
    ]
    why = "sums over the frames" if transposed else "attention"
    with pytest.raises(ModelError, match=f"MatMul_y.*{why}"):
        places(model(nodes, {"x": ["T", 4]}, ["y"]))


def test_frames_that_are_a_batch_of_both_factors_may_meet():
    nodes = [node("Transpose", ["x"], ["t"], perm=[0, 2, 1]), node("MatMul", ["x", "t"], ["y"])]
    assert places(model(nodes, {"x": CUBE}, ["y"]))["y"] == Time(0)


def test_a_value_of_the_end_meets_no_frames():
    nodes = [node("Gather", ["x", "i"], ["l"], axis=0), node("Add", ["x", "l"], ["y"])]
    with pytest.raises(ModelError, match=r"Add_y.*known only at the end"):
        places(model(nodes, {"x": ["T", 4]}, ["y"], {"i": np.array(-1)}))


def test_ids_of_every_frame_pick_rows_of_a_table():
    source = model([node("Gather", ["w", "x"], ["y"], axis=0)], {"x": [1, "T"]}, ["y"], {"w": W.reshape(6, 2)},
                   dtypes={"x": 7})  # fmt: skip
    assert places(source)["y"] == Time(1)


CELLS = {
    "along time": (["T", 1, 4], {}, [Time(0), LAST]),
    "along time, layout 1": ([1, "T", 4], {"layout": 1}, [Time(1), LAST]),
    "time is the batch": ([5, "T", 4], {}, [Time(2), Time(1)]),
    "time is the batch, layout 1": (["T", 5, 4], {"layout": 1}, [Time(0), Time(0)]),
    "time is the batch, both ways": ([5, "T", 4], {"direction": "bidirectional"}, [Time(2), Time(1)]),
}


@pytest.mark.parametrize("case", list(CELLS))
def test_a_cell_runs_along_time_or_within_each_frame(case):
    shape, attrs, expected = CELLS[case]
    weights = gru_weights(rng(), 4, 6, 2 if "direction" in attrs else 1)
    gru = node("GRU", ["x", "W", "R", "B"], ["Y", "h"], hidden_size=6, **attrs)
    timeline = find_time(read(model([gru], {"x": shape}, ["Y", "h"], weights)), {}, 1, {"x": shape.index("T")})
    found = check_causal(timeline)
    assert [found.places[n] for n in ("Y", "h")] == expected
    assert found.over_time == ({"Y"} if LAST in expected else set())


def test_a_cell_that_runs_backwards_over_time_is_refused():
    gru = node("GRU", ["x", "W", "R"], ["Y"], hidden_size=6, direction="reverse")
    weights = gru_weights(rng(), 4, 6)
    with pytest.raises(ModelError, match=r"GRU_Y.*it is reverse over time"):
        places(model([gru], {"x": ["T", 1, 4]}, ["Y"], {k: weights[k] for k in "WR"}))


def test_every_rule_that_is_tested_here_is_one():
    assert {case[0].op_type for case in [*PLACED.values(), *REFUSED.values()]} <= set(RULES)
    assert FIXED not in {place for *_, place in PLACED.values()}


@pytest.mark.parametrize("axis, rank_of_indices", [(0, 2), (1, 1)])
def test_what_every_frame_writes_into_itself_is_its_own(axis, rank_of_indices):
    """y[:, 1] = 2 x[:, 1] of [T, 3] as [[t, 1] for t]; y[1] = 2 x[1] of [3, T] as [[1]]."""
    known = constants(one=[1], zero=0, first=1, ax=[0], last=[1])
    nodes = [node("Gather", ["x", "one"], ["part"], axis=1 - axis), node("Add", ["part", "part"], ["twice"])]
    if rank_of_indices == 1:
        known["i"] = np.array([[1]])
        nodes.append(node("ScatterND", ["x", "i", "twice"], ["y"]))
    else:
        nodes += [node("Shape", ["x"], ["s"]), node("Gather", ["s", "zero"], ["n"], axis=0),
                  node("Range", ["zero", "n", "first"], ["t"]), node("Unsqueeze", ["t", "last"], ["t1"]),
                  node("Mul", ["t1", "zero"], ["z1"]), node("Add", ["z1", "first"], ["o1"]),
                  node("Concat", ["t1", "o1"], ["i"], axis=1), node("Squeeze", ["twice", "last"], ["u"]),
                  node("ScatterND", ["x", "i", "u"], ["y"])]  # fmt: skip
    shape = ["T", 3] if axis == 0 else [3, "T"]
    source = model(nodes, {"x": shape}, ["y"], known)
    assert places(source)["y"] == Time(axis)
    x = {"x": frames(shape, 5)}
    assert_close(stream(compile(source, time_axis={"x": axis}), x), onnxruntime(source, x))


def test_a_write_to_some_frames_is_refused():
    source = model(
        [node("ScatterND", ["x", "i", "u"], ["y"])], {"x": ["T", 3]}, ["y"], constants(i=[[0]], u=W[None, :3])
    )
    with pytest.raises(ModelError, match="ScatterND_y': it writes to frames of the sequence by index"):
        places(source)


def test_of_what_a_cast_is_like_the_type_alone_counts():
    """A number that takes the type of the frames has no time, whatever their rank."""
    nodes = [node("CastLike", ["half", "x"], ["h"]), node("Mul", ["x", "h"], ["y"])]
    source = model(nodes, {"x": CUBE}, ["y"], {"half": np.float32(0.5)}, opset=17)
    x = {"x": rng().standard_normal((6, 3, 4)).astype(np.float32)}
    assert_close(stream(compile(source, time_axis={"x": 0}), x), onnxruntime(source, x), 0.0)
