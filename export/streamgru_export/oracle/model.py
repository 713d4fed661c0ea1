"""The float64 oracle: a whole ONNX graph, or one recurrent operator, evaluated in float64.

`Float64Model` turns every float of a graph into float64 and evaluates it with the reference evaluator of
the onnx package. That evaluator ignores clip, activations and sequence_lens of GRU, LSTM and RNN and gets some
more layers wrong, so these come from `recurrent.py` and `layers.py`. It is no runtime: a step takes
a millisecond where the C library takes a microsecond. It answers one question: what would this graph give
if nothing were ever rounded to float32?
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import ArrayLike
from onnx import numpy_helper
from onnx.inliner import inline_local_functions
from onnx.reference import ReferenceEvaluator
from onnx.reference.op_run import OpRun

from streamgru._types import Array
from streamgru.errors import ModelError, ShapeError

from .layers import batch_normalization, conv_transpose, log_softmax
from .recurrent import F64, gru, lstm, rnn

__all__ = ["Float64Model", "gru", "lstm", "rnn"]

_T = onnx.TensorProto
_FLOATS = {_T.FLOAT, _T.FLOAT16, _T.BFLOAT16}
# Operators whose element type is an attribute, and its name.
_TYPE_ATTRIBUTE = {"Cast": "to", "EyeLike": "dtype", "SequenceEmpty": "dtype"}
_RANDOM = {
    "Bernoulli",
    "Multinomial",
    "RandomNormal",
    "RandomNormalLike",
    "RandomUniform",
    "RandomUniformLike",
}


class GRU(OpRun):
    """GRU of every opset, in float64."""

    def _run(self, *inputs: F64, **attributes: Any) -> tuple[Array, ...]:
        return gru(*inputs, **attributes)[: len(self.onnx_node.output)]


class LSTM(OpRun):
    """LSTM of every opset, in float64."""

    def _run(self, *inputs: F64, **attributes: Any) -> tuple[Array, ...]:
        return lstm(*inputs, **attributes)[: len(self.onnx_node.output)]


class RNN(OpRun):
    """RNN of every opset, in float64."""

    def _run(self, *inputs: F64, **attributes: Any) -> tuple[Array, ...]:
        return rnn(*inputs, **attributes)[: len(self.onnx_node.output)]


class ConvTranspose(OpRun):
    """ConvTranspose of every opset, in float64."""

    def _run(self, *inputs: F64, **attributes: Any) -> tuple[Array, ...]:
        return (conv_transpose(*inputs, **attributes),)


class BatchNormalization(OpRun):
    """BatchNormalization of opset 7 and later, in float64. Before opset 14, several outputs meant
    training."""

    def _run(self, *inputs: F64, **attributes: Any) -> tuple[Array, ...]:
        training = attributes["training_mode"] != 0 or len(self.onnx_node.output) > 1
        return (batch_normalization(*inputs, epsilon=attributes["epsilon"], training=training),)


class LogSoftmax(OpRun):
    """LogSoftmax of every opset, in float64. Before opset 13 its operand is a matrix: all axes from `axis` on, by
    default 1, are its columns."""

    def _run(self, x: F64, axis: int) -> tuple[Array, ...]:
        is_old = self.run_params["opsets"][""] < 13
        is_given = any(a.name == "axis" for a in self.onnx_node.attribute)
        return (log_softmax(x, axis if is_given or not is_old else 1, as_matrix=is_old),)


class Softmax(LogSoftmax):
    """Softmax of every opset, in float64."""

    def _run(self, x: F64, axis: int) -> tuple[Array, ...]:
        return (np.exp(super()._run(x, axis)[0]),)


NEW_OPS = [BatchNormalization, ConvTranspose, GRU, LSTM, LogSoftmax, RNN, Softmax]


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
            self._evaluator = ReferenceEvaluator(proto, new_ops=NEW_OPS)
        except (NotImplementedError, RuntimeError) as error:
            raise ModelError(f"the float64 oracle cannot evaluate this graph: {error}") from error
        self._checked = False
        initializers = {tensor.name for tensor in proto.graph.initializer}
        self.input_names = [v.name for v in proto.graph.input if v.name not in initializers]
        self.output_names = [v.name for v in proto.graph.output]
        self._optional = initializers

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
        arrays = {name: _widen(np.asarray(value)) for name, value in feeds.items()}
        try:
            if not self._checked:
                _refuse_narrow(dict(self._evaluator.run(None, arrays, intermediate=True)))
                self._checked = True
            return dict(zip(self.output_names, self._evaluator.run(None, arrays), strict=True))
        except (ArithmeticError, LookupError, RuntimeError, TypeError, ValueError) as error:
            raise ModelError(f"the float64 oracle fails on this graph: {error}") from error


def to_float64(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy of the model in which every float is float64.

    Raises
    ------
    ModelError
        The graph draws random numbers or holds sparse weights.
    """
    if model.functions:
        model = inline_local_functions(model)
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    _convert_graph(copy.graph)
    return copy


def _convert_graph(graph: onnx.GraphProto) -> None:
    if graph.sparse_initializer:
        raise ModelError(f"{graph.name}: the float64 oracle takes no sparse initializers")
    for tensor in graph.initializer:
        _convert_tensor(tensor)
    for value in (*graph.input, *graph.output):
        if value.type.tensor_type.elem_type in _FLOATS:
            value.type.tensor_type.elem_type = _T.DOUBLE
    del graph.value_info[:]
    for node in graph.node:
        _convert_node(node)
        for subgraph in _subgraphs(node):
            _convert_graph(subgraph)
    _sort(graph)


def _sort(graph: onnx.GraphProto) -> None:
    """The reference evaluator takes nodes in order only; onnxruntime takes any."""
    writers = {name: i for i, node in enumerate(graph.node) for name in node.output if name}
    before = {i: {writers[name] for name in _reads(node) if name in writers} for i, node in enumerate(graph.node)}
    try:
        order = [graph.node[i] for i in TopologicalSorter(before).static_order()]
    except CycleError as error:
        raise ModelError(f"{graph.name}: its nodes go in a circle") from error
    del graph.node[:]
    graph.node.extend(order)


def _reads(node: onnx.NodeProto) -> Iterator[str]:
    """What a node reads, itself and in its subgraphs; names of their own are nobody's outside."""
    yield from node.input
    for graph in _subgraphs(node):
        own = {v.name for v in (*graph.input, *graph.initializer)} | {o for n in graph.node for o in n.output}
        yield from (name for inner in graph.node for name in _reads(inner) if name not in own)
        yield from (v.name for v in graph.output if v.name not in own)


def _convert_node(node: onnx.NodeProto) -> None:
    if node.op_type in _RANDOM:
        raise ModelError(f"node {node.name!r}: {node.op_type} is random, so there is nothing to compare with")
    attributes = {attribute.name: attribute for attribute in node.attribute}
    if node.op_type == "ConstantOfShape" and "value" not in attributes:
        node.attribute.append(onnx.helper.make_attribute("value", numpy_helper.from_array(np.zeros(1))))
    for attribute in node.attribute:
        if attribute.name == _TYPE_ATTRIBUTE.get(node.op_type) and attribute.i in _FLOATS:
            attribute.i = _T.DOUBLE
        elif node.op_type == "Constant" and attribute.name in ("value_float", "value_floats"):
            value = numpy_helper.from_array(np.asarray(onnx.helper.get_attribute_value(attribute), np.float64))
            attribute.CopyFrom(onnx.helper.make_attribute("value", value))
        elif attribute.HasField("t"):
            _convert_tensor(attribute.t)


def _convert_tensor(tensor: onnx.TensorProto) -> None:
    if tensor.data_type in _FLOATS:
        values = numpy_helper.to_array(tensor).astype(np.float64)
        tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))


def _subgraphs(node: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    for attribute in node.attribute:
        if attribute.HasField("g"):
            yield attribute.g
        yield from attribute.graphs


def _is_narrow(array: Array) -> bool:
    """Whether the array holds floats of less than 64 bits (bfloat16 is of no standard kind)."""
    return bool(array.dtype != np.float64 and (array.dtype.kind == "f" or array.dtype.name == "bfloat16"))


def _widen(array: Array) -> Array:
    return array.astype(np.float64) if _is_narrow(array) else array


def _refuse_narrow(results: Mapping[str, Array]) -> None:
    for name, value in results.items():
        if isinstance(value, np.ndarray) and _is_narrow(value):
            raise ModelError(f"tensor {name!r} came out as {value.dtype}, not as float64")
