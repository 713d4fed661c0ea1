"""Thirty models that are misread on purpose: the certificate catches each, and says what was misread.

A misreading is an image of an altered graph, or of a graph bound as it should not be, that is held against the file as
it is. Nobody tells the certificate what was done.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto
from torch import nn

import streamgru
from export.graphs import CELLS, gru_weights, model, node, rng
from export.parity.recurrences import bound_to_one, over_loop, over_scan
from streamgru_export import export

IN, H, STEPS = 3, 4, 12
ORDER_GRU, ORDER_LSTM = (1, 0, 2), (0, 2, 3, 1)  # torch's r, z, n for ONNX's z, r, h; i, f, g, o for i, o, f, c


@dataclass(frozen=True)
class Misread:
    """A file, a stream that misreads it, and what the certificate must say."""

    file: onnx.ModelProto
    image: streamgru.Model
    reason: str
    module: nn.Module | None = None


def made(proto: onnx.ModelProto, **options: Any) -> streamgru.Model:
    return streamgru.Model(streamgru.compile(proto, **options).image)


def cell(
    op="GRU", x=("T", 1, IN), outputs=("Y",), order=None, constants=None, wired=None, before=(), after=(), **attributes
):
    """A recurrent node over x. `wired` names inputs of the node by their number, `order` permutes its gates."""
    weights = gru_weights(rng(), IN, H, gates=CELLS[op])
    if order is not None:
        for name, blocks in (("W", 1), ("R", 1), ("B", 2)):
            shape = weights[name].shape
            weights[name] = weights[name].reshape(1, blocks, len(order), H, -1)[:, :, list(order)].reshape(shape)
    names = ["x", "W", "R", "B", "", "", ""]
    for k, name in (wired or {}).items():
        names[k] = name
    if op == "GRU":
        attributes.setdefault("linear_before_reset", 1)
    results = ["Y", "Y_h", "Y_c"][: 3 if op == "LSTM" else 2]
    nodes = [*before, node(op, names[: 7 if op == "LSTM" else 6], results, hidden_size=H, **attributes), *after]
    inputs = {"x": x, **{n: s for n, s in (constants or {}).items() if isinstance(s, tuple)}}
    held = {**weights, **{n: v for n, v in (constants or {}).items() if not isinstance(v, tuple)}}
    dtypes = {"lens": TensorProto.INT32, "longs": TensorProto.INT64}
    return model(nodes, inputs, outputs, held, dtypes=dtypes)


def reset(seed=3):
    return np.random.default_rng(seed).normal(size=(1, 1, H)).astype(np.float32)


BATCH, TIME = "{}, which the stream takes for a batch", "{}, which the stream takes for time"
MISREAD = {}


def misread(make):
    MISREAD[make.__name__] = make
    return make


# Time for a batch


@misread
def a_scan_along_a_batch():
    file = over_scan("L")
    return Misread(
        file, bound_to_one(file, "L"), "carries memory along axis 0 of 'x' ('L'), which the stream takes for a batch"
    )


@misread
def a_loop_along_a_batch():
    file = over_loop("unk__1")
    return Misread(file, bound_to_one(file, "unk__1"), "carries memory along axis 1 of 'x' ('unk__1'), which")


@misread
def a_gru_along_a_batch():
    file = cell(x=("unk__7", 1, IN))
    return Misread(file, bound_to_one(file, "unk__7"), "takes for a batch: time_axis={'x': 0}")


@misread
def an_lstm_along_an_axis_without_a_name():
    file = cell("LSTM", x=(None, 1, IN))
    return Misread(
        file, bound_to_one(file, None), "carries memory along axis 0 of 'x' (unnamed), which the stream takes"
    )


@misread
def a_running_sum_along_a_batch():
    file = model([node("CumSum", ["x", "axis"], ["y"])], {"x": ["N", IN]}, ["y"], {"axis": np.array(0)})
    return Misread(file, bound_to_one(file, "N"), "carries memory along axis 0 of 'x' ('N')")


@misread
def a_causal_convolution_along_a_batch():
    kernel = {"K": rng().normal(size=(2, IN, 3)).astype(np.float32)}
    file = model([node("Conv", ["x", "K"], ["y"], pads=[2, 0])], {"x": [1, IN, "B"]}, ["y"], kernel)
    return Misread(file, bound_to_one(file, "B"), "carries memory along axis 2 of 'x' ('B')")


@misread
def a_last_state_along_a_batch():
    file = cell(x=("n", 1, IN), outputs=("Y_h",))
    return Misread(file, bound_to_one(file, "n"), "carries memory along axis 0 of 'x' ('n')")


@misread
def a_batch_in_a_stream():
    """The batch is carried through as if it were time."""
    image = made(turned((1, "N", IN)), time_axis={"x": 1})
    return Misread(cell(x=(1, "N", IN)), image, TIME.format("keeps no memory along axis 1 of 'x' ('N')"))


def turned(x):
    """The cell along the other axis."""
    before = [node("Transpose", ["x"], ["t"], perm=[1, 0, 2])]
    other = cell(x=x, before=before, after=[node("Transpose", ["Y0"], ["Y"], perm=[2, 1, 0, 3])], wired={0: "t"})
    other.graph.node[1].output[0] = "Y0"
    return other


# States lost


@misread
def memory_that_is_lost_at_every_frame():
    """Every frame is an entry of a batch of the cell, so none follows another."""
    return Misread(
        cell(), made(turned(("T", 1, IN)), time_axis={"x": 0}), "from reset at every frame: no memory is kept"
    )


@misread
def a_state_that_is_not_taken():
    file = cell(x=(1, 1, IN), constants={"h": (1, 1, H)}, wired={5: "h"}, outputs=("Y", "Y_h"))
    without = cell(x=(1, 1, IN), outputs=("Y", "Y_h"))
    return Misread(file, made(without, state=[]), "does not take the input 'h', and the graph's results depend on it")


@misread
def a_cell_of_an_lstm_that_is_lost():
    states = {"h": (1, 1, H), "c": (1, 1, H)}
    file = cell("LSTM", (1, 1, IN), ("Y", "Y_h", "Y_c"), constants=states, wired={5: "h", 6: "c"})
    zero = [node("Mul", ["c", "nothing"], ["c0"])]
    lost = cell(
        "LSTM",
        (1, 1, IN),
        ("Y", "Y_h", "Y_c"),
        constants={**states, "nothing": np.float32(0)},
        wired={5: "h", 6: "c0"},
        before=zero,
    )
    return Misread(
        file, made(lost, state=[("h", "Y_h"), ("c", "Y_c")]), "with zeros as the initial c of LSTM node 'LSTM_Y'"
    )


@misread
def a_state_that_is_lost_now_and_then():
    """A stream that begins anew every four frames, as one that was bound to four at a time does."""
    return Misread(cell(), Anew(made(cell())), "from reset every 4 frames")


class Anew(streamgru.Model):
    """Streams that are reset every four frames."""

    def __init__(self, right):
        vars(self).update(vars(right))

    def stream(self, **options):
        return Wrapped(super().stream(**options))


class Wrapped:
    def __init__(self, stream):
        self.inner, self.steps = stream, 0

    @property
    def state(self):
        return self.inner.state

    def step(self, x):
        if self.steps and self.steps % 4 == 0:
            self.inner.reset()
        self.steps += 1
        return self.inner.step(x)

    def run(self, x):
        return np.stack([self.step(np.ascontiguousarray(frame)) for frame in x])


# States, inputs and outputs in each other's place


@misread
def the_two_states_of_an_lstm():
    torch.manual_seed(5)
    module = nn.LSTM(IN, H).eval()
    file = exported(module, (torch.zeros(1, 1, IN), (torch.zeros(1, 1, H), torch.zeros(1, 1, H))))
    (h, h_out), (c, c_out) = (state.source for state in made(file).states)
    return Misread(
        file,
        made(file, state=[(h, c_out), (c, h_out)]),
        f"With state=[({h!r}, {h_out!r}), ({c!r}, {c_out!r})] they do",
        module,
    )


@misread
def the_states_of_two_layers():
    torch.manual_seed(5)
    module = Two().eval()
    file = exported(module, (torch.zeros(1, 1, IN), torch.zeros(1, 1, H), torch.zeros(1, 1, H)), **NAMES)
    (a, a_out), (b, b_out) = (state.source for state in made(file).states)
    return Misread(
        file,
        made(file, state=[(a, b_out), (b, a_out)]),
        f"With state=[({a!r}, {a_out!r}), ({b!r}, {b_out!r})] they do",
        module,
    )


NAMES = {
    "input_names": ["x", "a", "b"], "output_names": ["y", "a_out", "b_out"], "state": [("a", "a_out"), ("b", "b_out")]
}  # fmt: skip


class Two(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = nn.GRU(IN, H), nn.GRU(H, H)

    def forward(self, x, a, b):
        y, a = self.first(x, a)
        y, b = self.second(y, b)
        return y, a, b


def exported(module, example, **options):
    with TemporaryDirectory() as folder:
        export(module, example, Path(folder) / "net.onnx", stream="step", exporter="legacy", **options)
        return onnx.load(Path(folder) / "net.onnx")


@misread
def two_outputs_in_each_others_place():
    squares = [node("Mul", ["Y", "Y"], ["S"])]
    file = cell(outputs=("Y", "S"), after=squares)
    other = cell(outputs=("Y", "S"), after=squares)
    for node_ in other.graph.node:
        for k, name in enumerate(node_.output):
            node_.output[k] = {"Y": "S", "S": "Y"}.get(name, name)
        for k, name in enumerate(node_.input):
            node_.input[k] = {"Y": "S", "S": "Y"}.get(name, name)
    return Misread(file, made(other), "with its outputs 'Y' and 'S' exchanged")


@misread
def two_inputs_in_each_others_place():
    def subtracted(a, b):
        return cell(constants={"u": ("T", 1, IN)}, before=[node("Sub", [a, b], ["d"])], wired={0: "d"})

    return Misread(subtracted("x", "u"), made(subtracted("u", "x")), "with its inputs 'x' and 'u' exchanged")


# Late


def delayed(frames, into="y"):
    """The cell's output that many frames later: a causal convolution with one tap."""
    taps = np.zeros((H, 1, frames + 1), np.float32)
    taps[:, 0, 0] = 1
    after = [
        node("Reshape", ["Y", "flat"], ["f"]), node("Transpose", ["f"], ["c"], perm=[1, 2, 0]),
        node("Conv", ["c", "taps"], ["d"], pads=[frames, 0], group=H), node("Transpose", ["d"], ["y"], perm=[2, 0, 1]),
    ]  # fmt: skip
    return cell(after=after, outputs=("y",), constants={"flat": np.array([-1, 1, H]), "taps": taps})


@misread
def an_output_a_frame_late():
    return Misread(delayed(0), made(delayed(1)), "1 frame earlier: it is late")


@misread
def an_output_two_frames_late():
    return Misread(delayed(0), made(delayed(2)), "2 frames earlier: it is late")


@misread
def an_output_a_frame_early():
    return Misread(delayed(1), made(delayed(0)), "1 frame later: it is early")


# The other way


@misread
def a_gru_that_runs_backward():
    return Misread(cell(direction="reverse"), made(cell()), "with direction=forward in GRU node 'GRU_Y'")


@misread
def an_lstm_that_runs_backward():
    return Misread(
        cell("LSTM", direction="reverse"), made(cell("LSTM")), "the graph looks ahead along axis 0 of 'x' ('T')"
    )


@misread
def the_backward_half_of_a_bidirectional_gru():
    both = gru_weights(rng(), IN, H, 2)
    gru = node(
        "GRU", ["x", "W", "R", "B"], ["Y", "Y_h"], hidden_size=H, linear_before_reset=1, direction="bidirectional"
    )
    file = model([gru], {"x": ["T", 1, IN]}, ["Y"], both)
    halves, constants = [], {}
    for k in range(2):
        constants |= {f"{name}{k}": value[k : k + 1] for name, value in both.items()}
        halves.append(
            node("GRU", ["x", f"W{k}", f"R{k}", f"B{k}"], [f"Y{k}", f"h{k}"], hidden_size=H, linear_before_reset=1)
        )
    join = node("Concat", ["Y0", "Y1"], ["Y"], axis=1)
    forward = model([*halves, join], {"x": ["T", 1, IN]}, ["Y"], constants)
    return Misread(
        file, made(forward), "the graph looks ahead along axis 0 of 'x' ('T'), which the stream takes for time"
    )


# Lengths


@misread
def lengths_that_are_constant():
    file = cell(x=(6, 1, IN), constants={"lens": np.array([4], np.int32)}, wired={4: "lens"})
    return Misread(file, made(cell(x=(6, 1, IN))), "without the sequence_lens of GRU node 'GRU_Y'")


@misread
def lengths_that_are_not_taken():
    file = cell(constants={"lens": (1,)}, wired={4: "lens"})
    return Misread(file, made(cell()), "does not take the input 'lens', which says how long the sequences are")


@misread
def lengths_that_are_taken_and_forgotten():
    cast = [node("Cast", ["longs"], ["l"], to=TensorProto.INT32)]
    file = cell(constants={"longs": (1,)}, wired={4: "l"}, before=cast)
    as_float = [
        node("Cast", ["longs"], ["f"], to=TensorProto.FLOAT),
        node("Mul", ["f", "zero"], ["z"]),
        node("Add", ["Y0", "z"], ["Y"]),
    ]
    ignoring = cell(constants={"longs": (1,), "zero": np.float32(0)}, after=as_float)
    ignoring.graph.node[0].output[0] = "Y0"
    return Misread(file, made(ignoring), "without the sequence_lens of GRU node 'GRU_Y'")


# What a stream begins with


@misread
def a_reset_value_of_a_gru():
    return Misread(
        cell(constants={"h0": reset()}, wired={5: "h0"}), made(cell()), "with zeros as the initial state of GRU"
    )


@misread
def a_reset_value_of_a_plain_cell():
    file = cell("RNN", constants={"h0": reset()}, wired={5: "h0"})
    return Misread(file, made(cell("RNN")), "with zeros as the initial state of RNN node 'RNN_Y'")


@misread
def one_of_two_reset_values_of_an_lstm():
    both = cell("LSTM", constants={"h0": reset(), "c0": reset(4)}, wired={5: "h0", 6: "c0"})
    one = cell("LSTM", constants={"h0": reset()}, wired={5: "h0"})
    return Misread(both, made(one), "with zeros as the initial c of LSTM node 'LSTM_Y'")


# The cell


@misread
def gates_of_a_gru_in_torchs_order():
    return Misread(cell(), made(cell(order=ORDER_GRU)), "with its gates in the order rzh, not zrh, in GRU node 'GRU_Y'")


@misread
def gates_of_an_lstm_in_torchs_order():
    return Misread(
        cell("LSTM"), made(cell("LSTM", order=ORDER_LSTM)), "with its gates in the order ifco, not iofc, in LSTM"
    )


@misread
def a_reset_before_the_product():
    return Misread(cell(), made(cell(linear_before_reset=0)), "with the other linear_before_reset in GRU node 'GRU_Y'")


@misread
def a_reset_behind_the_product():
    return Misread(cell(linear_before_reset=0), made(cell()), "with the other linear_before_reset in GRU node 'GRU_Y'")


@misread
def activations_that_are_the_usual_ones():
    other = cell(activations=["HardSigmoid", "Tanh"])
    return Misread(other, made(cell()), "without the attribute activations of GRU node 'GRU_Y'")


# A length that was burnt in


@misread
def four_frames_at_a_time_from_reset():
    image = made(cell(), mode="whole", length=4)
    image.metadata = {**image.metadata, "kind": "step"}
    return Misread(cell(), image, BATCH.format("carries memory along axis 0 of 'x' ('T')"))


@misread
def a_scale_of_one_length():
    shape = [
        node("Shape", ["x"], ["s"]),
        node("Gather", ["s", "zero"], ["n"], axis=0),
        node("Cast", ["n"], ["f"], to=TensorProto.FLOAT),
    ]
    divided = node("Div", ["Y", "f"], ["y"])
    file = cell(after=[*shape, divided], outputs=("y",), constants={"zero": np.array(0)})
    baked = cell(after=[divided], outputs=("y",), constants={"f": np.float32(STEPS)})
    return Misread(
        file,
        made(baked),
        TIME.format("depend on the length of axis 0 of 'x' ('T')"),
    )


def test_the_table_has_thirty_at_least():
    assert len(MISREAD) >= 30


@pytest.mark.parametrize("name", MISREAD)
def test_it_is_caught_with_its_reason(name, tmp_path):
    case = MISREAD[name]()
    onnx.save(case.file, tmp_path / "net.onnx")
    report = streamgru.parity(case.image, case.module, onnx=tmp_path / "net.onnx", steps=STEPS)
    assert report.verdict == "does not hold", report.text()
    assert any(case.reason in reason for reason in report.reasons), report.reasons


# Files that no stream follows, or only one that is told how long the sequence is.
NOT_FOLLOWED = {
    "a_scan_along_a_batch", "a_loop_along_a_batch", "a_running_sum_along_a_batch", "a_gru_that_runs_backward",
    "an_lstm_that_runs_backward", "the_backward_half_of_a_bidirectional_gru", "lengths_that_are_constant",
    "lengths_that_are_not_taken", "lengths_that_are_taken_and_forgotten", "a_scale_of_one_length",
}  # fmt: skip
# What the compiler must be told of the others.
TOLD = {
    "a_gru_along_a_batch": {"time_axis": {"x": 0}},
    "an_lstm_along_an_axis_without_a_name": {"time_axis": {"x": 0}},
    "a_causal_convolution_along_a_batch": {"time_axis": {"x": 2}},
    "a_last_state_along_a_batch": {"time_axis": {"x": 0}},
}


OF_ONE_FRAME = {"a_batch_in_a_stream"}  # and the state inside: nobody else can take a second


@pytest.mark.parametrize("name", [name for name in MISREAD if name not in NOT_FOLLOWED])
def test_the_same_file_read_rightly_is_not_blamed(name, tmp_path):
    case = MISREAD[name]()
    onnx.save(case.file, tmp_path / "net.onnx")
    right = made(case.file, **TOLD.get(name, {}))
    report = streamgru.parity(right, case.module, onnx=tmp_path / "net.onnx", steps=STEPS)
    assert report.verdict == ("partial" if name in OF_ONE_FRAME else "holds"), report.text()
