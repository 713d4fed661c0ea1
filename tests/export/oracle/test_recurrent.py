"""The float64 operators against everything else that implements them: torch, onnxruntime, ONNX's own node
tests.

Where these disagree, the test says who is right and why.
"""

from __future__ import annotations

import importlib
import warnings
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from onnx import TensorProto, helper
from onnx.backend.test.case import node as node_cases
from torch import nn

from streamgru_export.oracle.activations import ACTIVATIONS, sigmoid
from streamgru_export.oracle.model import Float64Model
from streamgru_export.oracle.recurrent import gru, lstm, rnn

SEED = 7
EXACT = 1e-13  # float64 against float64, some ten products deep: a few hundred roundings of 1e-16
SINGLE = 2e-6  # float64 against onnxruntime's float32: values within ±3, some ten steps
PUBLISHED = 1e-6  # against expected values that ONNX publishes in float32

T, B, I, H = 7, 4, 3, 5  # noqa: E741  ONNX calls it so
OPERATORS = {"GRU": (gru, 3), "LSTM": (lstm, 4), "RNN": (rnn, 1)}
DIRECTIONS = ["forward", "reverse", "bidirectional"]


@pytest.fixture
def rng():
    print(f"seed {SEED}")
    return np.random.default_rng(SEED)


def weights(rng, op, direction="forward"):
    """w, r, b for the operator, in float32."""
    gates, directions = OPERATORS[op][1], 2 if direction == "bidirectional" else 1
    shapes = ((directions, gates * H, I), (directions, gates * H, H), (directions, 2 * gates * H))
    return [rng.standard_normal(shape).astype(np.float32) for shape in shapes]


def run_ort(op, inputs: dict[str, Any], outputs: int, **attributes):
    """onnxruntime's answer to one node. inputs: by ONNX name, in order, None where absent."""
    given = {name: value for name, value in inputs.items() if value is not None}
    kinds = {"f": TensorProto.FLOAT, "i": TensorProto.INT32}
    infos = [helper.make_tensor_value_info(n, kinds[v.dtype.kind], v.shape) for n, v in given.items()]
    names = [name if name in given else "" for name in inputs]
    out = ["Y", "Y_h", "Y_c"][:outputs]
    node = helper.make_node(op, names, out, hidden_size=H, **attributes)
    results = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in out]
    graph = helper.make_graph([node], "g", infos, results)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 14)], ir_version=8)
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, given)


def assert_close(actual, expected, tolerance):
    assert len(actual) == len(expected)
    for a, e in zip(actual, expected, strict=True):
        assert a.shape == e.shape
        np.testing.assert_allclose(a, e, rtol=0, atol=tolerance)


# Against ONNX's own expected values


def published_cases():
    """The node tests of the onnx package for these operators, layout 1 included."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name in ("gru", "lstm", "rnn"):
            importlib.import_module(f"onnx.backend.test.case.node.{name}")
    return [c for c in node_cases._NodeTestCases if c.model.graph.node[0].op_type in OPERATORS]


@pytest.mark.parametrize("case", published_cases(), ids=lambda case: case.name)
def test_published_node_tests(case):
    names = [value.name for value in case.model.graph.input]
    for inputs, outputs in case.data_sets:
        actual = Float64Model(case.model).run(dict(zip(names, inputs, strict=True)))
        assert_close(list(actual.values()), outputs, PUBLISHED)


def test_all_eighteen_published_node_tests_are_found():
    assert len(published_cases()) == 18


# Against torch in float64


def from_torch(module, order):
    """w, r, b of all directions of the first layer, torch's gates put in ONNX's order."""

    def gates(name):
        suffixes = ["", "_reverse"] if module.bidirectional else [""]
        blocks = [getattr(module, f"{name}_l0{s}").detach().numpy() for s in suffixes]
        return np.stack([np.concatenate([np.split(b, len(order))[g] for g in order]) for b in blocks])

    w, r = gates("weight_ih"), gates("weight_hh")
    return w, r, np.concatenate([gates("bias_ih"), gates("bias_hh")], axis=1)


@pytest.mark.parametrize("bidirectional", [False, True])
def test_gru_is_torchs(bidirectional, rng):
    torch.manual_seed(SEED)
    module = nn.GRU(I, H, bidirectional=bidirectional).double()
    x = rng.standard_normal((T, B, I))
    h0 = rng.standard_normal((1 + bidirectional, B, H))
    with torch.no_grad():
        y, h = module(torch.from_numpy(x), torch.from_numpy(h0))
    actual = gru(
        x,
        *from_torch(module, (1, 0, 2)),  # torch has r, z, n
        initial_h=h0,
        direction="bidirectional" if bidirectional else "forward",
        linear_before_reset=1,
    )
    expected = y.numpy().reshape(T, B, 1 + bidirectional, H).transpose(0, 2, 1, 3)
    assert_close(actual, (expected, h.numpy()), EXACT)


def test_a_step_is_torchs_gru_cell(rng):
    torch.manual_seed(SEED)
    cell = nn.GRUCell(I, H).double()
    order = np.r_[H : 2 * H, 0:H, 2 * H : 3 * H]
    w, r, wb, rb = (p.detach().numpy()[order] for p in cell.parameters())
    x, h = rng.standard_normal((B, I)), rng.standard_normal((B, H))
    with torch.no_grad():
        expected = cell(torch.from_numpy(x), torch.from_numpy(h)).numpy()
    b = np.concatenate([wb, rb])[None]
    _, actual = gru(x[None], w[None], r[None], b, initial_h=h[None], linear_before_reset=1)
    np.testing.assert_allclose(actual[0], expected, rtol=0, atol=EXACT)


@pytest.mark.parametrize("bidirectional", [False, True])
def test_lstm_is_torchs(bidirectional, rng):
    torch.manual_seed(SEED)
    module = nn.LSTM(I, H, bidirectional=bidirectional).double()
    x = rng.standard_normal((T, B, I))
    h0, c0 = rng.standard_normal((2, 1 + bidirectional, B, H))
    with torch.no_grad():
        y, (h, c) = module(torch.from_numpy(x), (torch.from_numpy(h0), torch.from_numpy(c0)))
    actual = lstm(
        x,
        *from_torch(module, (0, 3, 1, 2)),  # torch has i, f, g, o
        initial_h=h0,
        initial_c=c0,
        direction="bidirectional" if bidirectional else "forward",
    )
    expected = y.numpy().reshape(T, B, 1 + bidirectional, H).transpose(0, 2, 1, 3)
    assert_close(actual, (expected, h.numpy(), c.numpy()), EXACT)


@pytest.mark.parametrize("nonlinearity", ["tanh", "relu"])
def test_rnn_is_torchs(nonlinearity, rng):
    torch.manual_seed(SEED)
    module = nn.RNN(I, H, nonlinearity=nonlinearity).double()
    x = rng.standard_normal((T, B, I))
    with torch.no_grad():
        y, h = module(torch.from_numpy(x))
    actual = rnn(x, *from_torch(module, (0,)), activations=[nonlinearity])
    assert_close(actual, (y.numpy()[:, None], h.numpy()), EXACT)


@pytest.mark.parametrize("direction", ["forward", "bidirectional"])
def test_sequence_lens_are_torchs_packed_sequences(direction, rng):
    torch.manual_seed(SEED)
    both = direction == "bidirectional"
    module = nn.GRU(I, H, bidirectional=both).double()
    x, lens = rng.standard_normal((T, B, I)), np.array([3, T, 1, 5])
    packed = nn.utils.rnn.pack_padded_sequence(torch.from_numpy(x), torch.from_numpy(lens), enforce_sorted=False)
    with torch.no_grad():
        y, h = module(packed)
    y, _ = nn.utils.rnn.pad_packed_sequence(y, total_length=T)
    actual = gru(x, *from_torch(module, (1, 0, 2)), sequence_lens=lens, direction=direction, linear_before_reset=1)
    expected = y.numpy().reshape(T, B, 1 + both, H).transpose(0, 2, 1, 3)
    assert_close(actual, (expected, h.numpy()), EXACT)


# Against onnxruntime, for the attributes that torch lacks


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("linear_before_reset", [0, 1])
@pytest.mark.parametrize("clip", [None, 0.4])
@pytest.mark.parametrize("lens", [None, [3, 7, 1, 5]])
def test_gru_is_onnxruntimes(direction, linear_before_reset, clip, lens, rng):
    w, r, b = weights(rng, "GRU", direction)
    x = rng.standard_normal((T, B, I)).astype(np.float32)
    h0 = rng.standard_normal((len(w), B, H)).astype(np.float32)
    lengths = None if lens is None else np.array(lens, np.int32)
    attributes = {"direction": direction, "linear_before_reset": linear_before_reset}
    attributes |= {} if clip is None else {"clip": clip}
    inputs = {"X": x, "W": w, "R": r, "B": b, "lens": lengths, "h0": h0}
    expected = run_ort("GRU", inputs, 2, **attributes)
    assert_close(gru(x, w, r, b, lengths, h0, **attributes), expected, SINGLE)


@pytest.mark.parametrize(
    "attributes",
    [
        {},
        {"input_forget": 1},
        {"direction": "reverse"},
        {"activations": ["HardSigmoid", "Softsign", "ScaledTanh"], "activation_alpha": [0.3, 0.8]}
        | {"activation_beta": [0.4, 0.9]},
    ],
    ids=["defaults", "input_forget", "reverse", "activations"],
)
@pytest.mark.parametrize("lens", [None, [3, 7, 1, 5]])
def test_lstm_with_peepholes_is_onnxruntimes(attributes, lens, rng):
    w, r, b = weights(rng, "LSTM")
    x = rng.standard_normal((T, B, I)).astype(np.float32)
    h0, c0 = rng.standard_normal((2, 1, B, H)).astype(np.float32)
    p = rng.standard_normal((1, 3 * H)).astype(np.float32)
    lengths = None if lens is None else np.array(lens, np.int32)
    inputs = {"X": x, "W": w, "R": r, "B": b, "lens": lengths, "h0": h0, "c0": c0, "P": p}
    expected = run_ort("LSTM", inputs, 3, **attributes)
    assert_close(lstm(x, w, r, b, lengths, h0, c0, p, **attributes), expected, SINGLE)


def test_lstm_clips_its_gates_like_onnxruntime(rng):
    # Only while |c| stays below the threshold: onnxruntime leaves the input of h(c) unclipped. ONNX says
    # "applied to the input of activations", and h is one, so there the oracle is right and onnxruntime is
    # not.
    clip = 0.5
    w, r, b = weights(rng, "LSTM")
    x = rng.standard_normal((1, B, I)).astype(np.float32)
    inputs = {"X": x, "W": w, "R": r, "B": b}
    y, h, c = lstm(x, w, r, b, clip=clip)
    assert np.abs(c).max() < clip
    assert not np.allclose(h, lstm(x, w, r, b)[1], atol=1e-2)
    assert_close((y, h, c), run_ort("LSTM", inputs, 3, clip=clip), SINGLE)


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_rnn_is_onnxruntimes(direction, rng):
    w, r, b = weights(rng, "RNN", direction)
    x = rng.standard_normal((T, B, I)).astype(np.float32)
    lengths = np.array([3, 7, 1, 5], np.int32)
    attributes = {"direction": direction, "clip": 0.7, "activations": ["Softsign"] * len(w)}
    expected = run_ort("RNN", {"X": x, "W": w, "R": r, "B": b, "lens": lengths}, 2, **attributes)
    assert_close(rnn(x, w, r, b, lengths, **attributes), expected, SINGLE)


# Activations: an RNN with W = 1, R = 0 is its activation

AT = np.linspace(-3, 3, 61).astype(np.float32)
ONE, ZERO = np.ones((1, 1, 1), np.float32), np.zeros((1, 1, 1), np.float32)


def activation(name, **attributes):
    return rnn(AT[:, None, None], ONE, ZERO, activations=[name], **attributes)[0].ravel()


# onnxruntime takes 0 where it has no default of its own. ONNX says: as the operator of that name, and there
# ThresholdedRelu has alpha 1, Affine had 1 and 0, and ScaledTanh had none (see the tests below).
ORT_DEFAULTS_ARE_ONNX = sorted(set(ACTIVATIONS) - {"affine", "scaledtanh", "thresholdedrelu"})
SPELLED = {name.lower(): name for name in ("Affine", "Elu", "HardSigmoid", "LeakyRelu", "Relu", "ScaledTanh")}
SPELLED |= {n.lower(): n for n in ("Sigmoid", "Softplus", "Softsign", "Tanh", "ThresholdedRelu")}


def ort_activation(name, **attributes):
    node = helper.make_node("RNN", ["X", "W", "R"], ["Y"], hidden_size=1, activations=[SPELLED[name]], **attributes)
    x = helper.make_tensor_value_info("X", TensorProto.FLOAT, [len(AT), 1, 1])
    y = helper.make_tensor_value_info("Y", TensorProto.FLOAT, None)
    weights = [onnx.numpy_helper.from_array(value, n) for n, value in (("W", ONE), ("R", ZERO))]
    graph = helper.make_graph([node], "g", [x], [y], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 14)], ir_version=8)
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"X": AT[:, None, None]})[0].ravel()


@pytest.mark.parametrize("name", ORT_DEFAULTS_ARE_ONNX)
def test_activation_with_its_defaults_is_onnxruntimes(name):
    np.testing.assert_allclose(activation(name), ort_activation(name), rtol=0, atol=SINGLE)


@pytest.mark.parametrize("name", sorted(ACTIVATIONS))
def test_activation_with_alpha_and_beta_is_onnxruntimes(name):
    spec = ACTIVATIONS[name]
    given = {} if spec.alpha is None else {"activation_alpha": [0.7]}
    given |= {} if spec.beta is None else {"activation_beta": [0.4]}
    np.testing.assert_allclose(activation(name, **given), ort_activation(name, **given), rtol=0, atol=SINGLE)


def test_defaults_are_those_of_the_onnx_operators():
    for name in ("ThresholdedRelu", "LeakyRelu", "Elu", "HardSigmoid"):
        attributes = onnx.defs.get_schema(name).attributes
        for which, value in zip(("alpha", "beta"), ACTIVATIONS[name.lower()][1:], strict=True):
            if value is not None:
                assert attributes[which].default_value.f == pytest.approx(value)
    np.testing.assert_array_equal(activation("Affine"), AT)


def test_alpha_and_beta_are_taken_in_order_by_those_that_take_them(rng):
    w, r, b = weights(rng, "GRU")
    x = rng.standard_normal((T, B, I)).astype(np.float32)
    attributes = {"activations": ["HardSigmoid", "LeakyRelu"], "activation_alpha": [0.3, 0.2]}
    attributes |= {"activation_beta": [0.6]}
    expected = run_ort("GRU", {"X": x, "W": w, "R": r, "B": b}, 2, **attributes)
    assert_close(gru(x, w, r, b, **attributes), expected, SINGLE)


def test_sigmoid_neither_overflows_nor_loses_its_tail():
    x = np.array([-800.0, -30.0, 0.0, 30.0, 800.0])
    with np.errstate(all="raise", under="ignore"):
        actual = sigmoid(x)
    np.testing.assert_allclose(actual, [0.0, np.exp(-30) / (1 + np.exp(-30)), 0.5, 1 / (1 + np.exp(-30)), 1.0])
    assert np.isnan(sigmoid(np.array([np.nan])))


# What follows from the equations


def test_the_two_places_of_the_reset_differ(rng):
    w, r, b = weights(rng, "GRU")
    x = rng.standard_normal((T, B, I))
    before, after = (gru(x, w, r, b, linear_before_reset=value)[0] for value in (0, 1))
    assert np.abs(before - after).max() > 0.1


@pytest.mark.parametrize("op", OPERATORS)
@pytest.mark.parametrize("direction", DIRECTIONS)
def test_layout_1_has_the_batch_first(op, direction, rng):
    function = OPERATORS[op][0]
    w, r, b = weights(rng, op, direction)
    x, h0 = rng.standard_normal((T, B, I)), rng.standard_normal((len(w), B, H))
    lens = [3, 7, 1, 5]
    y, *states = function(x, w, r, b, lens, h0, direction=direction)
    expected = [y.transpose(2, 0, 1, 3), *(state.swapaxes(0, 1) for state in states)]
    batch_first = (x.swapaxes(0, 1), w, r, b, lens, h0.swapaxes(0, 1))
    assert_close(function(*batch_first, direction=direction, layout=1), expected, 0)


def test_a_sequence_in_two_parts_is_the_whole(rng):
    w, r, b = weights(rng, "GRU")
    x = rng.standard_normal((T, B, I))
    whole, _ = gru(x, w, r, b)
    first, h = gru(x[:3], w, r, b)
    second, _ = gru(x[3:], w, r, b, initial_h=h)
    np.testing.assert_allclose(np.concatenate([first, second]), whole, rtol=0, atol=EXACT)


def test_padding_beyond_a_length_is_never_read(rng):
    w, r, b = weights(rng, "GRU", "bidirectional")
    x, lens = rng.standard_normal((T, B, I)), np.array([3, 7, 1, 5])
    clean = gru(x, w, r, b, lens, direction="bidirectional")
    x[np.arange(T)[:, None] >= lens] = np.nan
    assert_close(gru(x, w, r, b, lens, direction="bidirectional"), clean, 0)
    assert not clean[0][3:, :, 0].any()


def test_a_sequence_of_no_steps_keeps_its_state(rng):
    # onnxruntime answers 0 here; ONNX is silent. No step was made, so the state is the initial one.
    w, r, b = weights(rng, "GRU")
    h0 = rng.standard_normal((1, B, H))
    _, h = gru(rng.standard_normal((T, B, I)), w, r, b, [0, 7, 1, 5], h0)
    np.testing.assert_array_equal(h[0, 0], h0[0, 0])
    assert np.abs(h[0, 1:] - h0[0, 1:]).max() > 0.1


# What is refused


@pytest.mark.parametrize(
    "change, message",
    [
        ({"direction": "sideways"}, "direction"),
        ({"layout": 2}, "layout"),
        ({"hidden_size": H + 1}, "hidden_size"),
        ({"clip": -1.0}, "clip"),
        ({"activations": ["Sigmoid"]}, "2 names"),
        ({"activations": ["Sigmoid", "Gelu"]}, "Gelu"),
        ({"activations": ["Sigmoid", "ScaledTanh"]}, "no default"),
        ({"activation_alpha": [0.5]}, "more values"),
        ({"sequence_lens": [1, 2, 3]}, "sequence_lens"),
        ({"sequence_lens": [1, 2, 3, T + 1]}, "sequence_lens"),
        ({"sequence_lens": [1.0, 2.0, 3.0, 4.0]}, "sequence_lens"),
        ({"initial_h": np.zeros((1, B, H + 1))}, "initial_h"),
        ({"r": np.zeros((1, 3 * H, H + 1))}, "W: shape"),
        ({"b": np.zeros((1, 3 * H))}, "B: shape"),
        ({"x": np.zeros((T, I))}, "3 axes"),
    ],
)
def test_what_does_not_fit_is_refused(change, message, rng):
    w, r, b = weights(rng, "GRU")
    given = {"x": np.zeros((T, B, I)), "w": w, "r": r, "b": b} | change
    with pytest.raises(ValueError, match=message):
        gru(**given)
