"""The real models of ../shared/models, or of $STREAMGRU_MODELS, and the frames of their golden files."""

from __future__ import annotations

import functools
import os
from pathlib import Path
from typing import Any

import numpy as np

import streamgru

MODELS = Path(os.environ.get("STREAMGRU_MODELS") or Path(__file__).parents[2] / "shared" / "models")

# name -> (file, batch, largest difference allowed). onnxruntime, whose steps the golden files hold, is itself 3e-6 to
# 10e-6 from float64 on convolutions.
STEPPED = {
    "gtcrn": ("gtcrn/gtcrn_simple", 1, 2e-5),
    "nsnet2": ("nsnet2/nsnet2_state_ts_op17", 1, 5e-6),
    "rnnoise": ("rnnoise-2018/rnnoise_stream", 1, 5e-6),
    "nkf": ("nkf-aec/nkf_kgnet_step", 16, 5e-6),
}


@functools.cache
def load(file: str, batch: int = 1) -> streamgru.Model:
    return streamgru.load(MODELS / f"{file}.onnx", batch=batch)


Steps = list[dict[str, Any]]


@functools.cache
def golden(name: str) -> tuple[Steps, Steps, Steps]:
    """Frames for `Stream.step`, the outputs, and the states after each step: lists of dicts by the graph's names."""
    file, batch, _ = STEPPED[name]
    with np.load(MODELS / f"{file}.golden.npz") as arrays:
        data = {key: arrays[key] for key in arrays.files}
    steps = 1 + max(int(key.split("_")[1]) for key in data)
    model = load(file, batch)
    frames = [{i.name: data[f"in_{t}_{i.name}"].reshape(i.shape) for i in model.inputs} for t in range(steps)]
    outputs = [{o.name: data[f"out_{t}_{o.name}"].reshape(o.shape) for o in model.outputs} for t in range(steps)]
    states = [
        {s.name: data[f"out_{t}_{s.source[1]}"].reshape(s.shape) for s in model.states if s.source}
        for t in range(steps)
    ]
    return frames, outputs, states


def plain(frame: dict[str, Any]) -> Any:
    """A frame as a stream takes it: the array alone where there is one input."""
    return frame if len(frame) > 1 else next(iter(frame.values()))
