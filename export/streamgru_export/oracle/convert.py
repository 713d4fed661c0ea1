"""A model with every float turned into float64. It evaluates nothing: `model.py` does."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx
from onnx import numpy_helper
from onnx.inliner import inline_local_functions

from streamgru.errors import ModelError

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
