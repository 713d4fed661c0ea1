"""Small compiled models for the tests of the runtime, with their weights for the oracle."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import helper

import streamgru
from export.graphs import gru_weights, model
from streamgru_export.compiler.compile import compile as compile_onnx
from streamgru_export.oracle.model import gru

SEED = 7


def gru_onnx(
    inputs: int = 5, hidden: int = 8, *, batch: int = 1, **attributes: Any
) -> tuple[onnx.ModelProto, dict[str, Any]]:
    """One GRU over a dynamic time axis: X [time, batch, I] -> Y [time, 1, batch, H]."""
    weights = gru_weights(np.random.default_rng(SEED), inputs, hidden)
    attributes = {"hidden_size": hidden, "linear_before_reset": 1, **attributes}
    node = helper.make_node("GRU", ["X", "W", "R", "B"], ["Y"], name="the_gru", **attributes)
    return model([node], {"X": ["time", batch, inputs]}, ["Y"], weights), weights


def gru_image(*args: Any, **kwargs: Any) -> bytes:
    return compile_onnx(gru_onnx(*args, **kwargs)[0]).image


def gru_model(*args: Any, **kwargs: Any) -> streamgru.Model:
    return streamgru.Model(gru_image(*args, **kwargs))


def sequence(frames: int, inputs: int = 5, batch: int = 1, seed: int = 3) -> Any:
    print(f"seed {seed}")
    return np.random.default_rng(seed).standard_normal((frames, batch, inputs)).astype(np.float32)


def expected(x: Any, inputs: int = 5, hidden: int = 8, **attributes: Any) -> Any:
    """Y of the float64 oracle."""
    w = gru_onnx(inputs, hidden)[1]
    return gru(x, w["W"], w["R"], w["B"], hidden_size=hidden, **{"linear_before_reset": 1, **attributes})[0]
