"""How the model of a report is tried: made, loaded and run as a user does it, beside onnxruntime or torch."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from torch import Tensor, nn

import streamgru
from export.graphs import onnxruntime

SEED = 11
# float32 against float32: gates of some dozens of products, over some dozens of frames.
TOLERANCE = 5e-6


def rng() -> np.random.Generator:
    print(f"seed {SEED}")
    return np.random.default_rng(SEED)


def floats(*shape: int, scale: float = 1.0) -> Any:
    """Random float32, the same for one shape."""
    return (rng().standard_normal(shape) * scale).astype(np.float32)


def seeded(make: Callable[[], nn.Module]) -> nn.Module:
    print(f"seed {SEED}")
    torch.manual_seed(SEED)
    return make().eval()


# The legacy exporter takes a tenth of the other's time.
EXPORTERS = pytest.mark.parametrize("exporter", ["legacy", pytest.param("dynamo", marks=pytest.mark.slow)])


# ---- ONNX graphs ----


def written(graph: onnx.ModelProto, folder: Path) -> Path:
    path = folder / "model.onnx"
    onnx.save(graph, path)
    return path


def plain(feeds: Mapping[str, Any]) -> Any:
    """As `run` and `step` take it: the array alone where there is one."""
    return dict(feeds) if len(feeds) > 1 else next(iter(feeds.values()))


def last_of(model: streamgru.Model, results: Mapping[str, Any]) -> dict[str, Any]:
    """What the graph gives: of an output without a time axis, the last frame's."""
    return {t.name: results[t.name] if t.time_axis is not None else results[t.name][-1] for t in model.outputs}


def streamed(model: streamgru.Model, feeds: Mapping[str, Any]) -> dict[str, Any]:
    """A sequence in one call, through a stream."""
    with model.stream() as stream:
        return last_of(model, model.named(stream.run(plain(feeds))))


def stepped(model: streamgru.Model, feeds: Mapping[str, Any]) -> dict[str, Any]:
    """The same frame by frame."""
    names = [t.name for t in model.inputs]
    axes = {t.name: t.time_axis or 0 for t in model.inputs}
    frames = len(np.moveaxis(feeds[names[0]], axes[names[0]], 0))
    with model.stream() as stream:
        steps = [
            model.named(stream.step(plain({n: np.take(feeds[n], t, axes[n]) for n in names}))) for t in range(frames)
        ]
    return {
        o.name: steps[-1][o.name] if o.time_axis is None else np.stack([y[o.name] for y in steps], o.time_axis)
        for o in model.outputs
    }


def close(actual: Mapping[str, Any], expected: Mapping[str, Any], tolerance: float = TOLERANCE) -> None:
    """The same names, shapes and, within the tolerance, numbers."""
    assert set(actual) == set(expected)
    for name, y in expected.items():
        assert actual[name].shape == y.shape, name
        np.testing.assert_allclose(actual[name], y, rtol=tolerance, atol=tolerance, err_msg=name)


def streams_as_whole(
    graph: onnx.ModelProto, feeds: Mapping[str, Any], folder: Path, tolerance: float = TOLERANCE, **options: Any
) -> streamgru.Model:
    """Streamed in one call and in steps, and run whole: what onnxruntime gives in one call. And the certificate."""
    path, expected = written(graph, folder), onnxruntime(graph, feeds)
    model = streamgru.load(path, **options)
    close(streamed(model, feeds), expected, tolerance)
    close(stepped(model, feeds), expected, tolerance)
    streamgru.parity(path, steps=20).raise_for_verdict()
    whole_is_right(graph, feeds, folder, tolerance)
    return model


def whole_is_right(
    graph: onnx.ModelProto, feeds: Mapping[str, Any], folder: Path, tolerance: float = TOLERANCE
) -> None:
    """The advice mode="whole" works, and gives what onnxruntime gives."""
    model = streamgru.load(written(graph, folder), mode="whole")
    y = model.run(plain(feeds))
    names = [o.name for o in model.outputs]
    close(y if isinstance(y, dict) else {names[0]: y}, onnxruntime(graph, feeds), tolerance)


def does_not_stream(graph: onnx.ModelProto, folder: Path, match: str, **options: Any) -> None:
    """Refused, with a message that names the node."""
    with pytest.raises(streamgru.CannotStreamError, match=match):
        streamgru.load(written(graph, folder), **options)


# ---- torch modules ----


def exported(module: nn.Module, example: Any, folder: Path, **options: Any) -> Path:
    """The file. By the legacy exporter unless told otherwise."""
    path = folder / "module.onnx"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        streamgru.export(module, example, path, **{"exporter": "legacy", **options})
    return path


def export_is_refused(module: nn.Module, example: Any, folder: Path, match: str, **options: Any) -> None:
    with pytest.raises(streamgru.ExportError, match=match):
        exported(module, example, folder, **options)
    assert not list(folder.iterdir())


def torch_says(module: nn.Module, *inputs: Any) -> Any:
    with torch.no_grad():
        return module(*inputs)


def tensor(array: Any) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(array))


def near(actual: Any, expected: Tensor, tolerance: float = TOLERANCE) -> None:
    assert actual.shape == tuple(expected.shape)
    np.testing.assert_allclose(actual, expected.numpy(), rtol=tolerance, atol=tolerance)


def steps_like(
    path: Path, module: nn.Module, frames: Sequence[Any], states: Sequence[Tensor], tolerance: float = TOLERANCE,
    outputs: int = 1,
) -> streamgru.Model:  # fmt: skip
    """A step graph, frame after frame, beside its module whose states are fed back by hand; and its certificate."""
    model = streamgru.load(path)
    with model.stream() as stream:
        for x in frames:
            y = list(model.named(stream.step(x)).values())
            with torch.no_grad():
                results = module(tensor(x), *states)
            results, states = results[:outputs], results[outputs:]
            for actual, expected in zip(y, results, strict=True):
                near(actual, expected, tolerance)
    streamgru.parity(path, module, steps=20).raise_for_verdict()
    return model
