"""What the attributes of ONNX's operators mean: read here and nowhere else.

Each function takes a node and gives the meaning, defaults filled in and axes counted from the front. The defaults are
those of ONNX's own schemas. Kernels and their padding are in windows.py, recurrent
operators in recurrent.py. Nothing is computed here: a list that was an
attribute in older operator sets and is an input in newer ones must be a constant.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from string import ascii_letters
from typing import Any

import numpy as np
import onnx

from streamgru.errors import ModelError

from .graph import Array, Graph, Node

MIN_OPSET, MAX_OPSET = 7, 24
Constants = Mapping[str, Array]


# ---- one attribute ----


@cache
def _default(op_type: str, name: str) -> Any:
    """ONNX's own, in the newest operator set that has the attribute: it is the same in all of them, but for the axis of
    Softmax. None where there is none."""
    for opset in range(MAX_OPSET, MIN_OPSET - 1, -1):
        try:
            found = onnx.defs.get_schema(op_type, opset, "").attributes.get(name)
        except onnx.defs.SchemaError:
            break
        if found is not None:
            return onnx.helper.get_attribute_value(found.default_value) if found.default_value.name else None
    return None


def is_given(node: Node, name: str) -> bool:
    """Whether the node has the attribute itself."""
    return name in node.attrs


def _value(node: Node, name: str) -> Any:
    value = node.attrs[name] if name in node.attrs else _default(node.op_type, name)
    if value is None:
        raise ModelError(f"{node}: its attribute '{name}' is missing")
    return value


def number(node: Node, name: str) -> float:
    """A float."""
    return float(_value(node, name))


def integer(node: Node, name: str) -> int:
    """An integer."""
    return int(_value(node, name))


def flag(node: Node, name: str) -> bool:
    """An integer that says yes (any but 0) or no."""
    return integer(node, name) != 0


def text(node: Node, name: str) -> str:
    """A string."""
    value = _value(node, name)
    return value.decode() if isinstance(value, bytes) else str(value)


def integers(node: Node, name: str) -> list[int] | None:
    """A list of integers; None where the node has none."""
    return [int(v) for v in node.attrs[name]] if name in node.attrs else None


def numbers(node: Node, name: str) -> list[float]:
    """A list of floats; empty where the node has none."""
    return [float(v) for v in node.attrs.get(name, ())]


def words(node: Node, name: str) -> list[str]:
    """A list of strings; empty where the node has none."""
    return [str(v) for v in node.attrs.get(name, ())]


def subgraph(node: Node, name: str) -> Graph:
    """A subgraph."""
    graph = _value(node, name)
    assert isinstance(graph, Graph)
    return graph


# ---- lists that are attributes or inputs ----


def is_computed(node: Node, i: int, constants: Constants) -> bool:
    """Whether input `i` is there and no constant."""
    return node.input(i) != "" and node.input(i) not in constants


def _listed(node: Node, name: str, i: int, constants: Constants) -> list[int] | None:
    """An attribute in older operator sets, input `i` in newer ones; None where it is neither."""
    if node.input(i):
        return [int(v) for v in constants[node.inputs[i]].reshape(-1)]
    return integers(node, name)


# ---- axes ----


def from_front(node: Node, axis: int, rank: int) -> int:
    """The axis counted from the front."""
    if not -rank <= axis < rank:
        raise ModelError(f"{node}: axis {axis} is out of range for {rank} dimensions")
    return axis % rank if rank else 0


def _is_flattening(node: Node, opset: int) -> bool:
    return node.op_type in ("Softmax", "LogSoftmax") and opset < 13


def axis(node: Node, rank: int, opset: int) -> int:
    """The attribute `axis`, by default that of this operator in this operator set."""
    if _is_flattening(node, opset) and not is_given(node, "axis"):
        return from_front(node, 1, rank)
    return from_front(node, integer(node, "axis"), rank)


def normalised_axes(node: Node, rank: int, opset: int) -> range:
    """What Softmax, LogSoftmax, LayerNormalization and TopK run over: one axis, or all from it on.

    Before operator set 13 Softmax takes its operand for a matrix, with all axes from `axis` on as its columns.
    """
    first = axis(node, rank, opset)
    return range(first, rank if _is_flattening(node, opset) or node.op_type == "LayerNormalization" else first + 1)


def reduction_axes(node: Node, rank: int, opset: int, constants: Constants) -> list[int] | None:
    """What a reduction, ArgMax or ArgMin runs over; [] with noop_with_empty_axes. None where the axes are computed."""
    if node.op_type in ("ArgMax", "ArgMin"):
        return [axis(node, rank, opset)]
    if is_computed(node, 1, constants):
        return None
    given = _listed(node, "axes", 1, constants)
    if not given:
        return [] if flag(node, "noop_with_empty_axes") else list(range(rank))
    axes = [from_front(node, a, rank) for a in given]
    if len(set(axes)) != len(axes):
        raise ModelError(f"{node}: an axis stands twice among its axes {axes}")
    return axes


def cumsum_axis(node: Node, rank: int, constants: Constants) -> int | None:
    """The axis of a CumSum; None where it is computed."""
    if is_computed(node, 1, constants):
        return None
    given = constants[node.inputs[1]]
    if given.size != 1:
        raise ModelError(f"{node}: its axis is one number, not {given.reshape(-1).tolist()}")
    return from_front(node, int(given.reshape(-1)[0]), rank)


def perm(node: Node, rank: int) -> list[int]:
    """The axes of a Transpose's input in the order of its output; by default the other way round."""
    given = integers(node, "perm")
    return list(range(rank))[::-1] if given is None else given


def reversal(node: Node) -> tuple[int, int]:
    """The time and the batch axis of a ReverseSequence: its first two axes, in either order."""
    axes = integer(node, "time_axis"), integer(node, "batch_axis")
    if set(axes) != {0, 1}:
        raise ModelError(f"{node}: time_axis={axes[0]}, batch_axis={axes[1]}; one of them is 0, and the other 1")
    return axes


# ---- parts of a value ----


def slices(node: Node, shape: Sequence[int], constants: Constants) -> dict[int, range] | None:
    """Axis -> the entries that a Slice takes of it; None where they are computed."""
    if any(is_computed(node, i, constants) for i in range(1, 5)):
        return None
    starts, ends, axes, steps = (
        _listed(node, name, i, constants) for i, name in enumerate(("starts", "ends", "axes", "steps"), 1)
    )
    if starts is None or ends is None:
        raise ModelError(f"{node}: starts or ends are missing")
    axes = list(range(len(starts))) if axes is None else axes
    steps = [1] * len(starts) if steps is None else steps
    if not len(starts) == len(ends) == len(axes) == len(steps) or 0 in steps:
        raise ModelError(f"{node}: starts, ends, axes and steps do not fit each other")
    found: dict[int, range] = {}
    for a, start, end, step in zip(axes, starts, ends, steps, strict=True):
        a = from_front(node, a, len(shape))
        if a in found:
            raise ModelError(f"{node}: axis {a} stands twice among its axes")
        found[a] = _entries(shape[a], start, end, step)
    return found


def _entries(size: int, start: int, end: int, step: int) -> range:
    """As Python takes them, but for a start before the first entry: stepping backwards, ONNX begins at the first."""
    return range(size)[slice(0 if step < 0 and start < -size else start, end, step)]


def gathered(node: Node, indices: Array, size: int) -> Array:
    """The indices of a Gather along an axis of that size, counted from the front."""
    bad = indices[(indices < -size) | (indices >= size)]
    if bad.size:
        raise ModelError(f"{node}: index {int(bad.reshape(-1)[0])} is out of range for a dimension of {size}")
    return np.where(indices < 0, indices + size, indices)


def shape_part(node: Node) -> slice:
    """The dimensions that a Shape gives; Python clamps as ONNX does."""
    return slice(integer(node, "start"), integer(node, "end") if is_given(node, "end") else None)


def pads(node: Node, rank: int, constants: Constants) -> list[tuple[int, int]] | None:
    """What a Pad adds at the beginning and the end of each axis; None where it is computed."""
    if is_computed(node, 1, constants) or is_computed(node, 3, constants):
        return None
    given, axes = _listed(node, "pads", 1, constants), _listed(node, "axes", 3, constants)
    axes = list(range(rank)) if axes is None else axes
    if given is None or len(given) != 2 * len(axes):
        raise ModelError(f"{node}: pads must give a begin and an end for each axis")
    found = [(0, 0)] * rank
    for a, begin, end in zip(axes, given, given[len(axes) :], strict=False):
        found[from_front(node, a, rank)] = (begin, end)
    return found


def pad_value(node: Node, constants: Constants) -> float | None:
    """What a Pad fills with; None where it is computed."""
    if is_computed(node, 2, constants):
        return None
    return float(constants[node.inputs[2]].reshape(-1)[0]) if node.input(2) else number(node, "value")


def top_count(node: Node, constants: Constants) -> int | None:
    """How many entries a TopK gives; None where that is computed."""
    if is_computed(node, 1, constants):
        return None
    return int(constants[node.inputs[1]].reshape(-1)[0]) if node.input(1) else integer(node, "k")


# ---- numbers ----


def clip_bounds(node: Node, constants: Constants) -> tuple[float | None, float | None]:
    """The bounds of a Clip of floats; None where one is computed.

    What is not given is the lowest or the highest finite number: ONNX lets no infinity through.
    """
    low, high = (_bound(node, i, name, constants) for i, name in ((1, "min"), (2, "max")))
    return low, high


def _bound(node: Node, i: int, name: str, constants: Constants) -> float | None:
    if is_computed(node, i, constants):
        return None
    return float(constants[node.inputs[i]].reshape(-1)[0]) if node.input(i) else number(node, name)


@dataclass(frozen=True)
class Gemm:
    """alpha · A' · B' + beta · C, A' and B' transposed where it is said."""

    alpha: float = 1.0
    beta: float = 1.0
    trans_a: bool = False
    trans_b: bool = False


def is_training(node: Node) -> bool:
    """Whether a BatchNormalization takes its statistics from its input, or gives them out."""
    return flag(node, "training_mode") or any(node.outputs[1:])


def gemm(node: Node) -> Gemm:
    """The attributes of a Gemm."""
    return Gemm(number(node, "alpha"), number(node, "beta"), flag(node, "transA"), flag(node, "transB"))


def equation(node: Node, ranks: Sequence[int]) -> tuple[list[str], str]:
    """The letters of each operand's axes of an Einsum, and of the output's. An ellipsis gets letters of its own.

    Raises
    ------
    ModelError
        The equation does not fit the operands, or asks for a diagonal.
    """
    written = "".join(text(node, "equation").split())
    left, arrow, out = written.partition("->")
    terms = left.split(",")
    wrong = ModelError(f"{node}: its equation '{written}' does not fit its {len(ranks)} operands")
    if len(terms) != len(ranks):
        raise wrong
    free = [c for c in reversed(ascii_letters) if c not in written]
    most = max((r - len(t) + 3 for t, r in zip(terms, ranks, strict=True) if "..." in t), default=0)
    if most < 0 or most > len(free):
        raise wrong
    dots = "".join(free[:most])
    for i, (term, rank) in enumerate(zip(terms, ranks, strict=True)):
        count = rank - len(term) + 3
        terms[i] = term.replace("...", dots[most - count :] if count else "")
        if len(terms[i]) != rank or not all(c.isalpha() for c in terms[i]):
            raise wrong
        if len(set(terms[i])) != rank:
            raise ModelError(f"{node}: its equation '{written}' repeats an index in one operand (a diagonal), "
                             "which is not supported; take the diagonal before it")  # fmt: skip
    if arrow:
        out = out.replace("...", dots)
    else:
        letters = "".join(terms)
        out = dots + "".join(sorted(c for c in set(letters) if letters.count(c) == 1 and c not in dots))
    if len(set(out)) != len(out) or not set(out) <= set("".join(terms)):
        raise wrong
    return terms, out
