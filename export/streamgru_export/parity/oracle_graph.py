"""An ONNX graph in float64, as one of the implementations that a parity check compares."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError

from streamgru._types import AnyDtype, Array
from streamgru.errors import ModelError

from ..oracle.model import Float64Model
from .traces import Arrays, its_reason


class OracleGraph:
    """The graph in float64 (`streamgru_export.oracle.model`). Inputs that were bound to a value always have it.

    Raises
    ------
    NotComparedError
        The oracle does not have an operator.
    ModelError
        The file is no ONNX model.
    """

    def __init__(self, model: onnx.ModelProto | Path, bound: Arrays | None = None) -> None:
        self.proto = model if isinstance(model, onnx.ModelProto) else _read(model)
        with its_reason("the oracle"):
            self._model = Float64Model(self.proto)
        given = self.proto.graph.input
        self.input_names = [value.name for value in given]
        self.bound = {name: value for name, value in (bound or {}).items() if name in self.input_names}
        self.input_shapes: dict[str, tuple[int | str | None, ...]] = {
            value.name: tuple(d.dim_value or d.dim_param for d in value.type.tensor_type.shape.dim)
            for value in given
            if value.name not in self.bound
        }
        self.input_dtypes: dict[str, AnyDtype] = {
            value.name: onnx.helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type)
            for value in given
            if value.type.tensor_type.elem_type and value.name not in self.bound
        }
        self.output_names: list[str] = self._model.output_names

    def run(self, feeds: Mapping[str, Array]) -> Arrays:
        with its_reason("the oracle"):
            return self._model.run({**self.bound, **feeds})


def _read(path: Path) -> onnx.ModelProto:
    try:
        return onnx.load(path)
    except (DecodeError, ValueError, RuntimeError, OSError) as error:
        raise ModelError(f"{path} is not an ONNX model: {error}") from error
