"""Advice on an axis of time that was taken for a batch: given only where it was tried and is right."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from pathlib import Path

from streamgru.errors import StreamgruError
from streamgru.model import load


def advice(onnx: Path | None) -> Callable[[Mapping[str, int]], str]:
    """`advise({"x": 1})` is `": time_axis={'x': 1}"` where the file compiles so, and else says that it does not."""

    def advise(time_axis: Mapping[str, int]) -> str:
        if onnx is None or not time_axis:
            return ""
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", UserWarning)
                model = load(onnx, time_axis=dict(time_axis))
        except StreamgruError as error:
            return f". With time_axis={dict(time_axis)} it does not compile: {error}"
        streams = all(t.time_axis == time_axis[t.name] for t in model.inputs if t.name in time_axis)
        return f": time_axis={dict(time_axis)}" if streams else ""

    return advise
