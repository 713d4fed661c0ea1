"""The attributes of GRU, LSTM, RNN and Scan against ONNX's schemas and onnxruntime."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from export.graphs import CELLS, assert_close, cell, model, node, onnxruntime, rng, whole
from streamgru.errors import ModelError
from streamgru_export.compiler.compile import compile
from streamgru_export.compiler.graph.graph import Node
from streamgru_export.compiler.graph.operators import MAX_OPSET, MIN_OPSET
from streamgru_export.compiler.graph.recurrent import ACTIVATIONS, recurrent, scan
from streamgru_export.compiler.lower.activations import FUNCTIONS


def gru(op="GRU", **attrs):
    return Node(op, op, ["x", "W", "R"], ["Y"], attrs)


@pytest.mark.parametrize("op", list(CELLS))
@pytest.mark.parametrize("opset", [MIN_OPSET, 14, MAX_OPSET])
def test_defaults_are_those_of_the_schema(op, opset):
    schema = onnx.defs.get_schema(op, opset, "").attributes
    defaults = {k: onnx.helper.get_attribute_value(a.default_value) for k, a in schema.items() if a.default_value.name}
    form = recurrent(gru(op))
    assert form.direction == defaults["direction"].decode()
    assert form.linear_before_reset == defaults.get("linear_before_reset", 0)
    assert form.input_forget == defaults.get("input_forget", 0)
    assert form.batch_first == defaults.get("layout", 0)
    assert (form.clip, form.alphas, form.betas, form.time_axis) == (0.0, (), (), 0)
    assert form.activations == ACTIVATIONS[op]
    if op == "RNN":  # the one operator whose schema names them
        assert [a.decode() for a in defaults["activations"]] == ["Tanh", "Tanh"]


@pytest.mark.parametrize("name", [n for n in FUNCTIONS if n not in ("affine", "scaledtanh")])
def test_an_activations_numbers_default_to_those_of_the_operator_of_its_name(name):
    op = next(s for s in onnx.defs.get_all_schemas() if s.name.lower() == name and s.domain == "")
    defaults = {k: onnx.helper.get_attribute_value(a.default_value) for k, a in op.attributes.items()}
    ours = {k: np.float32(v) for k, v in zip(("alpha", "beta"), FUNCTIONS[name][1:], strict=True) if v is not None}
    assert ours == defaults


def test_bidirectional():
    form = recurrent(gru(direction="bidirectional", layout=1))
    assert (form.directions, form.reverse, form.is_forward, form.time_axis) == (2, (False, True), False, 1)
    assert form.activations == ("Sigmoid", "Tanh") * 2
    assert form.state_shape(3, 5) == (3, 2, 5)
    assert recurrent(gru(direction="reverse")).reverse == (True,)
    assert recurrent(gru(direction="reverse")).state_shape(3, 5) == (1, 3, 5)


@pytest.mark.parametrize("attrs", [
    {}, {"linear_before_reset": 1}, {"linear_before_reset": 2}, {"clip": 0.1}, {"direction": "reverse"},
    {"direction": "bidirectional"}, {"activations": ["SIGMOID", "tanH"]},
    {"activations": ["Tanh", "HardSigmoid"], "activation_alpha": [0.3]},
    {"activations": ["HardSigmoid", "LeakyRelu"], "activation_alpha": [0.3, 0.1], "activation_beta": [0.4]},
], ids=str)  # fmt: skip
def test_each_attribute_of_a_gru_against_onnxruntime(attrs):
    source, feeds = cell("GRU", rng(), **attrs)
    assert_close(whole(compile(source, mode="whole"), feeds), onnxruntime(source, feeds))


@pytest.mark.parametrize("attrs", [{}, {"input_forget": 1}, {"clip": 0.1}, {"direction": "reverse"}], ids=str)
def test_each_attribute_of_an_lstm_against_onnxruntime(attrs):
    source, feeds = cell("LSTM", rng(), **attrs)
    assert_close(whole(compile(source, mode="whole"), feeds), onnxruntime(source, feeds))


@pytest.mark.parametrize("op", list(CELLS))
def test_batch_first_is_the_same_transposed(op):
    """onnxruntime has no layout=1: the same weights with layout=0, and the axes exchanged."""
    source, feeds = cell(op, rng(), layout=1)
    plain, _ = cell(op, rng())
    expected = onnxruntime(plain, {"x": feeds["x"].transpose(1, 0, 2)})
    turned = {k: v.transpose((2, 0, 1, 3) if k == "Y" else (1, 0, 2)) for k, v in expected.items()}
    assert_close(whole(compile(source, mode="whole"), feeds), turned)


@pytest.mark.parametrize("attrs, why", [
    ({"direction": "sideways"}, "direction 'sideways'"), ({"clip": -1.0}, "clip=-1.0"), ({"layout": 2}, "layout=2"),
    ({"clip": float("nan")}, "clip=nan"),
])  # fmt: skip
def test_what_onnx_does_not_know_is_refused(attrs, why):
    with pytest.raises(ModelError, match=why):
        recurrent(gru(**attrs))


@pytest.mark.parametrize("count", [-1, 0, 4, 2**31 - 1, 2**62])
def test_a_scan_goes_through_some_of_its_inputs(count):
    """Nothing is made of a number that the file only says."""
    with pytest.raises(ModelError, match=f"Scan node 's': its 'num_scan_inputs' is {count}, and it has 3 inputs"):
        scan(Node("Scan", "s", ["h", "x", "z"], ["last", "y"], {"num_scan_inputs": count}))


def test_scan():
    inputs, outputs = ["h", "a", "b"], ["h_last", "y"]
    assert scan(Node("Scan", "", inputs, outputs, {"num_scan_inputs": 2})).input_axes == [0, 0]
    form = scan(Node("Scan", "", inputs, outputs, {
        "num_scan_inputs": 2, "scan_input_axes": [1, -1], "scan_input_directions": [0, 1],
        "scan_output_directions": [1],
    }))  # fmt: skip
    assert (form.scanned, form.input_axes, form.input_reverse) == (2, [1, -1], [False, True])
    assert (form.output_axes, form.output_reverse) == ([0], [True])


@pytest.mark.parametrize("attrs", [
    {"scan_input_axes": [-1]}, {"scan_input_axes": [1], "scan_input_directions": [1]}, {"scan_output_axes": [-1]},
    {"scan_output_axes": [1], "scan_output_directions": [1]},
], ids=str)  # fmt: skip
def test_the_axes_of_a_scan_against_onnxruntime(attrs):
    axis = attrs.get("scan_input_axes", [0])[0]
    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    n = x.shape[1 - axis % 2]
    info = [onnx.helper.make_tensor_value_info(k, onnx.TensorProto.FLOAT, [n]) for k in ("h", "xi", "h2", "yi")]
    body = onnx.helper.make_graph(
        [node("Add", ["h", "xi"], ["h2"]), node("Mul", ["h2", "xi"], ["yi"])], "body", info[:2], info[2:]
    )
    step = onnx.helper.make_node("Scan", ["h0", "x"], ["last", "y"], body=body, num_scan_inputs=1, **attrs)
    source = model([step], {"x": x.shape}, ["last", "y"], {"h0": np.zeros(n, np.float32)})
    assert_close(whole(compile(source, mode="whole"), {"x": x}), onnxruntime(source, {"x": x}))
