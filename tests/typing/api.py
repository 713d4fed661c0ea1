"""The public API as a user types it. Checked by mypy --strict and by pyright, never run."""

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

import streamgru
from streamgru_export.zoo import GRUNet

F32 = NDArray[np.float32]


def make(path: Path) -> torch.nn.Module:
    net = GRUNet(input_size=8, hidden_size=16, output_size=1).eval()
    example = (torch.zeros(1, 1, 8), net.initial_state())
    exported: streamgru.ExportResult = streamgru.export(net, example, path, stream="step", exporter="dynamo")
    error: float = exported.max_abs_error
    print(exported.kind, error)
    return net


def compile(path: Path) -> bytes:
    compiled: streamgru.Compiled = streamgru.compile(path, weights="i8", tolerance=0.02, dims={"batch": 1})
    shapes: dict[str, tuple[int, ...]] = compiled.inputs
    print(shapes)
    return compiled.image


def forecast(path: Path, frames: F32) -> list[F32]:
    model: streamgru.Model = streamgru.load(path, weights="f16", threads=2)
    for tensor in (*model.inputs, *model.outputs, *model.states):
        name: str = tensor.name
        size: int = tensor.shape[0]
        print(name, size, tensor.dtype)
    with model.stream(block=4, nonfinite="pass") as stream:
        state: bytes = stream.save()
        stream.restore(state)
        other: streamgru.Stream = stream.clone()
        other.reset()
        Y = stream.run(frames)
        stream.step_inplace()
        y = stream.step(frames[0])
        by_name = model.named(y)
        return [y, Y[-1], by_name["y"]]


def several(path: Path, x: F32, h: F32) -> F32:
    model = streamgru.load(path)
    with model.stream() as stream:
        return model.named(stream.step({"x": x, "h": h}))["y"]


def many(path: Path, frames: F32) -> F32:
    with streamgru.load(path).pool(256, lanes=16) as pool:
        a, b = pool.open(), pool.open()
        state: bytes = pool.save(a)
        pool.restore(b, state)
        pool.close(b)
        return pool.step([a], frames[:1])


def whole(path: Path, sequences: F32) -> list[F32]:
    streaming: streamgru.Model = streamgru.load(path)
    bound: streamgru.Model = streamgru.load(path, mode="whole", length=20)
    free: streamgru.WholeModel = streamgru.load(path, mode="whole")
    session = streamgru.InferenceSession(path)
    for arg in (*session.get_inputs(), *free.inputs):
        kind: str = arg.type
        print(arg.name, arg.shape, kind)
    stream = streaming.stream()
    stream.set_state(streaming.stream().state)
    results = [m.run(sequences) for m in (streaming, bound)]
    return [*results, free.run(sequences, lengths=[3, 4]), *session.run(None, {"x": sequences})]


def verdict(path: Path, net: torch.nn.Module) -> bool:
    report: streamgru.ParityReport = streamgru.parity(path, module=net, steps=100, tolerance=1e-6)
    text: str = report.text()
    print(text, streamgru.isa(), streamgru.available_isas())
    verdict: str = report.verdict
    ok: bool = report.ok and verdict == "holds"
    return ok


def refused(path: Path) -> str:
    try:
        streamgru.load(path)
    except streamgru.CannotStreamError as error:
        first: streamgru.Obstacle = error.obstacles[0]
        return f"{first.node}: {first.reason}; {first.remedy}"
    except streamgru.StreamgruError as error:
        return str(error)
    return ""
