"""Whether a node is one that ONNX has: its operands, attributes and dtypes by ONNX's own schemas, and the shapes that
ONNX's inference takes on trust. What passes here may be taken for granted by all that follows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

import numpy as np
import onnx
from onnx.defs import OpSchema

from streamgru.errors import ModelError

from .graph import Node, TensorType

FLOAT = np.dtype(np.float32)
ONNX_NAMES: dict[np.dtype[Any], str] = {
    FLOAT: "tensor(float)",
    np.dtype(np.int64): "tensor(int64)",
    np.dtype(np.int32): "tensor(int32)",
    np.dtype(np.bool_): "tensor(bool)",
}
WIDER = ("tensor(float16)", "tensor(bfloat16)", "tensor(double)")  # the reader makes float32 of them
REDUCTION = ("none", "add", "mul", "max", "min")
# Words that an attribute may hold.
WORDS = {("ScatterND", "reduction"): REDUCTION, ("ScatterElements", "reduction"): REDUCTION}

JOINED = {"Sum", "Mean", "Min", "Max"}
RESHAPES = {"Reshape", "Flatten", "Squeeze", "Unsqueeze"}
WINDOWS = {"Conv", "ConvTranspose", "MaxPool", "AveragePool"}

# onnxruntime has it in every operator set, and its optimiser writes it into graphs of older ones than ONNX does.
FORETOLD = {"LayerNormalization": 17}

Shape = tuple[int, ...]
Dtypes = tuple[np.dtype[Any] | None, ...]


# ---- what a node is made of, before any shape is known ----


def schema_of(node: Node, opset: int) -> OpSchema:
    """ONNX's schema of a node.

    Raises
    ------
    ModelError
        There is no such operator, or not in this operator set.
    """
    if not onnx.defs.has(node.op_type):
        raise ModelError(f"{node}: ONNX has no operator of that name")
    schema = _schema(node.op_type, opset)
    if schema is None:
        raise ModelError(f"{node}: operator set {opset} does not have it")
    return schema


@lru_cache(maxsize=4096)
def _schema(op_type: str, opset: int) -> OpSchema | None:
    try:
        return onnx.defs.get_schema(op_type, max(opset, FORETOLD.get(op_type, 0)), "")
    except onnx.defs.SchemaError:
        return None


def check_attribute_types(node: Node, opset: int, kinds: Mapping[str, int]) -> None:
    """Every attribute is one that the operator has, of its type: what is not understood is never ignored."""
    known = schema_of(node, opset).attributes
    unknown = sorted(kinds.keys() - known.keys())
    if unknown:
        raise ModelError(f"{node}: unknown attribute '{unknown[0]}'; operator set {opset} has {sorted(known)}")
    expected: Mapping[str, Any] = {k: known[k].type for k in kinds}
    wrong = next((k for k, kind in kinds.items() if kind != expected[k].value), None)
    if wrong is not None:
        raise ModelError(f"{node}: attribute '{wrong}' has another type than ONNX gives it")


def check_form(node: Node, opset: int) -> None:
    """The number of operands, those that must be there, and attributes that must."""
    schema = schema_of(node, opset)
    if not schema.min_input <= len(node.inputs) <= schema.max_input or not (
        schema.min_output <= len(node.outputs) <= schema.max_output
    ):
        raise ModelError(f"{node} has {len(node.inputs)} inputs and {len(node.outputs)} outputs: ONNX has it otherwise")
    if not any(node.outputs):
        raise ModelError(f"{node} has no output")
    for what, names, formal in (("input", node.inputs, schema.inputs), ("output", node.outputs, schema.outputs)):
        for i, name in enumerate(names):
            if not name and _formal(formal, i).option == OpSchema.FormalParameterOption.Single:
                raise ModelError(f"{node}: its {what} {i} ({_formal(formal, i).name}) has no name, and must be there")
    absent = [k for k, a in schema.attributes.items() if a.required and k not in node.attrs]
    if absent:
        raise ModelError(f"{node}: attribute '{sorted(absent)[0]}' is absent, and must be there")
    _check_values(node)


def _formal(formal: Any, i: int) -> Any:
    """What the schema says of operand `i`; the last may stand for many."""
    return formal[min(i, len(formal) - 1)]


def _check_values(node: Node) -> None:
    parts = node.attrs.get("num_outputs", len(node.outputs))
    if node.op_type == "Split" and parts != len(node.outputs):
        # onnx's shape inference would read behind its list of parts
        raise ModelError(f"{node}: 'num_outputs' is {parts}, and it has {len(node.outputs)} outputs")
    if node.op_type == "GatherND" and node.attrs.get("batch_dims", 0) < 0:  # it would read before the shapes
        raise ModelError(f"{node}: 'batch_dims' is {node.attrs['batch_dims']}, and cannot be below 0")
    for key, value in node.attrs.items():
        words = WORDS.get((node.op_type, key))
        if words and value not in words:
            raise ModelError(f"{node}: attribute '{key}' is '{value}'; one of {', '.join(words)} was expected")


# ---- whether its operands fit, once their types are known ----


def check_operands(node: Node, types: Mapping[str, TensorType], opset: int) -> None:
    """Dtypes, ranks and sizes of a node's inputs.

    Raises
    ------
    ModelError
        Naming the node, what it is given and what was expected.
    """
    unknown = next((i for i in node.inputs if i and i not in types), None)
    if unknown is not None:
        raise ModelError(f"{node} reads '{unknown}', which is no tensor that is known before it")
    dtypes = tuple([types[i].dtype if i else None for i in node.inputs])
    wrong = _dtype_that_does_not_fit(node.op_type, opset, dtypes)
    if wrong is not None:
        i, expected = wrong
        raise ModelError(f"{node}: its input '{node.inputs[i]}' is {dtypes[i]}; {expected} was expected")
    fits = FITS.get(node.op_type)
    if fits is not None:
        fits(node, [types[i].shape if i else None for i in node.inputs])


def check_results(node: Node, types: Mapping[str, TensorType], results: Mapping[str, TensorType]) -> None:
    """ONNX's inference stops half way where a window does not fit, and then gives fewer dimensions. It believes a
    Reshape, and gives a Sum that does not broadcast (before operator set 8) the shape of its first operand.

    Raises
    ------
    ModelError
        As :func:`check_operands`.
    """
    if node.op_type in WINDOWS:
        x = types[node.inputs[0]].shape
        wrong = next((t.shape for t in results.values() if len(t.shape) != len(x)), None)
        _expect(node, wrong is None, f"X {list(x)} would give {wrong and list(wrong)}")
    elif node.op_type in JOINED:
        shapes = [types[i].shape for i in node.inputs if i]
        fits = all(_broadcasts(s, results[node.outputs[0]].shape) for s in shapes)
        _expect(node, fits, f"operands {list(map(list, shapes))} for {results[node.outputs[0]]}")
    elif node.op_type in RESHAPES:
        before, after = types[node.inputs[0]], results[node.outputs[0]]
        _expect(node, before.size == after.size, f"{before} of {before.size} elements would be {after} of {after.size}")


@lru_cache(maxsize=4096)
def _dtype_that_does_not_fit(
    op_type: str, opset: int, dtypes: tuple[np.dtype[Any] | None, ...]
) -> tuple[int, str] | None:
    """The first input with a dtype that the schema does not allow, and what it does."""
    schema = _schema(op_type, opset)
    if schema is None:
        return None
    allowed = {c.type_param_str: set(c.allowed_type_strs) for c in schema.type_constraints}
    bound: dict[str, np.dtype[Any]] = {}
    for i, dtype in enumerate(dtypes):
        formal = _formal(schema.inputs, i) if schema.inputs else None
        if formal is None or dtype is None:
            continue
        kinds = allowed.get(formal.type_str, {formal.type_str})
        if dtype == FLOAT and kinds.intersection(WIDER):
            kinds = {*kinds, ONNX_NAMES[dtype]}
        if ONNX_NAMES[dtype] not in kinds:
            return i, " or ".join(
                sorted(d.name for d, known in ONNX_NAMES.items() if known in kinds)
            ) or "another dtype"
        if formal.is_homogeneous and bound.setdefault(formal.type_str, dtype) != dtype:
            return i, bound[formal.type_str].name
    return None


def _expect(node: Node, holds: bool, what: str) -> None:
    if not holds:
        raise ModelError(f"{node}: its inputs and attributes do not fit each other: {what}")


def _given(shapes: list[Shape | None], i: int) -> Shape | None:
    return shapes[i] if i < len(shapes) else None


def _first(shapes: list[Shape | None]) -> Shape:
    return shapes[0] or ()


def _transpose(node: Node, shapes: list[Shape | None]) -> None:
    rank = len(_first(shapes))
    perm = node.attrs.get("perm", range(rank))
    _expect(node, sorted(perm) == list(range(rank)), f"perm {list(perm)} does not order {rank} dimensions")


def _steps(node: Node, dimensions: int) -> None:
    """The lists of a window: one entry for each dimension of space, two of pads."""
    for key, least in (("kernel_shape", 1), ("strides", 1), ("dilations", 1), ("output_padding", 0)):
        values = node.attrs.get(key, [1] * dimensions)
        fits = len(values) == dimensions and all(least <= v < 2**31 for v in values)
        _expect(node, fits, f"{key} {values} for {dimensions} dimensions of space")
    pads = node.attrs.get("pads", [0] * 2 * dimensions)
    _expect(node, len(pads) == 2 * dimensions and all(abs(v) < 2**31 for v in pads),
            f"pads {pads} for {dimensions} dimensions of space")  # fmt: skip
    sizes = node.attrs.get("output_shape", [1] * dimensions)
    _expect(node, len(sizes) == dimensions, f"output_shape {sizes} for {dimensions} dimensions of space")


def _pool(node: Node, shapes: list[Shape | None]) -> None:
    x = _first(shapes)
    _expect(node, len(x) >= 3, f"X {list(x)} has no dimensions of space")
    _steps(node, len(x) - 2)


def _convolution(node: Node, shapes: list[Shape | None]) -> None:
    x, w, b = _first(shapes), _given(shapes, 1) or (), _given(shapes, 2)
    _expect(node, len(x) == len(w) >= 3, f"X {list(x)} and W {list(w)} are of other ranks than a convolution has")
    _steps(node, len(x) - 2)
    group, kernel = node.attrs.get("group", 1), tuple(node.attrs.get("kernel_shape", w[2:]))
    _expect(node, kernel == w[2:], f"kernel_shape {list(kernel)}, and W {list(w)}")
    turned = node.op_type == "ConvTranspose"
    made, taken = (w[1] * group, w[0]) if turned else (w[0], w[1] * group)
    _expect(node, group >= 1 and w[0] % group == 0 and taken == x[1],
            f"X {list(x)}, W {list(w)} and {group} group(s)")  # fmt: skip
    _expect(node, b is None or b == (made,), f"B {b and list(b)} for {made} channels")


def _channels(node: Node, shapes: list[Shape | None]) -> None:
    """BatchNormalization, InstanceNormalization: a number for each channel."""
    x = _first(shapes)
    _expect(node, len(x) >= 2, f"X {list(x)} has no channels")
    if node.attrs.get("spatial", 1) == 0:
        return  # a number for each entry, which the lowering refuses by that name
    for i, shape in enumerate(shapes[1:], 1):
        _expect(node, shape == (x[1],), f"'{node.inputs[i]}' {list(shape or ())} for {x[1]} channels")


def _groups(node: Node, shapes: list[Shape | None]) -> None:
    x, groups = _first(shapes), node.attrs["num_groups"]
    fits = len(x) >= 2 and groups >= 1 and x[1] % groups == 0
    _expect(node, fits, f"X {list(x)} and {groups} group(s) of channels")
    for i, shape in enumerate(shapes[1:], 1):
        _expect(node, shape in ((x[1],), (groups,)), f"'{node.inputs[i]}' {list(shape or ())} for {x[1]} channels")


def _layer_norm(node: Node, shapes: list[Shape | None]) -> None:
    x, axis = _first(shapes), node.attrs.get("axis", -1)
    _expect(node, -len(x) <= axis < len(x), f"axis {axis} of X {list(x)}")
    for i, shape in enumerate(shapes[1:], 1):
        _expect(node, shape is None or _broadcasts(shape, x[axis:]),
                f"'{node.inputs[i]}' {list(shape or ())} for {list(x[axis:])}")  # fmt: skip


def _gemm(node: Node, shapes: list[Shape | None]) -> None:
    a, b, c = _first(shapes), _given(shapes, 1) or (), _given(shapes, 2)
    _expect(node, len(a) == len(b) == 2, f"A {list(a)} and B {list(b)} are no matrices")
    a, b = a[:: -1 if node.attrs.get("transA", 0) else 1], b[:: -1 if node.attrs.get("transB", 0) else 1]
    _expect(node, a[1] == b[0], f"A' {list(a)} and B' {list(b)}")
    _expect(node, c is None or _broadcasts(c, (a[0], b[1])), f"C {list(c or ())} for {[a[0], b[1]]}")


def _prelu(node: Node, shapes: list[Shape | None]) -> None:
    x, slope = _first(shapes), _given(shapes, 1) or ()
    _expect(node, _broadcasts(slope, x), f"slope {list(slope)} for X {list(x)}")


def _broadcasts(shape: Shape, target: Shape) -> bool:
    """Whether a shape can be repeated to another, without changing that."""
    lead = len(target) - len(shape)
    return lead >= 0 and all(d in (1, t) for d, t in zip(shape, target[lead:], strict=True))


def _bounds(node: Node, shapes: list[Shape | None]) -> None:
    """Clip: min and max are numbers."""
    for i, shape in enumerate(shapes[1:], 1):
        _expect(node, shape is None or all(d == 1 for d in shape), f"'{node.inputs[i]}' {list(shape or ())}, no number")


def _same_ranks(node: Node, shapes: list[Shape | None]) -> None:
    """GatherElements, ScatterElements: operands of one rank, at most as large as the data but along the axis."""
    data, indices = _first(shapes), _given(shapes, 1) or ()
    axis, rank = node.attrs.get("axis", 0), len(data)
    fits = len(indices) == rank >= 1 and -rank <= axis < rank
    _expect(node, fits, f"data {list(data)}, indices {list(indices)} and axis {axis}")
    within = all(n <= d for k, (n, d) in enumerate(zip(indices, data, strict=True)) if k != axis % rank)
    _expect(node, within, f"data {list(data)} and indices {list(indices)}")
    if node.op_type == "ScatterElements":
        _expect(node, indices == _given(shapes, 2), f"indices {list(indices)} and updates {_given(shapes, 2)}")


def _scatter_nd(node: Node, shapes: list[Shape | None]) -> None:
    data, indices, updates = _first(shapes), _given(shapes, 1) or (), _given(shapes, 2) or ()
    depth = indices[-1] if indices else 0
    fits = 1 <= depth <= len(data) and updates == (*indices[:-1], *data[depth:])
    _expect(node, fits, f"data {list(data)}, indices {list(indices)} and updates {list(updates)}")


def _reversed(node: Node, shapes: list[Shape | None]) -> None:
    """ReverseSequence: a length for each entry of the batch."""
    x, lens, batch = _first(shapes), _given(shapes, 1) or (), node.attrs.get("batch_axis", 1)
    fits = len(x) >= 2 and batch in (0, 1) and lens == (x[batch],)
    _expect(node, fits, f"X {list(x)}, batch_axis {batch} and sequence_lens {list(lens)}")


FITS: dict[str, Callable[[Node, list[Shape | None]], None]] = {
    "Transpose": _transpose, "Conv": _convolution, "ConvTranspose": _convolution, "MaxPool": _pool,
    "AveragePool": _pool, "BatchNormalization": _channels, "InstanceNormalization": _channels,
    "GroupNormalization": _groups, "LayerNormalization": _layer_norm, "PRelu": _prelu, "Gemm": _gemm, "Clip": _bounds,
    "GatherElements": _same_ranks, "ScatterElements": _same_ranks, "ScatterND": _scatter_nd,
    "ReverseSequence": _reversed,
}  # fmt: skip
