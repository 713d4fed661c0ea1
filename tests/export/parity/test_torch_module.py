"""A module is compared in the dtype that was exported, whatever dtype it has itself, and the certificate says so."""

from __future__ import annotations

import copy
import warnings

import numpy as np
import pytest
import torch
from torch import nn

import streamgru
from streamgru_export import export
from streamgru_export.parity.torch_module import TorchModule
from streamgru_export.parity.traces import NotComparedError
from streamgru_export.zoo import GRUNet

SEED = 5
INPUTS, HIDDEN, OUTPUTS = 3, 12, 2
STEPS = 20


def make_net(dtype=torch.float32):
    torch.manual_seed(SEED)
    return GRUNet(INPUTS, HIDDEN, OUTPUTS, 1).eval().to(dtype)


def exported(module, path, form="sequence", dtype=torch.float32):
    """The module's graph: PyTorch's own exporter is the quicker one here."""
    x = torch.zeros(1, 1, INPUTS, dtype=dtype)
    example = (x, module.initial_state().to(dtype)) if form == "step" else (x.expand(1, 4, INPUTS),)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # that it is exported in float32
        export(module, example, path, stream=form, exporter="legacy")
    return path


@pytest.mark.parametrize("form", ["step", "sequence"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16], ids=str)
def test_a_module_of_any_float_certifies(dtype, form, tmp_path):
    """Of half precision the float32 copy, which `export` asks for."""
    module = make_net(dtype)
    kept = dtype if dtype == torch.float64 else torch.float32
    path = exported(copy.deepcopy(module).to(kept), tmp_path / "m.onnx", form, kept)
    report = streamgru.parity(path, module, steps=STEPS)
    assert report.ok, report.text()
    compared = {check.difference.reference for check in report.checks}
    assert {"torch stepped", *(["torch whole"] if form == "sequence" else [])} <= compared
    said = [note for note in report.notes if "compared in float32, as it is exported" in note]
    assert len(said) == (dtype != torch.float64)
    assert all(parameter.dtype == dtype for parameter in module.parameters())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_a_module_rounded_after_its_export_is_another_module(dtype, tmp_path):
    path = exported(make_net(), tmp_path / "m.onnx")
    report = streamgru.parity(path, make_net(dtype), steps=STEPS)
    assert not report.ok
    assert any("torch" in reason for reason in report.reasons)
    assert any(f"the module is in {str(dtype).removeprefix('torch.')}" in note for note in report.notes)


def test_a_module_that_rounds_its_results_is_no_parity_and_the_note_says_why(tmp_path):
    class Rounds(GRUNet):
        def forward(self, x, h=None):
            y, h = super().forward(x, h)
            return y.to(torch.bfloat16), h

    path = exported(make_net(), tmp_path / "m.onnx")
    torch.manual_seed(SEED)
    report = streamgru.parity(path, Rounds(INPUTS, HIDDEN, OUTPUTS, 1).eval(), steps=STEPS)
    assert not report.ok
    assert any("the module gives y in bfloat16" in note for note in report.notes)


# What is fed, and what comes back


class Scale(nn.Module):
    """x · w in the dtype of w, which x must have."""

    def __init__(self, dtype, parameter=True, other=None):
        super().__init__()
        w = torch.full((3,), 1 / 3, dtype=dtype)
        if parameter:
            self.w = nn.Parameter(w)
        else:
            self.register_buffer("w", w)
        if other is not None:
            self.register_buffer("v", torch.zeros(3, dtype=other))

    def forward(self, x):
        if x.dtype != self.w.dtype:
            raise TypeError(f"{self.w.dtype} wanted, not {x.dtype}")
        return x * self.w


def called(module, x):
    peer = TorchModule(module, ["x"], ["y"])
    return peer, peer._named(peer._call({"x": x}))["y"]


@pytest.mark.parametrize("frames", [np.float32, np.float64, np.float16])
@pytest.mark.parametrize("parameter", [True, False], ids=["parameter", "buffer"])
@pytest.mark.parametrize("dtype, numpy", [(torch.float64, np.float64), (torch.float32, np.float32)], ids=str)
def test_frames_are_fed_as_the_module_is(dtype, numpy, parameter, frames):
    x = np.array([1, 2, 3], frames)
    _, y = called(Scale(dtype, parameter), x)
    assert y.dtype == numpy
    np.testing.assert_array_equal(y, x.astype(numpy) * (numpy(1) / numpy(3)))


@pytest.mark.parametrize(
    "dtype, other",
    [(torch.float32, torch.float64), (torch.float64, torch.float32), (torch.float32, torch.int64)],
    ids=str,
)
@pytest.mark.parametrize("parameter", [True, False], ids=["parameter", "buffer"])
def test_a_module_of_two_dtypes_is_fed_what_it_takes(dtype, other, parameter):
    peer, y = called(Scale(dtype, parameter, other), np.ones(3, np.float32))
    np.testing.assert_allclose(y, np.full(3, 1 / 3), rtol=1e-7)
    assert peer.remarks == []


def test_a_module_whose_first_dtype_is_not_that_of_its_input():
    class Second(Scale):
        def __init__(self):
            super().__init__(torch.float64)
            self.register_parameter("first", nn.Parameter(torch.zeros(1)))
            self._parameters = dict(reversed(self._parameters.items()))  # float32 is the first

    _, y = called(Second(), np.ones(3, np.float32))
    assert y.dtype == np.float64


def test_a_module_without_floats_gets_the_frames_as_they_are():
    class Double(nn.Module):
        def forward(self, x):
            return x + x

    for dtype in (np.float32, np.float64, np.int64, np.bool_):
        x = np.ones(3, dtype)
        peer, y = called(Double(), x)
        assert (y.dtype, peer.remarks) == (dtype, [])


def test_the_first_failure_is_the_reason():
    class Refuses(Scale):
        def forward(self, x):
            raise TypeError(f"no {x.dtype}")

    with pytest.raises(NotComparedError, match=r"the module failed: TypeError: no torch\.float64"):
        called(Refuses(torch.float64), np.ones(3, np.float32))


def test_what_is_no_tensor_is_named():
    class Text(nn.Module):
        def forward(self, x):
            return "y"

    with pytest.raises(NotComparedError, match="returns a str"):
        called(Text(), np.ones(3, np.float32))


def test_a_module_that_cannot_be_copied_is_not_compared():
    class Alone(Scale):
        def __deepcopy__(self, memo):
            raise RuntimeError("there is one of me")

    with pytest.raises(NotComparedError, match="a float32 copy of the module failed: RuntimeError: there is one of me"):
        called(Alone(torch.float16), np.ones(3, np.float32))
