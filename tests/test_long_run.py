"""A long run: over 100,000 steps the error neither grows nor exceeds the rounding of float32."""

import numpy as np
import onnxruntime as ort
import pytest
import torch
from torch import nn

import forms
import streamgru
from streamgru_export.oracle.model import Float64Model

STEPS, INPUTS, HIDDEN, LAYERS = 100_000, 64, 128, 2
TOLERANCE = 2e-6  # of a state within [-1, 1]; chains of 192 products in float32
SEED = 20261123


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.gru = nn.GRU(INPUTS, HIDDEN, LAYERS, batch_first=True)

    def forward(self, x):
        return self.gru(x)[0]


@pytest.mark.slow
@pytest.mark.parametrize("exporter", forms.BOTH)
def test_parity_with_torch_onnxruntime_and_float64_over_100_000_steps(exporter, tmp_path):
    """Every step of a stream against each; a run in blocks has the same bits."""
    print(f"seed {SEED}")
    x = np.random.default_rng(SEED).standard_normal((1, STEPS, INPUTS)).astype(np.float32)
    module, graph = forms.export(forms.Form(3, Recurrent, {"x": torch.randn(1, 8, INPUTS)}, time={"x": 1}), exporter)
    (tmp_path / "gru.onnx").write_bytes(graph.SerializeToString())
    model = streamgru.load(tmp_path / "gru.onnx")
    stream = model.stream()
    ours = np.stack([stream.step(frame) for frame in np.ascontiguousarray(np.moveaxis(x, 1, 0))], 1)
    assert np.array_equal(model.run(x), ours)
    with torch.no_grad():
        others = {"torch": module(torch.from_numpy(x)).numpy()}
    session = ort.InferenceSession(tmp_path / "gru.onnx", providers=["CPUExecutionProvider"])
    (others["onnxruntime"],) = session.run(None, {"x": x})
    (others["float64"],) = Float64Model(graph).run({"x": x}).values()
    worst = {}
    for name, y in others.items():
        assert y.shape == ours.shape
        error = np.abs(ours - y).max((0, 2))  # [STEPS]
        worst[name] = float(error.max())
        tenths = " ".join(f"{part.max():.2g}" for part in np.split(error, 10))
        print(f"{exporter}, {STEPS} steps, against {name}: max abs error {worst[name]:.3g}; by tenths {tenths}")
    for name in ("torch", "onnxruntime"):
        print(f"{name} against float64: {float(np.abs(others[name] - others['float64']).max()):.3g}")
    assert max(worst.values()) <= TOLERANCE
