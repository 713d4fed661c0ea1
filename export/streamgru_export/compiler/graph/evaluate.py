"""One ONNX node at a time: the types of its outputs, and its value where all its inputs are constants.

Types come from ONNX's own inference, fed with concrete shapes only; values from ONNX's reference
implementation.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from functools import lru_cache, partial
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, TypeProto, helper, numpy_helper
from onnx.reference.ops import load_op

from streamgru.errors import ModelError
from streamgru.layout import MAX_ELEMENTS, MAX_RANK

from .dtypes import FROM_ONNX, NARROWER, QUANTISED, TO_ONNX
from .graph import Array, Node, TensorType
from .kinds import RECURRENT
from .operators import from_front, integer, integers, normalised_axes
from .recurrent import hidden_size, recurrent
from .schema import FORETOLD, check_operands, check_results, schema_of

# What torch's exporter makes of it: an LSTM of the projection's size, its own weights cut.
PROJECTION = (
    ". Is this an LSTM with a projection (proj_size)? ONNX has none, and the exporter wrote another LSTM: write one "
    "step out in the module, h = projection(o * tanh(c)), with h and c as inputs and outputs"
)


class DependsOnDataError(ModelError):
    """What must be known before the model runs hangs on what it is fed."""


Operator = Callable[..., Iterable[Array]]

SMALL = 4096  # elements of a constant that inference may look at
SHAPELESS = {"GroupNormalization"}  # ONNX infers nothing for them; the output is as the input
# Functions in older operator sets, where ONNX infers nothing; what they take and give is the same since.
INFERRED_SINCE = {"GreaterOrEqual": 16, "LessOrEqual": 16, **FORETOLD}
# Since when ONNX's inference understands axes below 0, and in any order. onnxruntime does in all operator sets.
COUNTED_BACK_SINCE = {"Concat": 11, "Slice": 10, "Squeeze": 13, "Unsqueeze": 13}
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
    node = _counted_from_front(node, types, opset)
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


def _counted_from_front(node: Node, types: Mapping[str, TensorType], opset: int) -> Node:
    """The node as ONNX's inference of its operator set takes it: no axis below 0, and all in order."""
    if opset >= COUNTED_BACK_SINCE.get(node.op_type, 0):
        return node
    rank = len(types[node.inputs[0]].shape)
    if "axis" in node.attrs:
        return replace(node, attrs={**node.attrs, "axis": from_front(node, integer(node, "axis"), rank)})
    rank += len(node.attrs.get("axes", ())) if node.op_type == "Unsqueeze" else 0
    lists = {k: integers(node, k) or [] for k in ("axes", "starts", "ends") if k in node.attrs}
    lists["axes"] = [from_front(node, a, rank) for a in lists.get("axes", ())]
    order = sorted(range(len(lists["axes"])), key=lists["axes"].__getitem__)
    if len({len(v) for v in lists.values()}) > 1 or not order:
        return node
    return replace(node, attrs={**node.attrs, **{k: [v[i] for i in order] for k, v in lists.items()}})


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
        hint = f". {QUANTISED}" if proto.tensor_type.elem_type in NARROWER else ""
        raise ModelError(f"{node}: its output '{output}' is {dtype}; float, int64, int32 and bool are supported{hint}")
    dims = proto.tensor_type.shape.dim
    if any(d.WhichOneof("value") != "dim_value" for d in dims):
        why = f"{node}: the shape of its output '{output}' depends on the data, which cannot be compiled"
        raise DependsOnDataError(why)
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
                + (PROJECTION if what == "initial_c" and types[node.input(i)].shape[:2] == shape[:2] else "")
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
    if node.op_type in ("Softmax", "LogSoftmax") and opset < 13:
        return partial(_softmax_of_matrix, node, opset)
    run: dict[str, Any] = {"opsets": {"": opset}, "log": lambda *_: None, "verbose": 0, "new_ops": None}
    operator: Operator = load_op("", node.op_type, opset)(node_proto(node), run).run
    return operator


def _softmax_of_matrix(node: Node, opset: int, x: Array) -> list[Array]:
    """Softmax of old operator sets, where all axes from one on are one: the reference implementation forgets that."""
    first = normalised_axes(node, x.ndim, opset).start
    rows = x.reshape(math.prod(x.shape[:first]), -1)
    (y,) = operator_of(replace(node, attrs={"axis": 1}), 13)(rows)
    return [y.reshape(x.shape)]
