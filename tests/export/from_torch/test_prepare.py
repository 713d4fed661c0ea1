"""The module is copied, made plain and never changed; one that keeps a state or draws numbers is refused."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations

import streamgru
from export.from_torch.nets import (
    EXPORTERS,
    TOLERANCE,
    Net,
    OneInput,
    Step,
    assert_agrees,
    operators,
    projected_step,
    refused,
)
from streamgru.errors import ExportError
from streamgru_export.from_torch.export import export


@pytest.mark.parametrize("exporter", EXPORTERS)
def test_training_mode_is_exported_as_eval_and_left_as_it_was(net_step: Any, exporter: Any) -> None:
    net, before, path = net_step(exporter)
    assert "Dropout" not in operators(path)
    assert (net.training, net.gru.training, net.head.training) == (True, True, False)
    assert all(torch.equal(x, before[name]) for name, x in net.state_dict().items())
    assert all(p.requires_grad for p in net.parameters())


PARAMETRIZATIONS: dict[str, Callable[[nn.Module, str], nn.Module]] = {
    "weight_norm": parametrizations.weight_norm,
    "spectral_norm": parametrizations.spectral_norm,
    "orthogonal": parametrizations.orthogonal,
    "weight_norm hook": nn.utils.weight_norm,
    "spectral_norm hook": nn.utils.spectral_norm,
}


@pytest.mark.parametrize("exporter", EXPORTERS)
@pytest.mark.parametrize("kind", PARAMETRIZATIONS)
@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_parametrizations_become_plain_weights(path: Path, kind: str, exporter: Any) -> None:
    net = Net()
    PARAMETRIZATIONS[kind](net.gru, "weight_hh_l0")
    PARAMETRIZATIONS[kind](net.head, "weight")
    net(torch.randn(1, 3, 4))  # leaves computed weights in the module, which torch refuses to copy
    parameters = [name for name, _ in net.named_parameters()]
    example = torch.randn(1, 1, 4), torch.zeros(2, 1, 8)
    export(net, example, path, exporter=exporter)
    assert not {"ReduceL2", "Div", "Sqrt", "MatMul"} & set(operators(path))
    assert [name for name, _ in net.named_parameters()] == parameters
    assert_agrees(path, net, *example)


def frame(dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    return torch.randn(1, 1, 4).to(dtype), torch.zeros(2, 1, 8, dtype=dtype)


@pytest.mark.parametrize("exporter", ["legacy", pytest.param("dynamo", marks=pytest.mark.slow)])
def test_a_float64_module_is_exported_in_float32_and_streams_what_it_gives(path: Path, exporter: Any) -> None:
    net = Net().double().eval()
    with pytest.warns(UserWarning, match="in float64: exported, and verified, in float32.*differ by"):
        export(net, frame(torch.float64), path, exporter=exporter)
    assert {t.data_type for t in onnx.load(path).graph.initializer} <= {onnx.TensorProto.FLOAT, onnx.TensorProto.INT64}
    assert net.head.weight.dtype == torch.float64
    stream, h = streamgru.load(path).stream(), torch.zeros(2, 1, 8, dtype=torch.float64)
    for x in torch.randn(20, 1, 1, 4):
        with torch.no_grad():
            y, h = net(x.double(), h)
        np.testing.assert_allclose(stream.step(x.numpy()), y.numpy(), rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("exporter", EXPORTERS)
def test_a_module_in_half_precision_is_refused_and_its_float_copy_is_proved(
    path: Path, dtype: torch.dtype, exporter: Any
) -> None:
    """A stream in float32 does not repeat the module's rounding: no certificate could hold."""
    net = Net().to(dtype)
    name = str(dtype).removeprefix("torch.")
    refused(path, net, frame(dtype), rf"in {name}: .*copy.deepcopy\(module\).float\(\)", exporter=exporter)
    assert net.head.weight.dtype == dtype
    if exporter == "legacy":
        wide = copy.deepcopy(net).float()
        export(wide, frame(torch.float32), path, exporter=exporter)
        assert streamgru.parity(path, module=wide, steps=20).ok


def test_a_half_of_a_module_in_another_dtype_counts_as_well(path: Path) -> None:
    net = Net()
    net.head.half()
    refused(path, net, frame(torch.float32), "in float16")
    net.head.double()
    with pytest.warns(UserWarning, match="in float64"):
        export(net, frame(torch.float32), path, exporter="legacy")


def widened(self: Any, x: Tensor) -> Tensor:
    return self.linear(x.double())


def test_a_module_that_makes_float64_itself_is_told_not_to(path: Path) -> None:
    net = OneInput(widened, linear=nn.Linear(4, 3).double())
    refused(path, net, torch.randn(1, 4), r"in torch.float32 the module fails.*without double\(\)")
    net.call = lambda self, x: self.linear(x)
    with pytest.warns(UserWarning, match="in float64"):
        export(net, torch.randn(1, 4), path, exporter="legacy")


def test_a_module_that_needs_float64_is_refused(path: Path) -> None:
    """1e9 + y - 1e9 is y to seven digits in float64, and 0 or 64 in float32."""
    net = OneInput(lambda self, x: self.linear(x) + 1e9 - 1e9, linear=nn.Linear(4, 3).double())
    refused(path, net, torch.randn(1, 4).double(), r"results on the example differ by.*raise tolerance=")
    with pytest.warns(UserWarning, match="in float64"):
        export(net, torch.randn(1, 4).double(), path, exporter="legacy", tolerance=10.0)


def test_compiled_module_is_exported_as_the_module_it_wraps(path: Path) -> None:
    gru = nn.GRU(4, 8)
    export(torch.compile(gru), torch.randn(5, 1, 4), path, exporter="legacy")  # type: ignore[arg-type]
    assert_agrees(path, gru, torch.randn(7, 1, 4))


def copied(self: Any, x: Tensor) -> Tensor:
    y, h = self.gru(x, self.memory)
    self.memory.copy_(h)
    return y


def assigned(self: Any, x: Tensor) -> Tensor:
    y, self.memory = self.gru(x, self.memory)
    return y


def in_a_list(self: Any, x: Tensor) -> Tensor:
    y, self._held[0] = self.gru(x, self._held[0])
    return y


@pytest.mark.parametrize("exporter", EXPORTERS)
@pytest.mark.parametrize("call, name", [(copied, "memory"), (assigned, "memory"), (in_a_list, r"_held\[0\]")])
def test_state_in_the_module_is_refused(path: Path, call: Any, name: str, exporter: Any) -> None:
    net = OneInput(call, gru=nn.GRU(4, 8), memory=torch.zeros(1, 1, 8), _held=[torch.zeros(1, 1, 8)])
    refused(path, net, torch.randn(1, 1, 4), f"changes {name}.*state kept inside", exporter=exporter)


def test_a_state_in_the_module_written_as_an_argument_exports(path: Path) -> None:
    """As the refusal says to write it."""
    net = Step(lambda self, x, h: self.gru(x, h), gru=nn.GRU(4, 8))
    assert export(net, (torch.randn(1, 1, 4), torch.zeros(1, 1, 8)), path, exporter="legacy").state


def test_a_counter_in_the_module_is_only_warned_about(path: Path) -> None:
    def call(self: Any, x: Tensor) -> Tensor:
        self.calls += 1
        return self.linear(x)

    net = OneInput(call, linear=nn.Linear(4, 3), calls=torch.zeros((), dtype=torch.int64))
    with pytest.warns(UserWarning, match="changes calls"):
        export(net, torch.randn(1, 4), path, exporter="legacy")
    assert net.calls == 0


def test_randomness_in_eval_mode_is_refused(path: Path) -> None:
    net = OneInput(lambda self, x: nn.functional.dropout(self.linear(x)), linear=nn.Linear(4, 30))
    refused(path, net, torch.randn(1, 4), "draws random numbers.*training=self.training")
    net.call = lambda self, x: nn.functional.dropout(self.linear(x), training=self.training)
    export(net, torch.randn(1, 4), path, exporter="legacy")


@pytest.mark.filterwarnings("ignore")  # torch says that this quantisation is going away
@pytest.mark.parametrize("exporter", EXPORTERS)
def test_a_quantised_module_is_refused_by_its_layer(path: Path, exporter: Any) -> None:
    """Both exporters fail on it, in the words of torch's C++."""
    quantised = torch.ao.quantization.quantize_dynamic(Net().eval(), {nn.GRU}, dtype=torch.qint8)
    with pytest.raises(ExportError, match=r"gru is quantised \(torch\.ao.*GRU\).*export the float module"):
        export(quantised, (torch.randn(1, 1, 4), torch.zeros(2, 1, 8)), path, exporter=exporter)
    assert not list(path.parent.iterdir())
    if exporter == "legacy":
        export(Net(), (torch.randn(1, 1, 4), torch.zeros(2, 1, 8)), path, exporter=exporter)


class Projected(nn.Module):
    """One step of an LSTM with a projection: torch's, or the same of its weights."""

    def __init__(self, written_out: bool) -> None:
        super().__init__()
        self.lstm, self.written_out = nn.LSTM(4, 6, proj_size=3, batch_first=True), written_out

    def forward(self, x: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        if not self.written_out:
            y, (h, c) = self.lstm(x[:, None], (h[None], c[None]))
            return y[:, 0], h[0], c[0]
        return projected_step(self.lstm, x, h, c)


def test_an_lstm_with_projections_is_written_out(path: Path) -> None:
    """The legacy exporter has no form of it, the default one writes an LSTM that onnxruntime does not run."""
    module, example = Projected(False), (torch.randn(1, 4), torch.zeros(1, 3), torch.zeros(1, 6))
    refused(path, module, example, r"lstm projects its output \(proj_size=3\).*write one step of it")
    written = Projected(True)
    written.load_state_dict(module.state_dict())
    export(written, example, path, exporter="legacy")
    assert_agrees(path, module, *example)


def test_what_is_no_module_is_refused(path: Path) -> None:
    refused(path, lambda x: x, torch.randn(1, 1, 4), "expected a torch.nn.Module")


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_scripted_module_is_refused(path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        scripted = torch.jit.script(nn.Linear(4, 3))
    refused(path, scripted, torch.randn(1, 1, 4), "scripted or traced module; give the nn.Module")
    export(nn.Linear(4, 3), torch.randn(1, 1, 4), path, exporter="legacy")
