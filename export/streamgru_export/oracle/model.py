"""The float64 oracle: a whole ONNX graph, or one recurrent operator, evaluated in float64.

`Float64Model` turns every float of a graph into float64 (`convert.py`) and runs it as a list of calls (`evaluate.py`).
Most operators are those of the reference evaluator of the onnx package; what that gets wrong stands in `operators.py`.
It is no runtime: a step of a GRU takes 40 us where the C library takes a microsecond. It answers one question: what
would this graph give if nothing were ever rounded to float32?
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import ArrayLike
from onnx.reference import ReferenceEvaluator

from streamgru._types import Array
from streamgru.errors import ModelError, ShapeError

from .convert import to_float64
from .evaluate import Plan, is_narrow
from .operators import OURS
from .recurrent import gru, lstm, rnn

__all__ = ["Float64Model", "gru", "lstm", "rnn"]


class Float64Model:
    """An ONNX model with every float in float64.

    Parameters
    ----------
    model : ModelProto, str or Path
        Not changed. Weights of float32, float16 and bfloat16 are taken as the numbers they are; a Cast to
        one of these becomes a Cast to float64. Local functions are inlined.

    Raises
    ------
    ModelError
        The graph draws random numbers, holds sparse weights, or has an operator that the reference
        evaluator lacks.
    """

    def __init__(self, model: onnx.ModelProto | str | Path) -> None:
        proto = model if isinstance(model, onnx.ModelProto) else onnx.load(model)
        proto = to_float64(proto)
        try:
            self._plan = Plan(ReferenceEvaluator(proto, new_ops=OURS))
        except (NotImplementedError, RuntimeError) as error:
            raise ModelError(f"the float64 oracle cannot evaluate this graph: {error}") from error
        if self._plan.captured:
            raise ModelError(f"no node, input or weight gives {', '.join(map(repr, self._plan.captured))}")
        self._optional = {tensor.name for tensor in proto.graph.initializer}
        self.input_names = [name for name in self._plan.inputs if name not in self._optional]
        self.output_names = self._plan.outputs

    def run(self, feeds: Mapping[str, ArrayLike]) -> dict[str, Array]:
        """Evaluate the graph once.

        Parameters
        ----------
        feeds : mapping
            An array for each graph input, with its ONNX shape. Floats become float64, others stay as they
            are.

        Returns
        -------
        dict
            An array for each graph output: float64 where ONNX has a float.

        Raises
        ------
        ShapeError
            An input is missing, or there is no input of that name.
        ModelError
            An operator fails, or answers in float32 (checked in the first run).
        """
        missing = set(self.input_names) - set(feeds)
        unknown = set(feeds) - set(self.input_names) - self._optional
        if missing or unknown:
            raise ShapeError(f"inputs missing: {sorted(missing)}; not inputs of the graph: {sorted(unknown)}")
        try:
            results = self._plan.run({name: _as_fed(np.asarray(value)) for name, value in feeds.items()})
        except ModelError as error:
            raise ModelError(f"the float64 oracle fails on this graph: {error}") from error
        return dict(zip(self.output_names, results, strict=True))


def _as_fed(array: Array) -> Array:
    """An input in float64, which may be written into: what may not is a constant of the graph."""
    if is_narrow(array):
        return array.astype(np.float64)
    return array if array.flags.writeable else array.copy()
