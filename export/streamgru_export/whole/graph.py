"""A graph that is bound anew for each shape of its inputs: for whole sequences, and for onnxruntime's calls.

It keeps no image: `model.py` does. Nothing here streams.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import get_args

import numpy.typing as npt
import onnx

from streamgru._options import one_of
from streamgru.errors import ModelError, ShapeError
from streamgru.model import Weights

from ..compiler.compile import compile
from ..compiler.graph.blame import blaming
from ..compiler.graph.bound import bind_inputs
from ..compiler.graph.dtypes import WORDS
from ..compiler.graph.graph import TensorType
from ..compiler.graph.onnx_reader import read
from ..compiler.options import MOST, bound_values, numbers
from ..compiler.static.specialise import specialise
from ..compiler.stream.timeline import Timeline, find_time
from ..compiler.verify import check_model


@dataclass(frozen=True)
class NodeArg:
    """An input or output as onnxruntime describes it.

    Attributes
    ----------
    name : str
    shape : list of int, str or None
        A number, the name of a dynamic dimension, or None where it has no name.
    type : str
        ``"tensor(float)"``, ``"tensor(int64)"``, ...
    """

    name: str
    shape: list[int | str | None]
    type: str


class WholeGraph:
    """An ONNX graph, read once.

    Parameters
    ----------
    source : path or bytes
    dims : mapping, optional
        Dimensions that are bound for good.
    time_axis : mapping, optional
        Input name -> time axis, where it is not found or not what is meant.
    weights, values
        As :func:`streamgru_export.compile`.

    Raises
    ------
    ModelError, OptionError
        As :func:`streamgru_export.compile`.
    """

    def __init__(
        self,
        source: str | os.PathLike[str] | bytes,
        dims: Mapping[str, int] | None = None,
        time_axis: Mapping[str, int] | None = None,
        weights: Weights = "f32",
        values: Mapping[str, npt.ArrayLike] | None = None,
    ) -> None:
        one_of("weights", weights, get_args(Weights))
        self.fixed = numbers("dims", dims, 1)
        self.time_axis = None if time_axis is None else numbers("time_axis", time_axis, -MOST)
        with blaming():
            self.graph = bind_inputs(check_model(read(source)), bound_values(values))
        self.weights = weights
        self.inputs, self.outputs = _declared(source, [p.name for p in self.graph.inputs])

    def bind(self, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, int]:
        """Every dimension's number.

        Raises
        ------
        ShapeError
            A shape that the graph does not take, or two that contradict each other.
        """
        dims = dict(self.fixed)
        for port in self.graph.inputs:
            shape = shapes[port.name]
            fits = len(shape) == len(port.shape) and min(shape, default=1) > 0
            for wanted, n in zip(port.shape, shape, strict=False):
                fits = fits and n == (dims.setdefault(wanted, n) if isinstance(wanted, str) else wanted)
            if not fits:
                expected = ", ".join(
                    f"{d}={dims[d]}" if isinstance(d, str) and d in dims else str(d) for d in port.shape
                )
                raise ShapeError(f"input {port.name!r}: expected shape [{expected}], got {list(shape)}")
        return dims

    def only_shapes(self) -> dict[str, tuple[int, ...]] | None:
        """Each input's shape, where there is but one; None where a dimension is free."""
        if self.graph.symbols().keys() - self.fixed.keys():
            return None
        return {p.name: tuple(self.fixed[d] if isinstance(d, str) else d for d in p.shape) for p in self.graph.inputs}

    def image(self, dims: Mapping[str, int]) -> bytes:
        """The image for these numbers."""
        return compile(self.graph, mode="whole", dims=dims, weights=self.weights).image

    def output_types(self, dims: Mapping[str, int]) -> dict[str, TensorType]:
        """Each output's dtype and shape for these numbers."""
        with blaming():
            static = specialise(self.graph, dims)
        return {p.name: static.types[p.name] for p in static.outputs}

    @cached_property
    def timeline(self) -> Timeline:
        """Which dimensions are time and which the batch."""
        with blaming():
            return find_time(self.graph, self.fixed, 1, self.time_axis)


def _declared(
    source: str | os.PathLike[str] | bytes, fed: list[str]
) -> tuple[tuple[NodeArg, ...], tuple[NodeArg, ...]]:
    """The inputs to be fed and the outputs, as onnxruntime describes them: what the file says, and what ONNX's shape
    inference adds."""
    if isinstance(source, bytes):
        model = onnx.load_model_from_string(source)
    else:
        model = onnx.load_model(Path(source), load_external_data=False)
    named = {d.dim_param for v in (*model.graph.input, *model.graph.output) for d in v.type.tensor_type.shape.dim}
    try:
        model = onnx.shape_inference.infer_shapes(model)
    except (onnx.shape_inference.InferenceError, ValueError) as error:
        raise ModelError(f"ONNX's shape inference refuses the model: {error}") from error
    inputs = {v.name: v for v in model.graph.input}
    return tuple(_port(inputs[name], named) for name in fed), tuple(_port(v, named) for v in model.graph.output)


def _port(value: onnx.ValueInfoProto, named: set[str]) -> NodeArg:
    tensor = value.type.tensor_type
    shape = [
        d.dim_value if d.HasField("dim_value") else d.dim_param if d.dim_param and d.dim_param in named else None
        for d in tensor.shape.dim
    ]
    return NodeArg(value.name, shape, WORDS[tensor.elem_type])
