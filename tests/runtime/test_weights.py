"""Weights of 8 bits and of half precision, run: the arithmetic of docs/format.md once more in NumPy, the same bits in
every way of running, the error against float32."""

import numpy as np
import pytest
from onnx import helper

import streamgru
from export.graphs import CELLS, gru_weights, model
from streamgru_export.compiler.compile import compile as compile_onnx

SEED = 20261122
ROUNDING = 2e-6  # float32 sums and functions against float64; the integers are the same


def cell(op, inputs, hidden, *, batch=1, time="time", seed=SEED, **attributes):
    """One node over [time, batch, inputs], and its weights."""
    weights = gru_weights(np.random.default_rng(seed), inputs, hidden, gates=CELLS[op])
    node = helper.make_node(op, ["X", "W", "R", "B"], ["Y"], name="cell", hidden_size=hidden, **attributes)
    return model([node], {"X": [time, batch, inputs]}, ["Y"], weights), {k: v[0] for k, v in weights.items()}


def loaded(graph, weights, **options):
    return streamgru.Model(compile_onnx(graph, weights=weights, **options).image)


def frames(count, inputs, batch=1, seed=3):
    print(f"seed {seed}")
    return np.random.default_rng(seed).standard_normal((count, batch, inputs)).astype(np.float32)


def relative(got, want):
    return np.sqrt(np.mean((got - want.astype(float)) ** 2) / np.mean(want.astype(float) ** 2))


# ---- the arithmetic ----


def product(w, x):
    """w · x with both rounded to 8 bits, the integers as the core has them."""
    scale = np.abs(w).max(axis=1) / np.float32(127)
    largest = np.abs(x).max()
    if largest < 2.0**-96:
        return np.zeros(len(w))
    q = np.rint(x.astype(np.float32) * (np.float32(127) / np.float32(largest)))
    w_q = np.rint(w.astype(float) / scale[:, None].astype(float))
    return (w_q @ q.astype(float)) * scale.astype(float) * float(np.float32(largest) / np.float32(127))


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def gru_step(p, x, h, lbr):
    H = len(h)
    wb, rb = p["B"][: 3 * H].astype(float), p["B"][3 * H :].astype(float)
    gx = product(p["W"], x) + wb
    z, r = np.split(sigmoid(gx[: 2 * H] + rb[: 2 * H] + product(p["R"][: 2 * H], h)), 2)
    if lbr:
        n = np.tanh(gx[2 * H :] + r * (product(p["R"][2 * H :], h) + rb[2 * H :]))
    else:
        n = np.tanh(gx[2 * H :] + rb[2 * H :] + product(p["R"][2 * H :], (r * h).astype(np.float32)))
    return (1 - z) * n + z * h


def lstm_step(p, x, h, c):
    H = len(h)
    i, o, f, g = np.split(product(p["W"], x) + product(p["R"], h) + p["B"][: 4 * H] + p["B"][4 * H :].astype(float), 4)
    c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
    return sigmoid(o) * np.tanh(c)


def rnn_step(p, x, h):
    H = len(h)
    return np.tanh(product(p["W"], x) + product(p["R"], h) + p["B"][:H] + p["B"][H:].astype(float))


@pytest.mark.parametrize("inputs, hidden", [(16, 64), (33, 48), (70, 37), (129, 128)])
@pytest.mark.parametrize("kind", ["GRU, linear before reset", "GRU, reset first", "LSTM", "RNN"])
def test_each_step_is_the_arithmetic_of_the_format(kind, inputs, hidden):
    """Each from the state that the stream has, so that the oracle rounds the very same numbers."""
    op = kind[:4].rstrip(",") if kind != "RNN" else kind
    attributes = {"linear_before_reset": int("before" in kind)} if op == "GRU" else {}
    graph, p = cell(op, inputs, hidden, **attributes)
    stream = loaded(graph, "i8").stream()
    for x in frames(20, inputs):
        state = [v.reshape(-1).copy() for v in stream.state.values()]
        y = stream.step(x).reshape(-1)
        if op == "LSTM":
            want = lstm_step(p, x[0], *state)
        else:
            want = rnn_step(p, x[0], *state) if op == "RNN" else gru_step(p, x[0], *state, **_lbr(attributes))
        np.testing.assert_allclose(y, want, rtol=0, atol=ROUNDING)


def _lbr(attributes):
    return {"lbr": attributes["linear_before_reset"]}


def test_a_dense_layer_is_the_arithmetic_of_the_format():
    r = np.random.default_rng(SEED)
    w, b = r.standard_normal((50, 37)).astype(np.float32), r.standard_normal(50).astype(np.float32)
    node = helper.make_node("Gemm", ["X", "w", "b"], ["Y"], name="dense", transB=1)
    dense = loaded(model([node], {"X": [5, 37]}, ["Y"], {"w": w, "b": b}), "i8")
    X = r.standard_normal((5, 37)).astype(np.float32) * np.logspace(-30, 30, 5, dtype=np.float32)[:, None]
    got = dense.stream().step(X)
    for x, y in zip(X, got, strict=True):
        np.testing.assert_allclose(y, product(w, x) + b, rtol=1e-6, atol=ROUNDING)


def test_half_precision_is_float32_with_rounded_weights():
    graph, _ = cell("GRU", 40, 64, linear_before_reset=1)
    rounded, _ = cell("GRU", 40, 64, linear_before_reset=1)
    for tensor in rounded.graph.initializer:
        if tensor.name != "B":
            values = np.frombuffer(tensor.raw_data, np.float32).astype(np.float16).astype(np.float32)
            tensor.raw_data = values.tobytes()
    X = frames(30, 40)
    assert np.array_equal(loaded(graph, "f16").run(X), loaded(rounded, "f32").run(X))


# ---- the same bits ----


@pytest.mark.parametrize("weights", ["f16", "i8"])
@pytest.mark.parametrize(
    "op, attributes", [("GRU", {"linear_before_reset": 1}), ("GRU", {}), ("LSTM", {}), ("RNN", {})]
)
@pytest.mark.parametrize("inputs, hidden", [(40, 64), (70, 37)])
def test_steps_blocks_batches_and_instruction_sets_have_the_same_bits(weights, op, attributes, inputs, hidden):
    X = frames(40, inputs, batch=5)
    batch = loaded(cell(op, inputs, hidden, batch=5, **attributes)[0], weights)
    stream = batch.stream()
    want = np.stack([stream.step(x) for x in X])
    assert np.abs(want).max() > 0.1
    for block in (1, 3, 16):
        assert np.array_equal(batch.stream(block=block).run(X).reshape(want.shape), want)
    for isa in streamgru.available_isas():
        streamgru.set_isa(isa)
        try:
            assert np.array_equal(batch.stream().run(X).reshape(want.shape), want), isa
        finally:
            streamgru.set_isa()
    one = loaded(cell(op, inputs, hidden, **attributes)[0], weights)
    for b in range(5):
        assert np.array_equal(
            one.run(np.ascontiguousarray(X[:, b : b + 1]))[:, 0, 0], want.reshape(40, 5, hidden)[:, b]
        )
    whole = loaded(cell(op, inputs, hidden, batch=5, **attributes)[0], weights, mode="whole", length=40)
    assert np.array_equal(whole.stream().step(X).reshape(want.shape), want)


@pytest.mark.parametrize("weights", ["f16", "i8"])
def test_an_image_and_a_saved_state_go_on_elsewhere(weights, tmp_path):
    graph, _ = cell("GRU", 40, 64, linear_before_reset=1)
    (tmp_path / "model.onnx").write_bytes(graph.SerializeToString())
    model = streamgru.load(tmp_path / "model.onnx", weights=weights)
    assert model.metadata["weights"] == weights
    model.save(tmp_path / "model.sgru")
    X, here, there = frames(20, 40), model.stream(), streamgru.load(tmp_path / "model.sgru").stream()
    here.run(X[:10])
    there.restore(here.save())
    assert np.array_equal(here.run(X[10:]), there.run(X[10:]))


def test_whole_sequences_of_any_length(tmp_path):
    graph, _ = cell("GRU", 40, 64, linear_before_reset=1, direction="bidirectional")
    del graph.graph.initializer[:]
    weights = gru_weights(np.random.default_rng(SEED), 40, 64, 2)
    graph = model(list(graph.graph.node), {"X": ["time", 1, 40]}, ["Y"], weights)
    (tmp_path / "model.onnx").write_bytes(graph.SerializeToString())
    X = frames(17, 40)
    exact = streamgru.load(tmp_path / "model.onnx", mode="whole").run(X)
    rough = streamgru.load(tmp_path / "model.onnx", mode="whole", weights="i8").run(X)
    assert 0 < relative(rough, exact) < 0.02


# ---- the error, and the edges ----


@pytest.mark.parametrize("weights, most", [("f16", 1e-3), ("i8", 0.02)])
@pytest.mark.parametrize("op", list(CELLS))
def test_the_error_against_float32_stays_small_over_a_long_stream(op, weights, most):
    attributes = {"linear_before_reset": 1} if op == "GRU" else {}
    graph, _ = cell(op, 48, 96, **attributes)
    X = frames(2000, 48)
    exact, rough = (loaded(graph, w).run(X) for w in ("f32", weights))
    whole, last = relative(rough, exact), relative(rough[-200:], exact[-200:])
    print(f"{op}, {weights}: {whole:.3%} of the RMS, {last:.3%} of it at the end")
    assert 0 < whole < most
    assert last < most


def test_a_state_beyond_one_is_rounded_by_its_own_size():
    graph, _ = cell("RNN", 32, 64, activations=["Affine"], activation_alpha=[1.0], activation_beta=[0.0])
    exact, rough = (loaded(graph, w).stream() for w in ("f32", "i8"))
    h = np.random.default_rng(SEED).standard_normal((1, 1, 64)).astype(np.float32) * 1e4
    for stream in (exact, rough):
        stream.set_state({name: h.reshape(v.shape) for name, v in stream.state.items()})
    x = frames(1, 32)[0]
    assert relative(rough.step(x), exact.step(x)) < 0.02


def test_silence_gives_what_float32_gives():
    graph, _ = cell("RNN", 32, 64)
    x = np.zeros((1, 32), np.float32)
    assert np.array_equal(loaded(graph, "i8").stream().step(x), loaded(graph, "f32").stream().step(x))


def test_a_nan_is_refused_or_passes():
    graph, _ = cell("GRU", 32, 64, linear_before_reset=1)
    x = np.zeros((1, 32), np.float32)
    x[0, 7] = np.inf
    with pytest.raises(streamgru.NonFiniteError):
        loaded(graph, "i8").stream().step(x)
    y = loaded(graph, "i8").stream(nonfinite="pass").step(x)
    assert (y.view(np.uint32) == 0x7FC00000).all()


# ---- parity ----


def test_parity_wants_the_tolerance_stated_and_reports_the_error(tmp_path):
    graph, _ = cell("GRU", 32, 64, linear_before_reset=1)
    (tmp_path / "model.onnx").write_bytes(graph.SerializeToString())
    model = streamgru.load(tmp_path / "model.onnx", weights="i8")
    report = streamgru.parity(model, onnx=tmp_path / "model.onnx", steps=100)
    assert not report.ok
    assert "i8 weights" in report.conclusion
    assert "tolerance" in report.conclusion
    stated = streamgru.parity(model, onnx=tmp_path / "model.onnx", steps=100, tolerance=0.05)
    assert stated.ok, stated.conclusion
    assert stated.same_bits
    assert "RMSE over the output's RMS" in stated.text()
    (output,) = (o for d in stated.to_dict()["differences"] if d["candidate"] == "streamgru step" for o in d["outputs"])
    assert 0 < output["rmse"] / output["rms"] < 0.02
    assert stated.to_dict()["weights"] == "i8"
