"""Frames to try a model on: random ones, or the caller's own, as [T, *frame] for each input.

It runs no model. The frames of a seed are the same on every machine.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import numpy.typing as npt

from streamgru._types import Array
from streamgru.errors import ShapeError
from streamgru.model import Model
from streamgru.tensors import TensorInfo

if TYPE_CHECKING:
    import onnx

Given: TypeAlias = "npt.ArrayLike | Mapping[str, npt.ArrayLike]"  # of one input, or by name

FLAGS = 2  # values of an input of ids where no table tells how many there are


def id_tables(proto: onnx.ModelProto) -> dict[str, int]:
    """For each name that is an index into a weight (Gather on axis 0), the rows of the smallest such
    weight."""
    rows = {tensor.name: tensor.dims[0] for tensor in proto.graph.initializer if tensor.dims}
    tables: dict[str, int] = {}
    for node in proto.graph.node:
        if node.op_type == "Gather" and node.input[0] in rows and not any(a.i for a in node.attribute):
            tables[node.input[1]] = min(rows[node.input[0]], tables.get(node.input[1], rows[node.input[0]]))
    return tables


def random_frames(model: Model, tables: Mapping[str, int], steps: int, seed: int) -> dict[str, Array]:
    """For each input [steps, *frame]: standard normal, or ids below the size of the table they index.

    An input without a time axis in a sequence graph is the same at every step. A length is 1: each is a sequence.
    """
    rng = np.random.default_rng(seed)
    sequence = any(t.time_axis is not None for t in model.inputs)
    frames = {}
    for tensor in model.inputs:
        values = _random(model, tensor, tables, steps, rng)
        constant = sequence and tensor.time_axis is None
        frames[tensor.name] = np.repeat(values[:1], steps, axis=0) if constant else values
    return frames


def given_frames(model: Model, inputs: Given) -> dict[str, Array]:
    """The caller's inputs, shaped as :meth:`Stream.run` takes them, as [T, *frame] each.

    Raises
    ------
    ShapeError
        An input is missing, unknown, or of another shape or length than the others.
    """
    given = dict(inputs) if isinstance(inputs, Mapping) else {model.inputs[0].name: inputs}
    names = [tensor.name for tensor in model.inputs]
    if sorted(given) != sorted(names):
        raise ShapeError(f"the inputs are {names}, got {sorted(map(str, given))}")
    frames = {}
    for tensor in model.inputs:
        values, axis = np.asarray(given[tensor.name]), tensor.time_axis or 0
        expected = [*tensor.shape[:axis], "T", *tensor.shape[axis:]]
        if values.ndim <= axis or np.moveaxis(values, axis, 0).shape[1:] != tensor.shape:
            raise ShapeError(f"input {tensor.name!r}: shape {expected} expected, got {list(values.shape)}")
        frames[tensor.name] = np.ascontiguousarray(np.moveaxis(values, axis, 0))
    lengths = {name: len(values) for name, values in frames.items()}
    if len(set(lengths.values())) != 1 or 0 in lengths.values():
        raise ShapeError(f"the inputs must have the same number of frames, 1 or more: {lengths}")
    return frames


def drawing(model: Model, tables: Mapping[str, int], seed: int) -> Callable[[str, int], Array]:
    """`draw(name, count)` gives so many more random frames of an input: [count, *frame]."""
    rng = np.random.default_rng([seed, 1])
    tensors = {tensor.name: tensor for tensor in model.inputs}
    return lambda name, count: _random(model, tensors[name], tables, count, rng)


def drawing_from(frames: Mapping[str, Array], seed: int) -> Callable[[str, int], Array]:
    """`draw(name, count)` gives so many of an input's frames, in random order: [count, *frame]."""
    rng = np.random.default_rng([seed, 1])

    def draw(name: str, count: int) -> Array:
        given = frames[name]
        chosen: Array = given[rng.permutation(np.arange(max(count, len(given))) % len(given))[:count]]
        return chosen

    return draw


def _random(model: Model, tensor: TensorInfo, tables: Mapping[str, int], count: int, rng: np.random.Generator) -> Array:
    shape = (count, *tensor.shape)
    if tensor.name in model.lengths.inputs:
        return np.ones(shape, tensor.dtype)
    if tensor.dtype.kind == "f":
        return rng.standard_normal(shape).astype(tensor.dtype)
    return rng.integers(0, tables.get(tensor.name, FLAGS), shape).astype(tensor.dtype)
