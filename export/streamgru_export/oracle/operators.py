"""The operators that onnx's evaluator has wrong or slow, each of every opset, in float64.

The classes carry the names of the operators: that is how the evaluator finds them. The arithmetic stands in
`recurrent.py` and `layers.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from onnx.reference.op_run import OpRun

from streamgru._types import Array

from . import layers, pools
from .activations import F64
from .control import If, Loop, Scan
from .recurrent import Cell, gru_cell, lstm_cell, rnn_cell


class _Recurrent(OpRun):
    """A node that keeps what it made of its weights, where they are constants of the graph."""

    make: Callable[..., Cell]
    _weights: tuple[Array | None, ...] = ()
    _cell: Cell

    def cell(self, *weights: Array | None, **attributes: Any) -> Cell:
        """The cell of these weights."""
        if self._weights and all(a is b for a, b in zip(self._weights, weights, strict=True)):
            return self._cell
        self._cell = type(self).make(*weights, **attributes)
        if not any(array.flags.writeable for array in weights if array is not None):
            self._weights = weights
        return self._cell

    def _run(
        self,
        x: F64,
        w: F64,
        r: F64,
        b: F64 | None = None,
        sequence_lens: Array | None = None,
        initial_h: F64 | None = None,
        **attributes: Any,
    ) -> tuple[Array, ...]:
        return self.cell(w, r, b, **attributes)(x, sequence_lens, initial_h)


class GRU(_Recurrent):
    """GRU."""

    make = staticmethod(gru_cell)


class RNN(_Recurrent):
    """RNN."""

    make = staticmethod(rnn_cell)


class LSTM(_Recurrent):
    """LSTM."""

    make = staticmethod(lstm_cell)

    def _run(
        self,
        x: F64,
        w: F64,
        r: F64,
        b: F64 | None = None,
        sequence_lens: Array | None = None,
        initial_h: F64 | None = None,
        initial_c: F64 | None = None,
        p: F64 | None = None,
        **attributes: Any,
    ) -> tuple[Array, ...]:
        return self.cell(w, r, b, p, **attributes)(x, sequence_lens, initial_h, initial_c)


class ConvTranspose(OpRun):
    """ConvTranspose."""

    def _run(self, *inputs: F64, **attributes: Any) -> tuple[Array, ...]:
        return (layers.conv_transpose(*inputs, **attributes),)


class BatchNormalization(OpRun):
    """BatchNormalization of opset 7 and later. Before opset 14, several outputs meant training."""

    def _run(self, *inputs: F64, **attributes: Any) -> tuple[Array, ...]:
        training = attributes["training_mode"] != 0 or len(self.onnx_node.output) > 1
        return (layers.batch_normalization(*inputs, epsilon=attributes["epsilon"], training=training),)


class _Softmax(OpRun):
    """An operator along an axis, which below opset 13 is 1 by default and begins the rows of a matrix."""

    compute: Callable[[F64, int, bool], F64]

    def _run(self, x: F64, axis: int) -> tuple[Array, ...]:
        old = self.run_params["opsets"][""] < 13
        if old and not any(attribute.name == "axis" for attribute in self.onnx_node.attribute):
            axis = 1  # the evaluator has the default of the newest opset
        return (type(self).compute(x, axis, old),)


class Softmax(_Softmax):
    """Softmax."""

    compute = staticmethod(layers.softmax)


class LogSoftmax(_Softmax):
    """LogSoftmax."""

    compute = staticmethod(layers.log_softmax)


class Dropout(OpRun):
    """Dropout of a deployed model: x itself, and a mask that keeps everything."""

    def _run(self, x: F64, ratio: Any = None, training_mode: Array | None = None, **seed: Any) -> tuple[Array, ...]:
        if training_mode is not None and training_mode.item():
            raise ValueError("Dropout in training mode: export the model after model.eval()")
        return x, np.ones(x.shape, np.bool_)


class Erf(OpRun):
    """Erf."""

    def _run(self, x: F64) -> tuple[Array, ...]:
        return (layers.erf(x),)


class Gelu(OpRun):
    """Gelu."""

    def _run(self, x: F64, approximate: str | None = None) -> tuple[Array, ...]:
        return (layers.gelu(x, approximate or "none"),)


class HardSwish(OpRun):
    """HardSwish."""

    def _run(self, x: F64) -> tuple[Array, ...]:
        return (layers.hard_swish(x),)


class GroupNormalization(OpRun):
    """GroupNormalization. Its stash_type, the type that it computes in, is float64 here."""

    def _run(self, x: F64, scale: F64, b: F64, num_groups: int, epsilon: float, **stash: int) -> tuple[Array, ...]:
        return (layers.group_normalization(x, scale, b, num_groups=num_groups, epsilon=epsilon),)


class Pad(OpRun):
    """Pad. Below opset 11 the pads and the value are attributes."""

    def _run(
        self,
        x: Array,
        pads: Sequence[int],
        value: Array | float | None = None,
        axes: Sequence[int] | None = None,
        mode: str = "constant",
    ) -> tuple[Array, ...]:
        return (layers.pad(x, pads, 0.0 if value is None else np.asarray(value).item(), axes, mode),)


class GatherElements(OpRun):
    """GatherElements."""

    def _run(self, x: Array, indices: Array, axis: int) -> tuple[Array, ...]:
        return (layers.gather_elements(x, indices, axis),)


class Scatter(OpRun):
    """Scatter of opset 9 and 10."""

    def _run(self, x: Array, indices: Array, updates: Array, axis: int = 0) -> tuple[Array, ...]:
        return (layers.scatter(x, indices, updates, axis),)


class ScatterND(OpRun):
    """ScatterND."""

    def _run(self, x: Array, indices: Array, updates: Array, reduction: str | None = None) -> tuple[Array, ...]:
        return (layers.scatter_nd(x, indices, updates, reduction or "none"),)


class MaxPool(OpRun):
    """MaxPool."""

    def _run(self, x: Array, **attributes: Any) -> tuple[Array, ...]:
        return pools.max_pool(x, **attributes)


class AveragePool(OpRun):
    """AveragePool."""

    def _run(self, x: F64, **attributes: Any) -> tuple[Array, ...]:
        return (pools.average_pool(x, **attributes),)


OURS: list[type[OpRun]] = [
    AveragePool,
    BatchNormalization,
    ConvTranspose,
    Dropout,
    Erf,
    GatherElements,
    Gelu,
    GroupNormalization,
    GRU,
    HardSwish,
    If,
    LogSoftmax,
    Loop,
    LSTM,
    MaxPool,
    Pad,
    RNN,
    Scan,
    Scatter,
    ScatterND,
    Softmax,
]
