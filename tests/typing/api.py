"""The public API as a user types it. Checked by mypy --strict, never run."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import streamgru


def forecast(path: Path, frames: NDArray[np.float32]) -> list[NDArray[np.float32]]:
    model: streamgru.Model = streamgru.load(path)
    for tensor in (*model.inputs, *model.outputs, *model.states):
        name: str = tensor.name
        size: int = tensor.shape[0]
        print(name, size, tensor.dtype)
    with model.stream() as stream:
        state: bytes = stream.save()
        stream.restore(state)
        other: streamgru.Stream = stream.clone()
        other.reset()
        stream.run(frames)
        stream.step_inplace()
        y = stream.step(frames[0])
        return [y]


def whole(path: Path, sequences: NDArray[np.float32]) -> list[NDArray[np.float32]]:
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


def verdict(path: Path) -> bool:
    report: streamgru.ParityReport = streamgru.parity(path)
    text: str = report.text()
    print(text, streamgru.isa(), streamgru.available_isas())
    ok: bool = report.ok
    return ok
