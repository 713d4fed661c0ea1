"""Every cell of the zoo computes its docstring's equations, and makes the whole trip: exported, compiled, streamed.

Expected values: NumPy in float64, written from the equations; and the module, onnxruntime and the float64 oracle, as
`streamgru.parity` asks them.
"""

import numpy as np
import pytest
import torch

import streamgru
import streamgru_export
from streamgru_export.zoo import (
    CANDIDATES,
    CELLS,
    BidirectionalClassifier,
    CellNet,
    GateDropoutGRUCell,
    GRUCell,
    LanguageModel,
    LSTMNet,
    RNNNet,
    StackedGRU,
)

SEED = 11
STEPS = 300
TOLERANCE = 2e-6  # the project's promise, in float32
EXACT = 1e-12  # float64 against float64, summed in another order
EXPORTERS = ["legacy", pytest.param("dynamo", marks=pytest.mark.slow)]


@pytest.fixture(autouse=True)
def _seeded():
    print(f"seed {SEED}")
    torch.manual_seed(SEED)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def lived_in(module):
    """The module in eval mode, as if trained: normalisers with running values, gains and offsets of their own."""
    for part in module.modules():
        if isinstance(part, torch.nn.BatchNorm1d):
            part.running_mean.uniform_(-0.3, 0.3)
            part.running_var.uniform_(0.1, 1.0)
        if isinstance(part, torch.nn.BatchNorm1d | torch.nn.LayerNorm):
            torch.nn.init.uniform_(part.weight, 0.5, 1.5)
            torch.nn.init.uniform_(part.bias, -0.3, 0.3)
    return module.eval()


# The equations.


def sigmoid(a):
    return 1 / (1 + np.exp(-a))


PHI = {
    "tanh": np.tanh,
    "relu": lambda a: np.maximum(a, 0),
    "leaky_relu": lambda a: np.where(a > 0, a, 0.01 * a),
    "elu": lambda a: np.where(a > 0, a, np.expm1(a)),
    "sigmoid": sigmoid,
}


def linear(p, name, x):
    return x @ p[f"{name}.weight"].T + p[f"{name}.bias"]


def normal(p, name, a):
    """LN."""
    centred = a - a.mean(-1, keepdims=True)
    return p[f"{name}.weight"] * centred / np.sqrt(a.var(-1, keepdims=True) + 1e-5) + p[f"{name}.bias"]


def gru(p, x, h, *, update="keep", reset="after", phi=np.tanh, carried=None, ln=None):
    """h' of GRUCell. `h` enters the products, `carried` (h itself unless given) the blend; `ln` wraps products."""
    ln = ln or (lambda name, a: a)
    a = ln("norm_input", linear(p, "input", x)) + ln("norm_recurrent", linear(p, "recurrent", h))
    z, r = np.split(sigmoid(a), 2, -1)
    before = linear(p, "recurrent_n", r * h if reset == "before" else h)
    rh = ln("norm_recurrent_n", before) * (1 if reset == "before" else r)
    n = phi(ln("norm_input_n", linear(p, "input_n", x)) + rh)
    h = h if carried is None else carried
    return (1 - z) * n + z * h if update == "keep" else (1 - z) * h + z * n


def joint(p, x, h, *, update="keep", reset="after"):
    z, r = np.split(sigmoid(linear(p, "joint", np.concatenate([h, x], -1))), 2, -1)
    if reset == "before":
        n = np.tanh(linear(p, "joint_n", np.concatenate([r * h, x], -1)))
    else:
        n = np.tanh(linear(p, "input_n", x) + r * linear(p, "recurrent_n", h))
    return (1 - z) * n + z * h if update == "keep" else (1 - z) * h + z * n


def batch_norm(p, x, h):
    scaled = (h - p["norm.running_mean"]) / np.sqrt(p["norm.running_var"] + 1e-5)
    return gru(p, x, p["norm.weight"] * scaled + p["norm.bias"], carried=h)


def output_gate(p, x, h):
    o = sigmoid(linear(p, "input_o", x) + linear(p, "recurrent_o", h))
    return o * gru(p, x, h) + (1 - o) * h


def rnn(p, x, h):
    return np.tanh(x @ p["cell.weight_ih"].T + p["cell.bias_ih"] + h @ p["cell.weight_hh"].T + p["cell.bias_hh"])


EQUATIONS = {
    "gru": gru,
    "gru-write": lambda p, x, h: gru(p, x, h, update="write"),
    "gru-before": lambda p, x, h: gru(p, x, h, reset="before"),
    "gru-write-before": lambda p, x, h: gru(p, x, h, update="write", reset="before"),
    "gru-joint": joint,
    "gru-joint-write": lambda p, x, h: joint(p, x, h, update="write"),
    "gru-joint-before": lambda p, x, h: joint(p, x, h, reset="before"),
    "gru-joint-write-before": lambda p, x, h: joint(p, x, h, update="write", reset="before"),
    "gru-relu": lambda p, x, h: gru(p, x, h, phi=PHI["relu"]),
    "gru-leaky-relu": lambda p, x, h: gru(p, x, h, phi=PHI["leaky_relu"]),
    "gru-elu": lambda p, x, h: gru(p, x, h, phi=PHI["elu"]),
    "gru-sigmoid": lambda p, x, h: gru(p, x, h, phi=PHI["sigmoid"]),
    "gru-batch-norm": batch_norm,
    "gru-layer-norm": lambda p, x, h: gru(p, x, h, ln=lambda name, a: normal(p, name, a)),
    "gru-residual": gru,
    "gru-output-gate": output_gate,
    "gru-gate-dropout": lambda p, x, h: gru(p, x, h, update="write"),
    "rnn": rnn,
}


def numbers(module):
    return {name: value.detach().double().numpy() for name, value in module.state_dict().items()}


@pytest.mark.parametrize("name", EQUATIONS)
def test_a_step_is_the_equations(name):
    cell = lived_in(CELLS[name](5, 7)).double()
    rng = np.random.default_rng(SEED)
    x, h = rng.standard_normal((3, 5)), rng.uniform(-1, 1, (3, 7))
    y, after = cell(torch.from_numpy(x), torch.from_numpy(h))
    expected = EQUATIONS[name](numbers(cell), x, h)
    np.testing.assert_allclose(after.detach(), expected, rtol=0, atol=EXACT)
    np.testing.assert_allclose(y.detach(), expected + h if name == "gru-residual" else expected, rtol=0, atol=EXACT)


def test_the_lstm_step_is_the_equations():
    cell = CELLS["lstm"](5, 7).double()
    p = numbers(cell)
    rng = np.random.default_rng(SEED)
    x, h, c = rng.standard_normal((3, 5)), rng.uniform(-1, 1, (3, 7)), rng.standard_normal((3, 7))
    y, (after, c_after) = cell(torch.from_numpy(x), (torch.from_numpy(h), torch.from_numpy(c)))
    a = x @ p["cell.weight_ih"].T + p["cell.bias_ih"] + h @ p["cell.weight_hh"].T + p["cell.bias_hh"]
    i, f, g, o = np.split(a, 4, -1)
    expected_c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
    np.testing.assert_allclose(c_after.detach(), expected_c, rtol=0, atol=EXACT)
    np.testing.assert_allclose(after.detach(), sigmoid(o) * np.tanh(expected_c), rtol=0, atol=EXACT)
    assert torch.equal(y, after)


def test_every_cell_has_its_equations_here():
    assert set(CELLS) == set(EQUATIONS) | {"lstm"}


def test_gru_cell_with_torchs_weights_is_torchs_cell():
    cell, torchs = GRUCell(5, 7).double(), torch.nn.GRUCell(5, 7).double()
    with torch.no_grad():
        for name, ih, hh in (("weight", "weight_ih", "weight_hh"), ("bias", "bias_ih", "bias_hh")):
            for of, of_zr, of_n in ((ih, cell.input, cell.input_n), (hh, cell.recurrent, cell.recurrent_n)):
                r, z, n = getattr(torchs, of).chunk(3)
                getattr(of_zr, name).copy_(torch.cat([z, r]))
                getattr(of_n, name).copy_(n)
    x, h = torch.randn(3, 5).double(), torch.randn(3, 7).double()
    torch.testing.assert_close(cell(x, h)[1], torchs(x, h), rtol=0, atol=EXACT)


@pytest.mark.parametrize("option", ["update", "reset", "candidate"])
def test_an_unknown_option_is_refused_with_those_there_are(option):
    with pytest.raises(ValueError, match=rf"{option}='sideways': one of .* was expected"):
        GRUCell(2, 3, **{option: "sideways"})


def test_every_candidate_is_tried():
    assert set(CANDIDATES) == set(PHI)


# Training and inference.


def test_gate_dropout_is_the_gru_at_inference_to_the_bit():
    dropped = GateDropoutGRUCell(5, 7, dropout=0.5)
    plain = GRUCell(5, 7, update="write")
    plain.load_state_dict(dropped.state_dict())
    x, h = torch.randn(3, 5), torch.randn(3, 7)
    assert not torch.equal(dropped.train()(x, h)[1], plain(x, h)[1])
    assert torch.equal(dropped.eval()(x, h)[1], plain(x, h)[1])


def test_a_dropped_update_gate_keeps_the_state():
    cell = GateDropoutGRUCell(5, 1000, dropout=0.25).train()
    h = torch.rand(1, 1000) + 2  # where tanh cannot reach
    kept = (cell(torch.randn(1, 5), h)[1] == h).float().mean()
    assert 0.2 < kept < 0.3  # binomial, σ = 0.014


@pytest.mark.parametrize("name", ["gru", "lstm"])
def test_a_sequence_rests_after_its_end(name):
    net = CellNet([CELLS[name](3, 8)], 2).eval()
    x = torch.randn(4, 9, 3)
    lengths = torch.tensor([9, 1, 4, 7])
    y, h = net.every_step(x, lengths)
    for b, length in enumerate(lengths.tolist()):
        alone, last = net.every_step(x[b : b + 1, :length])
        torch.testing.assert_close(y[b : b + 1, :length], alone)
        torch.testing.assert_close(
            torch.cat([s[b] for s in (h if name == "lstm" else [h])]),
            torch.cat([s[0] for s in (last if name == "lstm" else [last])]),
        )


def test_packed_sequences_do_not_read_their_padding():
    net = BidirectionalClassifier(3, 8, 2).eval()
    x = torch.randn(4, 9, 3)
    lengths = torch.tensor([2, 9, 4, 7])
    y = net(x, lengths)
    for b, length in enumerate(lengths.tolist()):
        torch.testing.assert_close(y[b : b + 1], net(x[b : b + 1, :length]))


@pytest.mark.parametrize("layer", ["gru", "lstm", "rnn"])
def test_a_language_model_stepped_is_the_whole(layer):
    net = LanguageModel(7, 4, 12, num_layers=2, layer=layer).eval()
    ids = torch.randint(7, (3, 9))
    whole, _ = net(ids)
    h = net.initial_state(3)
    for t in range(9):
        y, h = net(ids[:, t : t + 1], h)
        torch.testing.assert_close(y[:, 0], whole[:, t])


def test_a_language_model_of_an_unknown_layer_is_refused():
    with pytest.raises(ValueError, match="layer='soup': one of 'gru', 'lstm', 'rnn' was expected"):
        LanguageModel(7, 4, 12, layer="soup")


# The whole trip.


def proved(net, example, path, exporter, stream="step"):
    """Export, compile, stream; the parity report, with everybody asked."""
    streamgru_export.export(net, example, path, stream=stream, exporter=exporter)
    report = streamgru.parity(path, module=net, steps=STEPS, seed=SEED, tolerance=TOLERANCE)
    print(report.text())
    assert report.ok
    asked = " ".join(check.difference.reference for check in report.checks)
    assert all(peer in asked for peer in ("float64", "torch", "onnxruntime")), asked
    return report


@pytest.mark.parametrize("exporter", EXPORTERS)
@pytest.mark.parametrize("name", CELLS)
def test_every_cell_streams_what_it_computes(name, exporter, tmp_path):
    net = lived_in(CellNet([CELLS[name](5, 16)], 3))
    proved(net, (torch.zeros(1, 5), net.initial_state()), tmp_path / "cell.onnx", exporter)
    x = torch.randn(1, STEPS, 5)
    model = streamgru.Model(streamgru_export.compile(tmp_path / "cell.onnx").image)
    y = model.stream().run(x[0, :, None].numpy())
    with torch.no_grad():
        expected, _ = net.every_step(x)
    np.testing.assert_allclose(y[:, 0], expected[0], rtol=0, atol=TOLERANCE)


def stacks():
    """Nets of several layers by name."""
    return {
        "keras": StackedGRU(5),
        "lstm": LSTMNet(5, 16, 3),
        "rnn": RNNNet(5, 16, 3),
        "cells": CellNet([CELLS["gru-layer-norm"](5, 8), CELLS["lstm"](8, 12), CELLS["gru-residual"](12, 8)], 2),
    }


@pytest.mark.parametrize("exporter", EXPORTERS)
@pytest.mark.parametrize("name", stacks())
def test_stacks_stream_what_they_compute(name, exporter, tmp_path):
    net = lived_in(stacks()[name])
    states = net.initial_state()
    x = torch.zeros(1, 5) if name == "cells" else torch.zeros(1, 1, 5)
    example = (x, *states) if name == "keras" else (x, states)
    proved(net, example, tmp_path / "stack.onnx", exporter)


@pytest.mark.parametrize("exporter", EXPORTERS)
def test_the_bidirectional_classifier_runs_whole(exporter, tmp_path):
    net = BidirectionalClassifier(3, 16, 4).eval()
    streamgru_export.export(net, torch.randn(1, 7, 3), tmp_path / "bi.onnx", stream="sequence", exporter=exporter)
    for length in (1, 7, 40):
        x = torch.randn(1, length, 3)
        model = streamgru.Model(streamgru_export.compile(tmp_path / "bi.onnx", mode="whole", length=length).image)
        with torch.no_grad():
            expected = net(x)
        np.testing.assert_allclose(model.stream().step(x.numpy()), expected, rtol=0, atol=TOLERANCE)


def test_the_bidirectional_classifier_refuses_to_stream(tmp_path):
    net = BidirectionalClassifier(3, 16, 4).eval()
    streamgru_export.export(net, torch.randn(1, 7, 3), tmp_path / "bi.onnx", stream="sequence", exporter="legacy")
    with pytest.raises(streamgru.ModelError, match="GRU"):
        streamgru_export.compile(tmp_path / "bi.onnx")
