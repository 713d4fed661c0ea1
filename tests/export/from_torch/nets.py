"""Modules and checks for the tests of the exporter. Expected values come from the PyTorch module; the graphs are run
by onnxruntime, not by what the exporter used to verify them."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
import pytest
import torch
from torch import Tensor, nn

from streamgru.errors import ExportError
from streamgru_export.from_torch import export as torch_export
from streamgru_export.from_torch import exporters as torch_env
from streamgru_export.from_torch.export import export

SEED = 20
TOLERANCE = 1e-5  # float32 against float32, a few hundred products deep
EXPORTERS = ["dynamo", "legacy"]


class Net(nn.Module):
    """A stacked GRU and a Linear on its last frame."""

    def __init__(self, batch_first: bool = True) -> None:
        super().__init__()
        self.gru = nn.GRU(4, 8, 2, batch_first=batch_first, dropout=0.5)
        self.head = nn.Linear(8, 3)

    def forward(self, x: Tensor, h: Tensor | None = None) -> tuple[Tensor, Tensor]:
        y, h = self.gru(x, h)
        return self.head(y[:, -1] if self.gru.batch_first else y[-1]), h


class Loop(nn.Module):
    """A GRUCell in a Python loop over time."""

    def __init__(self) -> None:
        super().__init__()
        self.gru = nn.GRU(4, 4, batch_first=True)  # something for the search for time to watch
        self.cell = nn.GRUCell(4, 8)

    def forward(self, x: Tensor) -> Tensor:
        x, _ = self.gru(x)
        h = x.new_zeros(x.shape[0], 8)
        frames = []
        for t in range(x.shape[1]):
            h = self.cell(x[:, t], h)
            frames.append(h)
        return torch.stack(frames, 1)


class Lambda(nn.Module):
    """A module from its parts and a function of them."""

    def __init__(self, call: Callable[..., Any], **parts: Any) -> None:
        super().__init__()
        self.call = call
        for name, part in parts.items():
            if isinstance(part, Tensor):
                self.register_buffer(name, part)
            else:
                setattr(self, name, part)


class OneInput(Lambda):
    def forward(self, x: Tensor) -> Any:
        return self.call(self, x)


class Step(Lambda):
    def forward(self, x: Tensor, h: Tensor) -> Any:
        return self.call(self, x, h)


def run(path: Path, *inputs: Tensor) -> list[np.ndarray]:
    session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    names = [node.name for node in session.get_inputs()]
    return session.run(None, {n: x.numpy() for n, x in zip(names, inputs, strict=True)})


def flat(result: Any) -> list[Tensor]:
    return [result] if isinstance(result, Tensor) else [y for part in result for y in flat(part)]


def assert_agrees(path: Path, module: nn.Module, *example: Any) -> None:
    """The file gives what the module gives in eval mode, in number, shape and value."""
    training = module.training
    with torch.no_grad():
        expected = flat(module.eval()(*example))
    module.train(training)
    actual = run(path, *flat(example))
    assert [y.shape for y in actual] == [tuple(y.shape) for y in expected]
    for got, want in zip(actual, expected, strict=True):
        np.testing.assert_allclose(got, want.numpy(), rtol=0, atol=TOLERANCE)


def declared(path: Path) -> dict[str, list[int | str]]:
    graph = onnx.load(path).graph
    return {
        v.name: [d.dim_param or d.dim_value for d in v.type.tensor_type.shape.dim]
        for v in [*graph.input, *graph.output]
    }


def operators(path: Path) -> list[str]:
    return [node.op_type for node in onnx.load(path).graph.node]


def properties(path: Path) -> dict[str, str]:
    return {p.key: p.value for p in onnx.load(path).metadata_props}


def refused(path: Path, module: Any, example: Any, match: str, **options: Any) -> None:
    """An ExportError that says `match`, no warning instead, and nothing left in the folder."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(ExportError, match=match):
            export(module, example, path, **options)
    assert [p.name for p in path.parent.iterdir()] == []


def tampered(monkeypatch: pytest.MonkeyPatch, change: Callable[[onnx.ModelProto], None]) -> None:
    """Let torch's exporter write a graph that `change` has spoilt."""
    genuine = torch_env.run_exporter

    def spoilt(*args: Any, **kwargs: Any) -> Any:
        proto = ir.to_proto(genuine(*args, **kwargs))
        change(proto)
        return ir.from_proto(proto)

    monkeypatch.setattr(torch_export, "run_exporter", spoilt)


def drop_linear_before_reset(model: onnx.ModelProto) -> None:
    for node in model.graph.node:
        kept = [a for a in node.attribute if a.name != "linear_before_reset"]
        del node.attribute[:]
        node.attribute.extend(kept)


def projected_step(lstm: nn.LSTM, x: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """One step of an LSTM with a projection, of torch's weights: y, h and c."""
    linear = nn.functional.linear
    gates = linear(x, lstm.weight_ih_l0, lstm.bias_ih_l0) + linear(h, lstm.weight_hh_l0, lstm.bias_hh_l0)
    i, f, g, o = gates.chunk(4, 1)
    c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
    h = linear(torch.sigmoid(o) * torch.tanh(c), lstm.weight_hr_l0)
    return h + 0, h, c
