"""The operators that onnx's evaluator has wrong or slow, each of every opset, in float64.

The classes carry the names of the operators: that is how the evaluator finds them. The arithmetic stands in
`recurrent.py` and `layers.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from onnx.reference.op_run import OpRun

from streamgru._types import Array

from .activations import F64
from .control import If, Loop, Scan
from .layers import batch_normalization, conv_transpose
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
        return (conv_transpose(*inputs, **attributes),)


class BatchNormalization(OpRun):
    """BatchNormalization of opset 7 and later. Before opset 14, several outputs meant training."""

    def _run(self, *inputs: F64, **attributes: Any) -> tuple[Array, ...]:
        training = attributes["training_mode"] != 0 or len(self.onnx_node.output) > 1
        return (batch_normalization(*inputs, epsilon=attributes["epsilon"], training=training),)


OURS: list[type[OpRun]] = [BatchNormalization, ConvTranspose, GRU, If, Loop, LSTM, RNN, Scan]
