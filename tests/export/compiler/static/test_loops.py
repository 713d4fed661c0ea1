"""Loop and Scan: bodies that are GRUs become GRUs over all steps, short ones of another kind are written out."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from export.cells import TOLERANCE, Fused, H, I, Separate, exported, grus
from export.graphs import assert_close, model, onnxruntime, stream, whole
from streamgru.errors import ModelError
from streamgru_export.compiler.compile import compile

SEED, T = 31, 6
node = helper.make_node
FLOAT, INT64, BOOL = TensorProto.FLOAT, TensorProto.INT64, TensorProto.BOOL


def weights():
    print(f"seed {SEED}")
    r = np.random.default_rng(SEED)
    shapes = {"W": (I, 3 * H), "U": (H, 3 * H), "b": (3 * H,), "c": (3 * H,), "V": (H, 2)}
    return {k: (r.normal(size=s) / 3).astype(np.float32) for k, s in shapes.items()} | {"one": np.float32(1)}


def cell(x, h, new, wrong=False):
    """Keras's GRU cell, reset_after: z, r, h."""
    return [
        node("MatMul", [x, "W"], ["xw"]), node("Add", ["xw", "b"], ["a"]),
        node("MatMul", [h, "U"], ["hu"]), node("Add", ["hu", "c"], ["d"]),
        node("Split", ["a"], ["az", "ar", "an"], axis=-1, num_outputs=3),
        node("Split", ["d"], ["dz", "dr", "dn"], axis=-1, num_outputs=3),
        node("Add", ["az", "dz"], ["sz"]), node("Sigmoid", ["sz"], ["z"]),
        node("Add", ["ar", "dr"], ["sr"]), node("Sigmoid", ["sr"], ["r"]),
        node("Mul", ["r", "dn"], ["q"]), node("Add", ["an", "q"], ["sn"]), node("Tanh", ["sn"], ["n"]),
        node("Mul", ["z", h], ["p"]), node("Sub", ["one", "z"], ["y1"]),
        node("Mul", ["y1", "n"], ["y2"]), node("Sub" if wrong else "Add", ["p", "y2"], [new]),
    ]  # fmt: skip


def gru64(x, h, w, names="WUbc"):
    """The same in float64: [T, I] from h [H]; the new states [T, H]."""
    (W, U, b, c), states = (w[name].astype(np.float64) for name in names), []
    for x_t in x.astype(np.float64):
        (az, ar, an), (dz, dr, dn) = np.split(x_t @ W + b, 3), np.split(h @ U + c, 3)
        z, r = 1 / (1 + np.exp(-az - dz)), 1 / (1 + np.exp(-ar - dr))
        h = (1 - z) * np.tanh(an + r * dn) + z * h
        states.append(h)
    return np.stack(states)


def value(name, shape=None, dtype=FLOAT):
    return helper.make_tensor_value_info(name, dtype, shape)


def keras_loop(m="limit", wrong=False, counted=True, initial="zeros", extra=()):
    """What tf2onnx makes of Keras's GRU: a while loop that counts, reads a frame, carries its last output along."""
    body = [
        node("Gather", ["frames", "time"], ["x_t"], axis=0),
        *cell("x_t", "h", "h_new", wrong),
        node("Add", ["time", "step"], ["time_new"]),
        node("Less", ["time_new", "count"] if counted else ["time_new", "never"], ["go_on"]),
        node("Identity", ["h_new"], ["frame"]),
        node("Identity", ["h_new"], ["last_new"]),
        *extra,
    ]
    graph = helper.make_graph(
        body, "body",
        [value("i", [], INT64), value("go", [], BOOL), value("time", [], INT64), value("last"), value("h")],
        [value("go_on", [], BOOL), value("time_new", [], INT64), value("last_new"), value("h_new"), value("frame")],
    )  # fmt: skip
    nodes = [
        node("Transpose", ["x"], ["frames"], perm=[1, 0, 2]),
        node("Shape", ["frames"], ["shape"]), node("Gather", ["shape", "zero"], ["count"]),
        node("Loop", [m, "true", "zero", initial, initial], ["time_end", "last_end", "h_end", "all"],
        body=graph, name="while"),
        node("MatMul", ["all", "V"], ["y_t"]), node("Transpose", ["y_t"], ["y"], perm=[1, 0, 2]),
        node("Identity", ["last_end"], ["hn"]),
    ]  # fmt: skip
    constants = weights() | {
        "limit": np.int64(2**63 - 1), "true": np.bool_(True), "zero": np.int64(0), "step": np.int64(1),
        "never": np.int64(10**6), "zeros": np.zeros((1, H), np.float32),
        "learned": np.linspace(-1, 1, H, dtype=np.float32)[None],
    }  # fmt: skip
    return model(nodes, {"x": [1, "time", I]}, ["y", "hn"], constants, opset=18)


def frames(steps=T):
    print(f"seed {SEED}")
    return {"x": np.random.default_rng(SEED).normal(size=(1, steps, I)).astype(np.float32)}


def assert_streams(source, x, exact, count=1):
    compiled = compile(source)
    assert [(g["T"], g["lbr"]) for g in grus(compiled)] == [(1, 1)] * count
    assert (compiled.kind, len(compiled.states)) == ("sequence", count)
    assert sum("is a GRU over all its steps" in note.text for note in compiled.notes) == count
    expected = onnxruntime(source, x)
    assert_close(stream(compiled, x), expected, TOLERANCE)
    assert_close(stream(compiled, x), exact, TOLERANCE)
    steps = next(iter(x.values())).shape[next(a for a in compiled.time_axis.values() if a is not None)]
    complete = compile(source, mode="whole", length=steps)
    assert [g["T"] for g in grus(complete)] == [steps] * count
    assert_close(whole(complete, x), expected, TOLERANCE)


# ---- Loop ----


@pytest.mark.parametrize("initial", ["zeros", "learned"])
def test_a_keras_loop_streams(initial):
    assert_streams(keras_loop(initial=initial), frames(), keras64(initial))


def test_a_loop_that_only_m_ends_streams():
    assert_streams(keras_loop(m="count", counted=False), frames(), keras64("zeros"))


def keras64(initial):
    w = weights()
    h = gru64(frames()["x"][0], np.zeros(H) if initial == "zeros" else np.linspace(-1, 1, H, dtype=np.float32), w)
    return {"y": (h @ w["V"])[None], "hn": h[-1:]}


def test_a_body_that_is_nearly_a_gru_is_written_out():
    source, x = keras_loop(wrong=True), frames()
    compiled = compile(source, mode="whole", length=T)
    assert grus(compiled) == []
    assert_close(whole(compiled, x), onnxruntime(source, x), TOLERANCE)
    with pytest.raises(ModelError, match=r"cannot stream.*'while'"):
        compile(source)


class Scripted(nn.Module):
    """A scripted loop that appends to a list."""

    def __init__(self, inner):
        super().__init__()
        self.cell = inner

    def forward(self, x, h):
        outs: list[torch.Tensor] = []
        for t in range(x.size(1)):
            h = self.cell(x[:, t], h)
            outs.append(h)
        return torch.stack(outs, 1), h


class ScriptedCell(nn.Module):
    def __init__(self):
        super().__init__()
        self.x, self.h = nn.Linear(I, 3 * H), nn.Linear(H, 3 * H)

    def forward(self, x, h):
        ar, az, an = self.x(x).chunk(3, 1)
        br, bz, bn = self.h(h).chunk(3, 1)
        z = torch.sigmoid(az + bz)
        return (1 - z) * torch.tanh(an + torch.sigmoid(ar + br) * bn) + z * h


def test_a_scripted_loop_streams():
    torch.manual_seed(SEED)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        module = torch.jit.script(Scripted(ScriptedCell()).eval())
    source = exported(module, (torch.randn(1, 5, I), torch.zeros(1, H)), (["x", "h"], ["y", "hn"]), False,
                      {"x": {1: "time"}, "y": {1: "time"}})  # fmt: skip
    compiled, x = compile(source), frames()
    assert compiled.pairs == [("h", "hn")]
    assert [g["T"] for g in grus(compiled)] == [1]
    expected = onnxruntime(source, {**x, "h": np.zeros((1, H), np.float32)})
    assert_close(stream(compiled, x), {"y": expected["y"]}, TOLERANCE)


# ---- Scan ----


def scan(axis=0, reverse=0, out_axis=0, nodes=None, states=1, constants=()):
    body_nodes = nodes or [*cell("x_t", "h", "h_new"), node("MatMul", ["h_new", "V"], ["y_t"])]
    body = helper.make_graph(
        body_nodes, "body", [*(value(f"h{'' if i == 0 else i}") for i in range(states)), value("x_t")],
        [*(value(f"h{'' if i == 0 else i}_new") for i in range(states)), value("y_t")],
    )  # fmt: skip
    scanned = node("Scan", [*["zeros"] * states, "x"], [*(f"hn{i}" for i in range(states)), "y"],
    body=body, name="scan",
                   num_scan_inputs=1, scan_input_axes=[axis], scan_input_directions=[reverse],
                   scan_output_axes=[out_axis], scan_output_directions=[reverse])  # fmt: skip
    shape = [1, I]
    shape.insert(axis, "time")
    known = weights() | {"zeros": np.zeros((1, H), np.float32)} | dict(constants)
    return model([scanned], {"x": shape}, [*(f"hn{i}" for i in range(states)), "y"], known, opset=18)


def scanned_frames(axis):
    return {"x": np.moveaxis(frames()["x"][0][:, None], 0, axis)}


@pytest.mark.parametrize("axis, out_axis", [(0, 0), (1, 1), (1, -2)])
def test_a_scan_streams(axis, out_axis):
    w = weights()
    h = gru64(frames()["x"][0], np.zeros(H), w)
    exact = {"hn0": h[-1:], "y": np.moveaxis((h @ w["V"])[:, None], 0, out_axis)}
    assert_streams(scan(axis, 0, out_axis), scanned_frames(axis), exact)


def test_a_scan_from_the_end_runs_whole():
    source, x = scan(reverse=1), scanned_frames(0)
    with pytest.raises(ModelError, match="cannot stream"):
        compile(source)
    compiled = compile(source, mode="whole", length=T)
    assert [g["T"] for g in grus(compiled)] == [T]
    assert_close(whole(compiled, x), onnxruntime(source, x), TOLERANCE)


def test_a_scan_over_two_cells_streams():
    def renamed(nodes, suffix, keep):
        for n in nodes:
            for names in (n.input, n.output):
                names[:] = [name if name in keep else name + suffix for name in names]
        return nodes

    keep = {"x_t", "h", "h_new", "h1", "h1_new", "W", "U", "b", "c", "one", "W1"}
    second = renamed(cell("h_new", "h1", "h1_new"), "_second", keep)
    for n in second:
        n.input[:] = ["W1" if name == "W" else name for name in n.input]
    nodes = [
        *cell("x_t", "h", "h_new"),
        *second,
        node("Add", ["h_new", "h1_new"], ["sum"]),
        node("Relu", ["sum"], ["y_t"]),
    ]
    w = np.random.default_rng(SEED + 1).normal(size=(H, 3 * H)).astype(np.float32) / 3
    known = weights() | {"W1": w}
    first = gru64(frames()["x"][0], np.zeros(H), known)
    last = gru64(first, np.zeros(H), known, ("W1", *"Ubc"))
    exact = {"hn0": first[-1:], "hn1": last[-1:], "y": np.maximum(first + last, 0)[:, None]}
    assert_streams(scan(nodes=nodes, states=2, constants={"W1": w}), scanned_frames(0), exact, count=2)


class Higher(nn.Module):
    """torch's own scan."""

    def __init__(self, inner, seen=False):
        super().__init__()
        self.cell, self.seen = inner, seen

    def forward(self, x, h):
        from torch._higher_order_ops.scan import scan as higher_scan

        def step(h, x):
            new = self.cell(x, h)
            return new, (new + h if self.seen else new.clone())

        hn, y = higher_scan(step, h, x, dim=0)
        return y, hn


@pytest.mark.parametrize("inner, lbr", [(Fused, 1), (lambda: Separate("(1-z)*h+z*n", before=True), 0)])
def test_torch_scan_streams(inner, lbr):
    torch.manual_seed(SEED)
    source = exported(Higher(inner()), (torch.randn(4, 1, I), torch.zeros(1, H)), (["x", "h"], ["y", "hn"]), True)
    compiled = compile(source, mode="whole")
    assert [(g["T"], g["lbr"]) for g in grus(compiled)] == [(4, lbr)]
    x = {"x": scanned_frames(0)["x"][:4], "h": np.full((1, H), 0.3, np.float32)}
    assert_close(whole(compiled, x), onnxruntime(source, x), TOLERANCE)


def test_a_step_that_shows_the_state_before_it_is_written_out():
    torch.manual_seed(SEED)
    source = exported(Higher(Fused(), True), (torch.randn(4, 1, I), torch.zeros(1, H)), (["x", "h"], ["y", "hn"]), True)
    compiled = compile(source, mode="whole")
    assert sum(g["T"] for g in grus(compiled)) == 4
    x = {"x": scanned_frames(0)["x"][:4], "h": np.full((1, H), 0.3, np.float32)}
    assert_close(whole(compiled, x), onnxruntime(source, x), TOLERANCE)


# ---- loops that are no GRUs, and If ----


def power_loop(count, condition="go", initial_go=True):
    """x · 2ⁿ, stacking what every step has; may stop where a counter says so."""
    body = helper.make_graph(
        [node("Add", ["v", "v"], ["v_new"]), node("Less", ["i", "three"], ["early"]), node("Identity", ["go"],
        ["late"]),
         node("ReduceMax", ["v_new"], ["top"], keepdims=0), node("Less", ["top", "big"], ["data"]),
         node("Identity", ["v_new"], ["seen"])],
        "body", [value("i", [], INT64), value("go", [], BOOL), value("v")],
        [value({"go": "late"}.get(condition, condition), [], BOOL), value("v_new"), value("seen")],
    )  # fmt: skip
    loop = node("Loop", ["n", "first"], ["end", "all"], body=body, name="doubling")
    loop.input.append("x")
    constants = {"n": np.int64(count), "first": np.bool_(initial_go), "three": np.int64(2), "big": np.float32(9)}
    return model([loop], {"x": [1, 2]}, ["end", "all"], constants, opset=17)


@pytest.mark.parametrize("count, condition, steps", [(4, "go", 4), (9, "early", 3), (2, "early", 2)])
def test_a_short_loop_is_written_out(count, condition, steps):
    source, x = power_loop(count, condition), {"x": np.float32([[1.5, -2]])}
    compiled = compile(source, mode="whole")
    assert compiled.outputs["all"] == (steps, 1, 2)
    assert_close(whole(compiled, x), onnxruntime(source, x), 0.0)


@pytest.mark.parametrize(
    "source, message",
    [
        (lambda: power_loop(4, "data"), "'doubling'.*depends on the data"),
        (lambda: power_loop(10**4), "'doubling'.*10000 nodes.*one step"),
        (lambda: power_loop(2**62), "'doubling'.*one step"),
        (lambda: power_loop(4, initial_go=False), "'doubling'.*no step.*'all'"),
    ],
)
def test_a_loop_that_cannot_be_compiled_is_refused(source, message):
    with pytest.raises(ModelError, match=message):
        compile(source(), mode="whole")


def test_a_body_that_does_not_fit_is_refused():
    body = helper.make_graph([], "body", [], [value("c", [], BOOL)])
    source = model([node("Loop", ["n", "c"], ["y"], name="loop", body=body)], {"x": [1]}, ["y"],
                   {"n": np.array(3), "c": np.array(True)})  # fmt: skip
    with pytest.raises(ModelError, match=r"'loop'.*does not fit"):
        compile(source)


def test_an_if_in_a_loop_whose_condition_is_the_number_of_the_step():
    then = helper.make_graph([node("Neg", ["v"], ["negative"])], "then", [], [value("negative")])
    otherwise = helper.make_graph([node("Add", ["v", "x"], ["more"])], "else", [], [value("more")])
    body = helper.make_graph(
        [node("Equal", ["i", "second"], ["is_second"]),
         node("If", ["is_second"], ["v_new"], then_branch=then, else_branch=otherwise), node("Identity", ["go"],
         ["on"])],
        "body", [value("i", [], INT64), value("go", [], BOOL), value("v")], [value("on", [], BOOL), value("v_new")],
    )  # fmt: skip
    source = model([node("Loop", ["n", "", "x"], ["y"], body=body)], {"x": [1, 2]}, ["y"],
                   {"n": np.int64(4), "second": np.int64(1)})  # fmt: skip
    x = {"x": np.float32([[1.5, -2]])}
    assert_close(whole(compile(source, mode="whole"), x), onnxruntime(source, x), 0.0)


def test_an_if_whose_condition_depends_on_the_data_is_refused():
    branch = [helper.make_graph([node("Neg", ["x"], [o])], o, [], [value(o)]) for o in "ab"]
    nodes = [node("Less", ["x", "zero"], ["less"]),
             node("If", ["less"], ["y"], name="choice", then_branch=branch[0], else_branch=branch[1])]  # fmt: skip
    source = model(nodes, {"x": [1]}, ["y"], {"zero": np.zeros(1, np.float32)})
    with pytest.raises(ModelError, match=r"'choice'.*depends on the data"):
        compile(source)


def test_sequences_of_known_length():
    nodes = [
        node("SequenceEmpty", [], ["s0"]), node("SequenceInsert", ["s0", "x"], ["s1"]),
        node("Neg", ["x"], ["m"]), node("SequenceInsert", ["s1", "m", "zero"], ["s2"]),
        node("SequenceConstruct", ["x", "m"], ["s3"]), node("SequenceAt", ["s3", "last"], ["at"]),
        node("SequenceErase", ["s2", "zero"], ["s4"]), node("SequenceLength", ["s4"], ["length"]),
        node("ConcatFromSequence", ["s2"], ["joined"], axis=1), node("ConcatFromSequence", ["s2"], ["new"],
        axis=-1, new_axis=1),
    ]  # fmt: skip
    source = model(nodes, {"x": [2, 3]}, ["joined", "new", "at", "length"], {"zero": np.int64(0), "last": np.int64(-1)},
                   dtypes={"length": INT64})  # fmt: skip
    x = {"x": np.random.default_rng(1).normal(size=(2, 3)).astype(np.float32)}
    assert_close(whole(compile(source, mode="whole"), x), onnxruntime(source, x), 0.0)


@pytest.mark.parametrize("count", [1, 3])
def test_a_loop_may_read_what_lies_outside(count):
    """A constant of the body, a value from outside, and a state that never changes."""
    body = helper.make_graph(
        [node("Mul", ["v", "k"], ["a"]), node("Add", ["a", "outside"], ["b"]), node("Add", ["b", "same"], ["v_new"]),
         node("Identity", ["go"], ["on"]), node("Identity", ["same"], ["same_new"])],
        "body", [value("i", [], INT64), value("go", [], BOOL), value("v"), value("same")],
        [value("on", [], BOOL), value("v_new"), value("same_new")], [numpy_helper.from_array(np.float32([[2, 3]]),
        "k")],
    )  # fmt: skip
    nodes = [node("Abs", ["x"], ["outside"]), node("Loop", ["n", "", "x", "x"], ["y", "z"], body=body)]
    source = model(nodes, {"x": [1, 2]}, ["y", "z"], {"n": np.int64(count)})
    x = {"x": np.float32([[1.5, -2]])}
    assert_close(whole(compile(source, mode="whole"), x), onnxruntime(source, x), 0.0)
