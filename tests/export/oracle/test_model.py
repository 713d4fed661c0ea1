"""Whole graphs in float64: the real models against their golden runs, torch's exports against the module in
float64."""

from __future__ import annotations

import time
import warnings

import numpy as np
import onnxruntime as ort
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from real_models import MODELS
from streamgru.errors import ModelError, ShapeError
from streamgru_export.oracle.convert import to_float64
from streamgru_export.oracle.model import Float64Model, gru

SEED = 11
EXACT = 1e-12  # float64 against float64

needs_models = pytest.mark.skipif(not MODELS.is_dir(), reason=f"no models in {MODELS}; set STREAMGRU_MODELS")


@pytest.fixture
def rng():
    print(f"seed {SEED}")
    return np.random.default_rng(SEED)


def model_of(nodes, inputs, outputs, initializers=(), opset=17, **graph):
    """A graph of float32 tensors, whose shapes nobody states."""
    infos = [
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in names] for names in (inputs, outputs)
    ]
    tensors = [numpy_helper.from_array(value, name) for name, value in dict(initializers).items()]
    proto = helper.make_graph(nodes, "g", *infos, tensors, **graph)
    return helper.make_model(proto, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


# Real models

GOLDEN = {
    "gtcrn/gtcrn_simple": (
        3,
        {"conv_cache": "conv_cache_out", "tra_cache": "tra_cache_out"} | {"inter_cache": "inter_cache_out"},
    ),
    "nsnet2/nsnet2_state_ts_op17": (60, {"h1": "h1n", "h2": "h2n"}),
    "rnnoise-2018/rnnoise_stream": (
        200,
        {f"{n}_h_in": f"{n}_h_out" for n in ("vad_gru", "noise_gru", "denoise_gru")},
    ),
    "nkf-aec/nkf_kgnet_step": (60, {f"h_{n}": f"h_{n}_o" for n in ("rr", "ir", "ri", "ii")}),
}


@needs_models
@pytest.mark.parametrize("name", GOLDEN)
def test_real_models_give_their_golden_outputs(name):
    # The golden outputs are onnxruntime's float32; its rounding over some steps of these models is up to
    # 1.1e-5 of the scale (measured), in GTCRN's caches.
    steps, states = GOLDEN[name]
    golden = np.load(MODELS / f"{name}.golden.npz")
    model = Float64Model(MODELS / f"{name}.onnx")
    state = {i: np.zeros_like(golden[f"out_0_{o}"]) for i, o in states.items()}
    for t in range(steps):
        result = model.run({**state, **{i: golden[f"in_{t}_{i}"] for i in model.input_names if i not in states}})
        for output, value in result.items():
            expected = golden[f"out_{t}_{output}"]
            assert value.dtype == np.float64
            assert np.abs(value - expected).max() <= 2e-5 * max(1, np.abs(expected).max())
        state = {i: result[o] for i, o in states.items()}


@needs_models
def test_a_float64_port_of_rnnoise_by_others_agrees():
    golden = np.load(MODELS / "rnnoise-2018" / "golden.npz")
    result = Float64Model(MODELS / "rnnoise-2018" / "rnnoise_seq.onnx").run({"features": golden["features"]})
    for name in ("gains", "vad"):  # stored in float32, computed with other exponentials
        np.testing.assert_allclose(result[name], golden[name], rtol=0, atol=3e-6)


@needs_models
@pytest.mark.parametrize("name", ["decoder_gru", "decoder_grucell"])
def test_a_gru_node_and_its_decomposed_cell_agree_with_onnxruntime(name, rng):
    path = MODELS / "g2p-en" / f"{name}.onnx"
    h = rng.standard_normal((1, 1, 256) if name == "decoder_gru" else (1, 256)).astype(np.float32)
    feeds = {"tok": np.array([17]), "h": h}
    result = Float64Model(path).run(feeds)
    logits, token, state = ort.InferenceSession(path, providers=["CPUExecutionProvider"]).run(None, feeds)
    np.testing.assert_array_equal(result["next"], token)
    np.testing.assert_allclose(result["logits"], logits, rtol=0, atol=1e-5)  # logits up to 20
    np.testing.assert_allclose(result["h_out"], state, rtol=0, atol=1e-5)


# Exports of torch


@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("dynamo", [False, True])
def test_an_exported_gru_is_the_module_in_float64(layers, dynamo, tmp_path, rng):
    torch.manual_seed(SEED)
    module = nn.GRU(3, 60, layers, batch_first=True).eval()  # 60: the weights stay behind Slice and Concat nodes
    x = rng.standard_normal((1, 9, 3)).astype(np.float32)
    path = tmp_path / "gru.onnx"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(module, (torch.from_numpy(x),), path, dynamo=dynamo, verbose=False)
    with torch.no_grad():
        y, h = module.double()(torch.from_numpy(x).double())
    model = Float64Model(path)
    result = list(model.run({model.input_names[0]: x}).values())
    np.testing.assert_allclose(result[0], y.numpy(), rtol=0, atol=EXACT)
    np.testing.assert_allclose(result[1], h.numpy(), rtol=0, atol=EXACT)


# Operators of every opset


@pytest.mark.parametrize("opset", [7, 13, 14, 21, 22, 24])
def test_gru_attributes_hold_at_every_opset(opset, rng):
    # onnx's own evaluator ignores clip, so this fails wherever its GRU is used instead of ours.
    x = rng.standard_normal((6, 2, 3)).astype(np.float32)
    w, r = (rng.standard_normal((1, 12, k)).astype(np.float32) for k in (3, 4))
    node = helper.make_node("GRU", ["x", "w", "r"], ["", "h"], hidden_size=4, clip=0.3, linear_before_reset=1)
    model = Float64Model(model_of([node], ["x"], ["h"], {"w": w, "r": r}, opset))
    _, expected = gru(x, w, r, clip=float(np.float32(0.3)), linear_before_reset=1)
    np.testing.assert_allclose(model.run({"x": x})["h"], expected, rtol=0, atol=EXACT)


@pytest.mark.parametrize("op, gates, outputs", [("LSTM", 4, ["y", "h", "c"]), ("RNN", 1, ["y", "h"])])
def test_lstm_and_rnn_see_their_sequence_lens(op, gates, outputs, rng):
    x = rng.standard_normal((6, 2, 3)).astype(np.float32)
    given = {"w": (1, gates * 4, 3), "r": (1, gates * 4, 4)}
    given = {name: rng.standard_normal(shape).astype(np.float32) for name, shape in given.items()}
    given["lens"] = np.array([2, 6], np.int32)
    node = helper.make_node(op, ["x", "w", "r", "", "lens"], outputs, hidden_size=4)
    y = Float64Model(model_of([node], ["x"], outputs, given)).run({"x": x})["y"]
    assert not y[2:, :, 0].any()
    assert y[2:, :, 1].all()


def test_a_gru_inside_a_local_function_is_ours_too(rng):
    x = rng.standard_normal((6, 1, 3)).astype(np.float32)
    w, r = (rng.standard_normal((1, 12, k)).astype(np.float32) for k in (3, 4))
    node = helper.make_node("GRU", ["x", "w", "r"], ["y"], hidden_size=4, clip=0.3)
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("mine", 1)]
    function = helper.make_function("mine", "Cell", ["x", "w", "r"], ["y"], [node], opsets[:1])
    model = model_of([helper.make_node("Cell", ["x", "w", "r"], ["y"], domain="mine")], ["x"], ["y"], {"w": w, "r": r})
    model.functions.append(function)
    model.opset_import.append(opsets[1])
    expected, _ = gru(x, w, r, clip=float(np.float32(0.3)))
    np.testing.assert_allclose(Float64Model(model).run({"x": x})["y"], expected, rtol=0, atol=EXACT)


def test_a_loop_body_is_in_float64_too():
    def info(name, kind, shape):
        return helper.make_tensor_value_info(name, kind, shape)

    nodes = [
        helper.make_node("Identity", ["go"], ["go_on"]),
        helper.make_node("Constant", [], ["third"], value_float=1 / 3),
        helper.make_node("Add", ["sum", "third"], ["next"]),
    ]
    inputs = [info("i", TensorProto.INT64, []), info("go", TensorProto.BOOL, [])]
    inputs.append(info("sum", TensorProto.FLOAT, None))
    outputs = [info("go_on", TensorProto.BOOL, []), info("next", TensorProto.FLOAT, None)]
    body = helper.make_graph(nodes, "body", inputs, outputs)
    loop = helper.make_node("Loop", ["count", "yes", "x"], ["y"], body=body)
    model = Float64Model(model_of([loop], ["x"], ["y"], {"count": np.array(10), "yes": np.array(True)}))
    # ten times the float32 number nearest to 1/3, summed in float64
    third = float(np.float32(1 / 3))
    np.testing.assert_allclose(model.run({"x": np.zeros(1, np.float32)})["y"], [10 * third], rtol=1e-15)


# Precision


def test_nothing_is_rounded_to_float32():
    nodes = [
        helper.make_node("Cast", ["x"], ["a"], to=TensorProto.FLOAT16),
        helper.make_node("Cast", ["a"], ["b"], to=TensorProto.FLOAT),
        helper.make_node("Shape", ["b"], ["shape"]),
        helper.make_node("ConstantOfShape", ["shape"], ["zeros"]),
        helper.make_node("Constant", [], ["halves"], value_floats=[0.5, 0.5]),
        helper.make_node("Add", ["b", "zeros"], ["c"]),
        helper.make_node("Mul", ["c", "halves"], ["d"]),
        helper.make_node("Mul", ["d", "w"], ["y"]),
    ]
    weights = {"w": np.array([0.1, 0.2], np.float16)}
    x = np.array([np.pi, np.e])
    y = Float64Model(model_of(nodes, ["x"], ["y"], weights)).run({"x": x})["y"]
    np.testing.assert_array_equal(y, x * 0.5 * weights["w"].astype(np.float64))


def test_the_model_given_is_not_changed():
    model = model_of([helper.make_node("Mul", ["x", "w"], ["y"])], ["x"], ["y"], {"w": np.ones(2, np.float32)})
    before = model.SerializeToString()
    to_float64(model)
    assert model.SerializeToString() == before


def test_an_operator_that_answers_in_float32_is_refused():
    window = helper.make_node("HannWindow", ["n"], ["w"], output_datatype=TensorProto.FLOAT)
    model = Float64Model(model_of([window, helper.make_node("Neg", ["w"], ["y"])], [], ["y"], {"n": np.array(4)}))
    with pytest.raises(ModelError, match="'w' came out as float32"):
        model.run({})


# What is refused


def test_random_numbers_are_refused_by_the_nodes_name():
    node = helper.make_node("RandomNormalLike", ["x"], ["y"], name="noise")
    with pytest.raises(ModelError, match="'noise': RandomNormalLike"):
        Float64Model(model_of([node], ["x"], ["y"]))


def test_an_operator_nobody_knows_is_refused():
    node = helper.make_node("FlyLike", ["x"], ["y"], domain="com.example")
    model = model_of([node], ["x"], ["y"])
    model.opset_import.append(helper.make_opsetid("com.example", 1))
    with pytest.raises(ModelError, match="FlyLike"):
        Float64Model(model)


def test_what_fails_inside_the_graph_is_a_model_error():
    node = helper.make_node("BatchNormalization", ["x", *"smmv"], ["y", "a", "b"], training_mode=1)
    model = model_of([node], ["x"], ["y"], {name: np.ones(3, np.float32) for name in "smv"})
    with pytest.raises(ModelError, match=r"model\.eval"):
        Float64Model(model).run({"x": np.ones((2, 3, 4))})


@pytest.mark.parametrize("feeds", [{}, {"x": 1.0, "z": 2.0}])
def test_feeds_that_do_not_fit_are_refused(feeds):
    model = Float64Model(model_of([helper.make_node("Neg", ["x"], ["y"])], ["x"], ["y"]))
    with pytest.raises(ShapeError, match="inputs missing"):
        model.run(feeds)


# Speed


@pytest.mark.slow
def test_a_hundred_thousand_steps_take_about_a_minute_at_most(rng):
    hidden = 128
    weights = [rng.standard_normal((1, *shape)) * 0.1 for shape in ((384, hidden), (384, hidden), (768,))]
    start = time.monotonic()
    y, _ = gru(rng.standard_normal((100_000, 1, hidden)), *weights, linear_before_reset=1)
    gru(y[:, 0], *weights, linear_before_reset=1)
    assert time.monotonic() - start < 90  # 6 s alone on a core; the machine may be busy


def test_nodes_in_any_order_are_the_same_graph(rng):
    """Outside and inside of a branch, which reads what is written behind its node; a circle is none."""
    inner = [helper.make_node("Neg", ["m"], ["b"]), helper.make_node("Add", ["late", "late"], ["m"])]
    branch = helper.make_graph(inner, "b", [], [helper.make_tensor_value_info("b", TensorProto.FLOAT, None)])
    nodes = [
        helper.make_node("Relu", ["v"], ["y"]),
        helper.make_node("If", ["yes"], ["v"], then_branch=branch, else_branch=branch),
        helper.make_node("Exp", ["x"], ["late"]),
    ]
    x = rng.standard_normal(4)
    proto = model_of(nodes, ["x"], ["y"], {"yes": np.array(True)})
    np.testing.assert_array_equal(Float64Model(proto).run({"x": x})["y"], np.maximum(-2 * np.exp(x), 0))
    nodes[2] = helper.make_node("Exp", ["y"], ["late"])
    with pytest.raises(ModelError, match="waits for another"):
        Float64Model(model_of(nodes, ["x"], ["y"], {"yes": np.array(True)}))
