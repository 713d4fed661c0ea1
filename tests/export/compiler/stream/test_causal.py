"""Telling which graphs look into the future, and where time lies in the others."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorProto

from export.compiler.stream.streams import H, I, gru_model, node
from export.graphs import gru_weights, model, rng
from streamgru.errors import CannotStreamError, ModelError
from streamgru_export.compiler.compile import compile
from streamgru_export.compiler.graph.onnx_reader import read
from streamgru_export.compiler.stream.causal import check_causal
from streamgru_export.compiler.stream.places import LAST, Time
from streamgru_export.compiler.stream.timeline import find_time


def places(graph):
    return check_causal(find_time(graph, {}, 1)).places


def test_places_follow_transpose_reshape_and_matmul():
    tail = [
        node("Squeeze", ["Y", "one"], ["s"]),
        node("Transpose", ["s"], ["t"], perm=[1, 0, 2]),
        node("MatMul", ["t", "w"], ["m"]),
        node("Add", ["m", "b"], ["y"]),
    ]
    constants = {"one": np.array([1]), "w": np.zeros((H, 3), np.float32), "b": np.zeros(3, np.float32)}
    found = places(gru_model(["T", 1, I], tail, constants=constants))
    assert [found[n] for n in ("Y", "s", "t", "m", "y", "Yh")] == [Time(0), Time(0), *[Time(1)] * 3, LAST]


@pytest.mark.parametrize("index", [-1, "slice"])
def test_the_last_frame_is_what_a_stream_has(index):
    if index == -1:
        tail, constants = [node("Gather", ["Y", "i"], ["y"], axis=0)], {"i": np.array(-1)}
    else:
        tail = [node("Slice", ["Y", "start", "end", "axis"], ["y"])]
        constants = {"start": np.array([-1]), "end": np.array([1 << 62]), "axis": np.array([0])}
    assert places(gru_model(["T", 1, I], tail, constants=constants))["y"] == LAST


FUTURE = {
    "bidirectional": ([], {}, "GRU_Y"),
    "mean": ([node("ReduceMean", ["Y"], ["y"], axes=[0])], {}, "ReduceMean_y"),
    "softmax": ([node("Softmax", ["Y"], ["y"], axis=0)], {}, "Softmax_y"),
    "first frame": ([node("Gather", ["Y", "i"], ["y"], axis=0)], {"i": np.array(0)}, "Gather_y"),
    "flip": (
        [node("Slice", ["Y", "a", "b", "c", "d"], ["y"])],
        {"a": np.array([-1]), "b": np.array([-(1 << 62)]), "c": np.array([0]), "d": np.array([-1])},
        "Slice_y",
    ),
    "shift": (
        [node("Slice", ["Y", "a", "b", "c"], ["y"])],
        {"a": np.array([1]), "b": np.array([1 << 62]), "c": np.array([0])},
        "Slice_y",
    ),
    "attention": (
        [
            node("Squeeze", ["Y", "one"], ["s"]),
            node("Transpose", ["s"], ["q"], perm=[1, 0, 2]),
            node("Transpose", ["s"], ["k"], perm=[1, 2, 0]),
            node("MatMul", ["q", "k"], ["y"]),
        ],
        {"one": np.array([1])},
        "MatMul_y",
    ),
    "last added to all": ([node("Add", ["Y", "Yh"], ["y"])], {}, "Add_y"),
    "convolution": (
        [
            node("Squeeze", ["Y", "one"], ["s"]),
            node("Transpose", ["s"], ["c"], perm=[1, 2, 0]),
            node("Conv", ["c", "k"], ["y"], pads=[1, 1]),
        ],
        {"one": np.array([1]), "k": np.zeros((H, H, 3), np.float32)},
        "Conv_y",
    ),
}


@pytest.mark.parametrize("case", list(FUTURE))
def test_looking_into_the_future_is_refused_by_node_and_reason(case):
    tail, constants, name = FUTURE[case]
    direction = "bidirectional" if case == "bidirectional" else "forward"
    graph = gru_model(["T", 1, I], tail, ("Y",) if not tail else ("y",), constants, direction)
    with pytest.raises(ModelError, match=rf"cannot stream.*{name}.*mode='whole'"):
        places(graph)


def test_a_position_encoding_is_refused_by_its_constant():
    head = [
        node("Shape", ["x"], ["shape"]),
        node("Gather", ["shape", "zero"], ["T"], axis=0),
        node("Range", ["zero", "T", "one"], ["positions"]),
        node("Cast", ["positions"], ["float"], to=TensorProto.FLOAT),
        node("Reshape", ["float", "column"], ["p"]),
        node("Add", ["x", "p"], ["xp"]),
    ]
    constants = {"zero": np.array(0), "one": np.array(1), "column": np.array([-1, 1, 1])}
    with pytest.raises(ModelError, match=r"Add_xp.*frame to frame"):
        places(gru_model(["T", 1, I], head=head, x="xp", outputs=("Y",), constants=constants))


def test_a_gru_within_the_frame_may_run_both_ways():
    """Time in the batch of a bidirectional GRU over 5 bands, before a GRU over time."""
    r = rng()
    inner = gru_weights(r, 2, 2, 2)
    constants = {f"i{k}": v for k, v in inner.items()}
    head = [
        node("Reshape", ["x", "bands"], ["xb"]),
        node("Transpose", ["xb"], ["xbt"], perm=[1, 0, 2]),
        node("GRU", ["xbt", "iW", "iR", "iB"], ["V"], hidden_size=2, direction="bidirectional"),
        node("Transpose", ["V"], ["Vt"], perm=[2, 0, 1, 3]),
        node("Reshape", ["Vt", "frames"], ["xf"]),
    ]
    weights = {**gru_weights(r, 20, H), **constants, "bands": np.array([-1, 5, 2]), "frames": np.array([-1, 1, 20])}
    gru = node("GRU", ["xf", "W", "R", "B"], ["Y"], hidden_size=H)
    found = check_causal(find_time(read(model([*head, gru], {"x": ["T", 1, 10]}, ["Y"], weights)), {}, 1))
    assert found.places["V"] == Time(2)
    assert found.places["Y"] == Time(0)
    assert found.over_time == {"Y"}


# ---- what keeps a graph from streaming, told at once ----

RUN_WHOLE = "It can run whole: streamgru.load(path, mode='whole').run(x)"


def three():
    """A GRU that runs both ways, a GRU that runs backwards, a mean over time; behind them nodes that only take what
    they know, and beside them a GRU that streams."""
    r = rng()
    weights = {}
    nodes = []
    for name, direction in (("both", "bidirectional"), ("back", "reverse"), ("forth", "forward")):
        made = gru_weights(r, 4, 3, directions=2 if direction == "bidirectional" else 1)
        weights |= {f"{k}_{name}": v for k, v in made.items()}
        inputs = ["x", *(f"{k}_{name}" for k in "WRB")]
        nodes.append(node("GRU", inputs, [name], hidden_size=3, direction=direction))
    nodes.append(node("ReduceMean", ["x"], ["total"], axes=[0], keepdims=1))
    nodes.append(node("Sub", ["x", "total"], ["centred"]))
    nodes.append(node("Tanh", ["both"], ["behind"]))
    return model(nodes, {"x": ["T", 1, 4]}, ["behind", "back", "forth", "centred"], weights)


def test_every_obstacle_is_told_with_its_node_reason_and_remedy():
    with pytest.raises(CannotStreamError) as caught:
        compile(three())
    obstacles = caught.value.obstacles
    assert [o.node for o in obstacles] == [
        "GRU node 'GRU_both'",
        "GRU node 'GRU_back'",
        "ReduceMean node 'ReduceMean_total'",
    ]
    assert "bidirectional" in obstacles[0].reason
    assert "reverse" in obstacles[1].reason
    assert "over the frames" in obstacles[2].reason
    assert {o.remedy for o in obstacles} == {RUN_WHOLE}


def test_its_text_is_the_first_ones():
    with pytest.raises(CannotStreamError) as caught:
        check_causal(find_time(read(three()), {}, 1))
    first = caught.value.obstacles[0]
    assert str(caught.value) == f"this model cannot stream: {first.node}: {first.reason}. {RUN_WHOLE}"


def test_what_streams_has_no_obstacle(tmp_path):
    """The same graph without the three, which another mode takes as it is."""
    source = three()
    kept = [n for n in source.graph.node if n.output[0] == "forth"]
    del source.graph.node[:], source.graph.output[3], source.graph.output[:2]
    source.graph.node.extend(kept)
    assert compile(source).kind == "sequence"
    assert compile(three(), mode="whole", length=5).kind == "whole"


def test_an_initial_state_that_is_computed_says_what_to_do():
    weights = gru_weights(rng(), 4, 3) | {"V": np.ones((4, 3), np.float32)}
    nodes = [
        node("MatMul", ["start", "V"], ["h0"]),
        node("GRU", ["x", "W", "R", "B", "", "h0"], ["y"], hidden_size=3),
        node("MatMul", ["start", "V"], ["z"]),
    ]
    source = model(nodes, {"x": ["T", 1, 4], "start": [1, 1, 4]}, ["y", "z"], weights)
    with pytest.raises(CannotStreamError, match=r"'h0' is computed from inputs\. Give it as an input") as caught:
        compile(source)
    assert [o.node for o in caught.value.obstacles] == ["GRU node 'GRU_y'"]


LENGTH = [node("Shape", ["x"], ["shape"]), node("Gather", ["shape", "axis"], ["t"])]


def by(*nodes):
    """y = Y · f(T), where the nodes compute f from t."""
    return [*LENGTH, *nodes, node("Cast", ["f"], ["factor"], to=TensorProto.FLOAT), node("Mul", ["Y", "factor"], ["y"])]


# What is the same for 29 and for 31 frames, and another model for some other number of them.
STAND_STILL = {
    "min(T, 10)": (by(node("Min", ["t", "n"], ["f"])), 10),
    "T > 1": (by(node("Greater", ["t", "n"], ["f"])), 1),
    "T > 40": (by(node("Greater", ["t", "n"], ["f"])), 40),
    "T > 600": (by(node("Greater", ["t", "n"], ["f"])), 600),
    "T // 512": (by(node("Div", ["t", "n"], ["f"])), 512),
    "T % 2": (by(node("Mod", ["t", "n"], ["f"])), 2),
    "[:512]": ([node("Slice", ["Y", "zero", "n", "axis"], ["y"])], 512),
    "[-40:]": ([node("Neg", ["n"], ["k"]), node("Slice", ["Y", "k", "end", "axis"], ["y"])], 40),
    "[:40][-1]": ([node("Slice", ["Y", "zero", "n", "axis"], ["c"]), node("Gather", ["c", "last"], ["y"])], 40),
    "padded with T > 40": (
        [
            *LENGTH,
            node("Greater", ["t", "n"], ["g"]),
            node("Cast", ["g"], ["f"], to=TensorProto.FLOAT),
            node("Squeeze", ["f"], ["fill"]),
            node("Pad", ["Y", "before", "fill"], ["y"]),
        ],
        40,
    ),
}


def limited(tail, n):
    constants = {"n": np.array([n]), "axis": np.array([0]), "zero": np.array([0]), "end": np.array([1 << 62])}
    constants |= {"last": np.array(-1), "before": np.array([0, 0, 0, 1, 0, 0, 0, 0])}
    return gru_model(["T", 1, I], tail, constants=constants)


@pytest.mark.parametrize("name", STAND_STILL)
def test_what_stands_still_between_two_lengths_and_moves_elsewhere_is_refused(name):
    with pytest.raises(CannotStreamError, match="frames beside"):
        places(limited(*STAND_STILL[name]))


@pytest.mark.parametrize("n", [1, 0])
def test_what_stands_still_at_every_length_streams(n):
    op = "Min" if n else "Greater"
    assert places(limited(by(node(op, ["t", "n"], ["f"])), n))["y"] == Time(0)
