"""The whole compiler: on the real models, on what both torch exporters write, and its options."""

from __future__ import annotations

import os
import warnings

import numpy as np
import onnx
import pytest
import torch
from onnx import helper
from onnxruntime.quantization import quantize_dynamic
from torch import nn

import streamgru_export
from export.graphs import assert_close, gru_weights, model, onnxruntime, rng, stream, whole
from export.image_vm import ImageVM
from real_models import MODELS
from streamgru.errors import ModelError, OptionError
from streamgru_export.compiler.compile import compile
from streamgru_export.zoo import GRUNet

needs_models = pytest.mark.skipif(not MODELS.is_dir(), reason=f"no real models at {MODELS}; set STREAMGRU_MODELS")


# ---- the real models ----

# file, golden, dims, pairs, tolerance. The goldens are onnxruntime's, whose own rounding on the convolutions is 1e-5;
# the values of NSNet2 reach 8, of RNNoise's states 9.
REAL = {
    "gtcrn": ("gtcrn/gtcrn_simple.onnx", "gtcrn/gtcrn_simple.golden.npz", {}, 3, 2e-5),
    "nsnet2 state": ("nsnet2/nsnet2_state_ts_op17.onnx", "nsnet2/nsnet2_state_ts_op17.golden.npz", {}, 2, 5e-6),
    "nsnet2 seq": ("nsnet2/nsnet2_seq_ts_op17.onnx", "nsnet2/nsnet2_state_ts_op17.golden.npz", {}, 0, 5e-6),
    "rnnoise stream": ("rnnoise-2018/rnnoise_stream.onnx", "rnnoise-2018/rnnoise_stream.golden.npz", {}, 3, 5e-6),
    "rnnoise seq": ("rnnoise-2018/rnnoise_seq.onnx", "rnnoise-2018/rnnoise_stream.golden.npz", {}, 0, 5e-6),
    "nkf": ("nkf-aec/nkf_kgnet_step.onnx", "nkf-aec/nkf_kgnet_step.golden.npz", {"B": 16}, 4, 5e-6),
}


@needs_models
@pytest.mark.parametrize("name", list(REAL))
def test_real_models_stream_their_golden_steps(name):
    file, golden, dims, pairs, tolerance = REAL[name]
    compiled = compile(MODELS / file, dims=dims)
    assert len(compiled.pairs) == pairs
    vm, values = ImageVM(compiled.image), np.load(MODELS / golden)
    for t in range(20):
        frame = {n: _frame(values[f"in_{t}_{n}"], compiled.time_axis[n]) for n in compiled.inputs}
        got = vm.step(frame)
        expected = {n: _frame(values[f"out_{t}_{n}"], compiled.time_axis[n]) for n in compiled.outputs}
        assert_close(got, expected, tolerance)


def _frame(value, axis):
    return value if axis is None else np.squeeze(value, axis)


@needs_models
@pytest.mark.parametrize("file", ["decoder_gru", "decoder_grucell"])
def test_g2p_decoder_steps(file):
    path = MODELS / "g2p-en" / f"{file}.onnx"
    compiled, source = compile(path), onnx.load(path)
    assert compiled.pairs == [("h", "h_out")]
    vm = ImageVM(compiled.image)
    h = np.zeros(next(iter(compiled.states.values())), np.float32)
    token = np.int64([2])
    for _ in range(8):
        expected = onnxruntime(source, {"tok": token, "h": h})
        assert_close(vm.step({"tok": token}), {n: expected[n] for n in ("logits", "next")}, 1e-5)
        h, token = expected["h_out"], expected["next"]


@needs_models
def test_g2p_encoder_streams_its_letters():
    path = MODELS / "g2p-en" / "encoder.onnx"
    feeds = {"ids": rng().integers(3, 29, (1, 12))}
    assert_close(stream(compile(path), feeds), onnxruntime(onnx.load(path), feeds), 5e-6)


# ---- what torch writes ----


class Sequence(nn.Module):
    def __init__(self, hidden, layers=1, head="all", batch_first=True):
        super().__init__()
        self.gru = nn.GRU(8, hidden, layers, batch_first=batch_first)
        self.linear = nn.Linear(hidden, 3)
        self.head = head

    def forward(self, x, h=None):
        y, hn = self.gru(x) if h is None else self.gru(x, h)
        if self.head == "all":
            y = torch.sigmoid(self.linear(y))
        elif self.head == "last":
            y = self.linear(y[:, -1])
        elif self.head == "hidden":
            y = self.linear(hn[-1])
        return y if h is None else (y, hn)


class Cell(nn.Module):
    def __init__(self, hidden):
        super().__init__()
        self.cell = nn.GRUCell(8, hidden)
        self.linear = nn.Linear(hidden, 3)

    def forward(self, x, h):
        h = self.cell(x, h)
        return self.linear(h), h


def torch_export(module, args, path, names, dynamo, axes=None):
    """By either exporter; with `axes` dynamic."""
    module.eval()
    inputs, outputs = names
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        extra = {} if dynamo or axes is None else {"dynamic_axes": {inputs[0]: axes}}
        if dynamo and axes is not None:
            extra = {"dynamic_shapes": (axes,)}
        torch.onnx.export(
            module, args, path, dynamo=dynamo, input_names=inputs, output_names=outputs, verbose=False, **extra
        )
    return onnx.load(path)


EXPORTERS = pytest.mark.parametrize("dynamo", [False, True], ids=["legacy", "dynamo"])
SIZES = pytest.mark.parametrize("hidden", [16, 64])  # from 53 on the default exporter leaves weights unfolded


@EXPORTERS
@SIZES
@pytest.mark.parametrize("layers", [1, 2])
def test_torch_step_graphs(tmp_path, dynamo, hidden, layers):
    torch.manual_seed(1)
    args = (torch.randn(1, 1, 8), torch.zeros(layers, 1, hidden))
    path = tmp_path / "m.onnx"
    source = torch_export(Sequence(hidden, layers), args, path, (["x", "h_in"], ["y", "h_out"]), dynamo)
    compiled = compile(path)
    assert (compiled.kind, compiled.pairs) == ("step", [("h_in", "h_out")])
    _steps(compiled, source, "h_in", "h_out", (layers, 1, hidden), (1, 1, 8))


@EXPORTERS
def test_torch_cells(tmp_path, dynamo):
    torch.manual_seed(1)
    path = tmp_path / "m.onnx"
    args = (torch.randn(1, 8), torch.zeros(1, 16))
    source = torch_export(Cell(16), args, path, (["x", "h"], ["y", "hn"]), dynamo)
    compiled = compile(path)
    assert compiled.pairs == [("h", "hn")]
    _steps(compiled, source, "h", "hn", (1, 16), (1, 8))


def _steps(compiled, source, state_in, state_out, state_shape, x_shape):
    vm, r, h = ImageVM(compiled.image), rng(), np.zeros(state_shape, np.float32)
    for _ in range(6):
        x = r.normal(size=x_shape).astype(np.float32)
        expected = onnxruntime(source, {"x": x, state_in: h})
        assert_close(vm.step({"x": x}), {"y": expected["y"]})
        h = expected[state_out]


@SIZES
@pytest.mark.parametrize("head", ["none", "all", "last", "hidden"])
def test_torch_sequence_graphs(tmp_path, hidden, head):
    """The legacy exporter's; from_torch/test_export.py has the default one's dynamic graphs."""
    torch.manual_seed(1)
    path = tmp_path / "m.onnx"
    source = torch_export(Sequence(hidden, 2, head), (torch.randn(2, 5, 8),), path, (["x"], ["y"]), False,
                          {0: "batch", 1: "time"})  # fmt: skip
    compiled = compile(path)
    assert compiled.kind == "sequence"
    assert len(compiled.states) == 2
    feeds = {"x": rng().normal(size=(1, 9, 8)).astype(np.float32)}
    assert_close(stream(compiled, feeds), onnxruntime(source, feeds))


@EXPORTERS
@SIZES
def test_torch_sequences_of_a_baked_length(tmp_path, dynamo, hidden):
    torch.manual_seed(1)
    path = tmp_path / "m.onnx"
    source = torch_export(Sequence(hidden), (torch.randn(1, 7, 8),), path, (["x"], ["y"]), dynamo)
    compiled = compile(path)
    assert compiled.time_axis == {"x": 1, "y": 1}
    feeds = {"x": rng().normal(size=(1, 7, 8)).astype(np.float32)}
    assert_close(stream(compiled, feeds), onnxruntime(source, feeds))


# ---- options and errors ----


def sequence(producer="test", lbr=1, direction="forward"):
    weights = gru_weights(rng(), 4, 6, 2 if direction == "bidirectional" else 1)
    gru = helper.make_node("GRU", ["x", "W", "R", "B"], ["Y"], name="gru", hidden_size=6, linear_before_reset=lbr,
                           direction=direction)  # fmt: skip
    return model([gru], {"x": ["T", 1, 4]}, ["Y"], weights, producer=producer)


def test_the_package_has_compile(tmp_path):
    compiled = streamgru_export.compile(sequence(), tmp_path / "m.sgru")
    assert (tmp_path / "m.sgru").read_bytes() == compiled.image


def test_a_lost_linear_before_reset_is_obeyed_with_a_warning():
    with pytest.warns(UserWarning, match="linear_before_reset=0"):
        compiled = compile(sequence("pytorch", lbr=0))
    feeds = {"x": rng().normal(size=(5, 1, 4)).astype(np.float32)}
    assert_close(stream(compiled, feeds), onnxruntime(sequence("pytorch", lbr=0), feeds))


@pytest.mark.parametrize("producer, lbr", [("pytorch", 1), ("tf2onnx", 0)])
def test_a_linear_before_reset_that_is_meant_warns_of_nothing(producer, lbr):
    assert compile(sequence(producer, lbr)).notes == []


def test_bidirectional_over_time_runs_whole():
    source = sequence(direction="bidirectional")
    with pytest.raises(ModelError, match=r"cannot stream.*'gru'"):
        compile(source)
    feeds = {"x": rng().normal(size=(5, 1, 4)).astype(np.float32)}
    assert_close(whole(compile(source, mode="whole", length=5), feeds), onnxruntime(source, feeds))


@pytest.mark.parametrize(
    "options, message",
    [
        ({"mode": "fast"}, "mode"),
        ({"batch": 0}, "batch"),
        ({"mode": "whole"}, "length"),
        ({"mode": "whole", "length": 0}, "length"),
        ({"dims": {"T": 0}}, "'T'"),
        ({"dims": {"U": 1}}, "'U'"),
        ({"dims": {"T": "x"}}, "'T'"),
        ({"dims": "T"}, "dims"),
        ({"batch": 1.5}, "batch"),
        ({"weights": "i4"}, "weights"),
        ({"tolerance": -1}, "tolerance"),
        ({"tolerance": "little"}, "tolerance"),
        ({"time_axis": {"x": None}}, "'x'"),
        ({"state": [("x",)]}, "state"),
        ({"wieghts": "i8"}, "did you mean 'weights'"),
        ({"time_axis": {"y": 0}}, "'y'"),
        ({"state": [("x", "Y")]}, "state"),
    ],
)
def test_options_that_make_no_sense_are_refused(options, message):
    with pytest.raises((ModelError, OptionError), match=message):
        compile(sequence(), **options)


def test_a_stream_takes_one_frame_so_its_time_cannot_be_bound():
    with pytest.raises(ModelError, match=r"'T'.*time axis"):
        compile(sequence(), dims={"T": 4})
    assert compile(sequence(), mode="whole", dims={"T": 4}).inputs == {"x": (4, 1, 4)}


def test_compiling_needs_neither_torch_nor_onnxruntime():
    import subprocess
    import sys

    code = "import sys, streamgru_export.compiler; print({'torch', 'onnxruntime', 'onnxscript'} & set(sys.modules))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=os.environ)
    assert out.stdout.strip() == "set()"


def test_damaged_models_give_errors_and_nothing_else():
    """Bytes changed, bits flipped, pieces cut out: each is refused, or is a model still."""
    r, data, refused = rng(), sequence().SerializeToString(), 0
    for _ in range(2000):
        damaged = bytearray(data)
        for _ in range(int(r.integers(1, 4))):
            at = int(r.integers(len(damaged)))
            if r.integers(2):
                damaged[at] = int(r.integers(256))
            else:
                del damaged[at : at + int(r.integers(1, 5))]
        try:
            compile(bytes(damaged))
        except ModelError:
            refused += 1
    assert refused > 1000


@pytest.mark.parametrize("exporter", ["legacy", "quantised"])
def test_weights_that_are_not_there_are_refused_with_what_to_do(exporter, tmp_path):
    """export_params=False makes the weights inputs; onnxruntime's quantisation makes those beside the GRU bytes."""
    net, path = GRUNet(3, 8, 2, 1).eval(), tmp_path / "net.onnx"
    example = torch.zeros(1, 1, 3), net.initial_state()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(net, example, path, dynamo=False, export_params=exporter == "quantised")
    message = r"GRU node '.*': its W .*export_params=True"
    if exporter == "quantised":
        quantize_dynamic(path, path)
        message = r"'head.weight.*int8.*give the float model that it was made from"
    with pytest.raises(ModelError, match=message):
        compile(path)
