"""One ONNX node at a time: the types of its outputs, and its value where all its inputs are constants.

Types come from ONNX's own inference, fed with concrete shapes only; values from ONNX's reference
implementation.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, TypeProto, helper, numpy_helper
from onnx.reference.ops import load_op

from streamgru.errors import ModelError
from streamgru.layout import MAX_ELEMENTS, MAX_RANK

from .dtypes import FROM_ONNX, TO_ONNX
from .graph import Array, Node, TensorType
from .kinds import RECURRENT
from .recurrent import hidden_size, recurrent
from .schema import check_operands, check_results, schema_of

Operator = Callable[..., Iterable[Array]]

SMALL = 4096  # elements of a constant that inference may look at
SHAPELESS = {"GroupNormalization"}  # ONNX infers nothing for them; the output is as the input
# Functions in older operator sets, where ONNX infers nothing; what they take and give is the same since.
INFERRED_SINCE = {"GreaterOrEqual": 16, "LessOrEqual": 16}
# ONNX's reference implementation gets these wrong (clip, activations, sequence_lens; statistics; groups), so
# they are never folded.
UNRELIABLE = {*RECURRENT, "BatchNormalization", "ConvTranspose"}
RANDOM = {
    "RandomNormal",
    "RandomNormalLike",
    "RandomUniform",
    "RandomUniformLike",
    "Multinomial",
    "Bernoulli",
}


def node_proto(node: Node) -> onnx.NodeProto:
    """The node as ONNX has it."""
    attrs = {k: numpy_helper.from_array(v) if isinstance(v, np.ndarray) else v for k, v in node.attrs.items()}
    return helper.make_node(node.op_type, node.inputs, node.outputs, name=node.name, **attrs)


def infer(
    node: Node, types: Mapping[str, TensorType], constants: Mapping[str, Array], opset: int
) -> dict[str, TensorType]:
    """The types of the outputs of `node`.

    Raises
    ------
    ModelError
        The shapes contradict each other, depend on the data, or are too large.
    """
    opset = max(opset, INFERRED_SINCE.get(node.op_type, 0))
    check_operands(node, types, opset)
    if node.op_type in RECURRENT:
        return _infer_recurrent(node, types)
    if node.op_type in SHAPELESS:
        return {o: types[node.inputs[0]] for o in node.outputs if o}
    schema = schema_of(node, opset)
    small = {i: constants[i] for i in node.inputs if i in constants and constants[i].size <= SMALL}
    protos = {i: _type_proto(types[i]) for i in node.inputs if i}
    try:
        found = onnx.shape_inference.infer_node_outputs(
            schema, node_proto(node), protos, {k: numpy_helper.from_array(v, k) for k, v in small.items()},
            opset_imports=[helper.make_opsetid("", opset)],
        )  # fmt: skip
    except Exception as error:  # noqa: BLE001 - its C++ throws many kinds, all of them for what the node is given
        shapes = ", ".join(f"{i} {list(types[i].shape)}" for i in node.inputs if i)
        raise ModelError(f"{node}: its inputs do not fit ({shapes}): {_one_line(error)}") from None
    results = {o: _tensor_type(found.get(o), node, o) for o in node.outputs if o}
    check_results(node, types, results)
    return results


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())


@lru_cache(maxsize=4096)
def _type_proto(t: TensorType) -> TypeProto:
    """Shared by all who ask, and only read."""
    return helper.make_tensor_type_proto(TO_ONNX[t.dtype], list(t.shape))


def _tensor_type(proto: TypeProto | None, node: Node, output: str) -> TensorType:
    if proto is None or not proto.HasField("tensor_type") or not proto.tensor_type.HasField("shape"):
        raise ModelError(f"{node}: the shape of its output '{output}' cannot be told; it is not supported")
    if proto.tensor_type.elem_type not in FROM_ONNX:
        dtype = TensorProto.DataType.Name(proto.tensor_type.elem_type).lower()
        raise ModelError(f"{node}: its output '{output}' is {dtype}; float, int64, int32 and bool are supported")
    dims = proto.tensor_type.shape.dim
    if any(d.WhichOneof("value") != "dim_value" for d in dims):
        raise ModelError(f"{node}: the shape of its output '{output}' depends on the data, which cannot be compiled")
    t = TensorType(FROM_ONNX[proto.tensor_type.elem_type], tuple(d.dim_value for d in dims))
    if min(t.shape, default=0) < 0:
        raise ModelError(f"{node}: its output '{output}' would have the shape {list(t.shape)}: its input is too short")
    if t.size > MAX_ELEMENTS or len(t.shape) > MAX_RANK:
        raise ModelError(f"{node}: its output '{output}' of shape {list(t.shape)} is too large")
    return t


def _infer_recurrent(node: Node, types: Mapping[str, TensorType]) -> dict[str, TensorType]:
    """GRU, LSTM and RNN, checked strictly: X, W, R and the rest must fit each other."""
    gates = RECURRENT[node.op_type]
    form = recurrent(node)
    directions, batch_first = form.directions, form.batch_first
    x, w, r = (types[node.input(i)].shape if node.input(i) else () for i in range(3))
    if len(x) != 3 or len(w) != 3 or len(r) != 3:
        raise ModelError(f"{node}: X, W and R must have 3 dimensions; they are {list(x)}, {list(w)} and {list(r)}")
    steps, batch = (x[1], x[0]) if batch_first else (x[0], x[1])
    hidden = hidden_size(node, r)
    state = form.state_shape(batch, hidden)
    expected: list[tuple[str, int, tuple[int, ...]]] = [
        ("W", 1, (directions, gates * hidden, x[2])),
        ("R", 2, (directions, gates * hidden, hidden)),
        ("B", 3, (directions, 2 * gates * hidden)),
        ("sequence_lens", 4, (batch,)),
        ("initial_h", 5, state),
    ]
    if node.op_type == "LSTM":
        expected += [("initial_c", 6, state), ("P", 7, (directions, 3 * hidden))]
    for what, i, shape in expected:
        if node.input(i) and types[node.input(i)].shape != shape:
            raise ModelError(
                f"{node}: its {what} '{node.input(i)}' has the shape {list(types[node.input(i)].shape)}; "
                f"{list(shape)} was expected (X {list(x)}, {directions} direction(s), hidden_size {hidden})"
            )
    y = (batch, steps, directions, hidden) if batch_first else (steps, directions, batch, hidden)
    f32 = np.dtype(np.float32)
    return {o: TensorType(f32, y if i == 0 else state) for i, o in enumerate(node.outputs) if o}


def evaluate(node: Node, inputs: list[Array | None], opset: int, operator: Operator | None = None) -> list[Array]:
    """The node's outputs for constant inputs.

    Parameters
    ----------
    operator : function, optional
        What :func:`operator_of` gives for the node, where it is evaluated often.

    Raises
    ------
    ModelError
        Random operators, and what ONNX's reference implementation refuses.
    """
    try:
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            results = (operator or operator_of(node, opset))(*inputs)
    except ModelError:
        raise
    except Exception as error:  # noqa: BLE001 - the reference implementation raises whatever NumPy raises
        raise ModelError(f"{node}: its constant value cannot be computed: {_one_line(error)}") from None
    return [np.asarray(r) for r in results]


def operator_of(node: Node, opset: int) -> Operator:
    """ONNX's reference implementation of a node. ModelError for a random operator."""
    if node.op_type in RANDOM:
        raise ModelError(f"{node}: a random operator gives another answer each time; it cannot be compiled")
    run: dict[str, Any] = {"opsets": {"": opset}, "log": lambda *_: None, "verbose": 0, "new_ops": None}
    operator: Operator = load_op("", node.op_type, opset)(node_proto(node), run).run
    return operator
