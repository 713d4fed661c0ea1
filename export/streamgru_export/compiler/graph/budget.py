"""What compiling one model may cost: bytes of constants, operations on them, nodes. Asked before anything is made, by
all who make something: the reader, the folding of constants, loops of every kind, branches, bodies inside of bodies.

A byte is given back when its array is. An operation is about a nanosecond of NumPy's.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from math import prod

import numpy as np

from streamgru.errors import ModelError

from .evaluate import Operator, evaluate, infer, operator_of
from .graph import Array, Graph, Node, TensorType
from .kinds import ELEMENTWISE, REDUCTIONS

MAX_BYTES = 2**32  # of the constants that are there at once: those of the file, and those computed from them
MAX_WORK = 10**10  # operations that compute constants: some ten seconds
MAX_NODES = 100_000  # of a file, with its functions and all subgraphs
MAX_UNROLLED = 10_000  # nodes more, that all loops of a model may become
MAX_COUNTING = 100_000  # nodes computed to find out how often loops run
TRANSIENT = 0.5  # of the bytes, that one operation may need besides while it runs

SMALL = 4096  # bytes: what is less is counted and never given back
ENTRY = 128  # bytes that an array, or a number or text in a list, takes in Python besides its own
REST = "export one step, with its state as input and output"

# What NumPy does in one go: they need room for so many copies of the result besides.
MOVES = {
    "Reshape", "Transpose", "Slice", "Concat", "Split", "Squeeze", "Unsqueeze", "Flatten", "Identity", "Gather",
    "Expand", "Tile", "ConstantOfShape", "Range", "Cast", "CastLike", "DepthToSpace", "SpaceToDepth", "Trilu",
    "EyeLike", "Shape", "Size", "CenterCropPad",
}  # fmt: skip
VECTORS = {
    *ELEMENTWISE, *REDUCTIONS, "Pad", "CumSum", "CumProd", "OneHot", "Softmax", "LogSoftmax", "Hardmax",
    "LayerNormalization", "InstanceNormalization", "GroupNormalization", "RMSNormalization",
    "MeanVarianceNormalization", "LpNormalization", "IsNaN", "IsInf", "Dropout", "BitwiseAnd", "BitwiseOr",
    "BitwiseXor", "BitwiseNot", "BitShift", "Sinh", "Cosh", "Asinh", "Acosh", "Atanh",
} - {"Erf", *MOVES}  # fmt: skip
# The results of these are no larger than their operands are together.
TIDY = {*ELEMENTWISE, *REDUCTIONS, "Reshape", "Concat", "Squeeze", "Unsqueeze", "Slice"}
FEW = 16  # elements
# Loops of Python: operations for each element, of operands and results.
LOOPS = {"Erf": 200, "TopK": 200, "GatherND": 2_000, "GatherElements": 200, "ScatterND": 5_000,
         "ScatterElements": 5_000}  # fmt: skip
SLOWEST = 50_000  # of an element where nothing is known of an operator
PRODUCTS = {"MatMul", "Gemm", "Einsum"}
BLAS = 16  # multiplications and additions of floats at once


@dataclass
class Budget:
    """What is left. One for each compilation.

    Attributes
    ----------
    nodes : int
        That may still be visited under this binding.
    rounds : int
        Nodes that may still be computed under it to find out how often loops run.
    work : int
        Operations that may still be spent.
    held : int
        Bytes of the constants that are there.
    """

    nodes: int = field(default_factory=lambda: MAX_NODES)
    rounds: int = field(default_factory=lambda: MAX_COUNTING)
    work: int = field(default_factory=lambda: MAX_WORK)
    held: int = 0
    _operators: dict[int, tuple[Node, Operator]] = field(default_factory=dict)  # of small nodes, under this binding
    _roots: dict[int, int] = field(default_factory=dict)  # id of an array that is there -> its bytes

    # ---- bytes ----

    def claim(self, who: object, size: int, besides: int = 0) -> None:
        """Whether there is room for so many bytes more, and for `besides` for a moment.

        Raises
        ------
        ModelError
            There is not.
        """
        if self.held + size > MAX_BYTES:
            raise ModelError(f"{who}: the model's constants, with those computed from them, exceed {MAX_BYTES} bytes")
        if self.held + size + besides > MAX_BYTES * (1 + TRANSIENT):
            raise ModelError(f"{who}: to compute it takes about {besides} bytes besides its result; constants and "
                             f"what computes them may have {int(MAX_BYTES * (1 + TRANSIENT))}")  # fmt: skip

    def hold(self, who: object, array: Array) -> None:
        """An array that is there now; its bytes are given back when it, and all that look into it, are gone."""
        whole = root(array)
        if whole.nbytes < SMALL:
            self.claim(who, array.nbytes + ENTRY)
            self.held += array.nbytes + ENTRY
            return
        if id(whole) not in self._roots:
            self.claim(who, whole.nbytes)
            self._roots[id(whole)] = whole.nbytes
            self.held += whole.nbytes
            weakref.finalize(whole, self._release, id(whole)).atexit = False

    def _release(self, key: int) -> None:
        self.held -= self._roots.pop(key)

    def hold_all(self, graph: Graph) -> None:
        """The constants of a graph and of its subgraphs, and tensors that are attributes."""
        for name, value in graph.constants.items():
            self.hold(f"tensor '{name}'", value)
        for node in graph.nodes:
            for attribute in node.attrs.values():
                if isinstance(attribute, np.ndarray):
                    self.hold(node, attribute)
                elif isinstance(attribute, Graph):
                    self.hold_all(attribute)

    # ---- nodes ----

    def read(self, who: object, nodes: int) -> None:
        """Nodes of the file. ModelError where they are too many."""
        self.nodes -= nodes
        if self.nodes < 0:
            raise ModelError(f"{who}: with its {nodes} nodes the model has more than {MAX_NODES}")

    def begin(self, graph: Graph) -> None:
        """Another binding of the graph: its nodes may be visited again."""
        self.nodes, self.rounds = count_nodes(graph) + MAX_UNROLLED, MAX_COUNTING
        self._operators.clear()

    def visit(self, node: Node) -> None:
        """One node more. ModelError where loops have made too many."""
        self.nodes -= 1
        self.room(node, 0)

    def room(self, node: Node, nodes: int) -> None:
        """Whether a loop may become so many nodes. ModelError where it may not."""
        if nodes > self.nodes:
            raise ModelError(f"{node}: its body is no GRU, and written out step after step the model has more than "
                             f"{MAX_UNROLLED} nodes more; {REST}")  # fmt: skip

    def count(self, node: Node, nodes: int) -> None:
        """Nodes that say whether a loop goes on. ModelError where there were too many."""
        self.rounds -= nodes
        if self.rounds < 0:
            raise ModelError(f"{node}: it runs too many steps to count them; {REST}")

    # ---- operations ----

    def spend(self, who: object, work: int) -> None:
        """So many operations. ModelError where they are not left."""
        if work > self.work:
            raise ModelError(f"{who}: the constants of the model take more than {MAX_WORK} operations to compute")
        self.work -= work

    def evaluate(self, node: Node, inputs: list[Array | None], opset: int,
                 types: Mapping[str, TensorType] | None = None) -> list[Array]:  # fmt: skip
        """The node's outputs for constant inputs, as :func:`evaluate.evaluate` gives them.

        Parameters
        ----------
        types : mapping, optional
            Of its outputs, where they are known.

        Raises
        ------
        ModelError
            It takes more than is left, or has no value.
        """
        given = [value for value in inputs if value is not None]
        if types is None and node.op_type in TIDY and sum(value.size for value in given) <= FEW:
            key = id(node)
            if key not in self._operators:
                self._operators[key] = node, operator_of(node, opset)
            return evaluate(node, inputs, opset, self._operators[key][1])
        if types is None:
            types = self._types(node, inputs, opset)
        results = list(types.values())
        self.claim(node, sum(map(_bytes, results)), scratch(node, given, results))
        self.spend(node, work(node, given, results))
        values = evaluate(node, inputs, opset)
        for value in values:
            self.hold(node, value)
        return values

    def _types(self, node: Node, inputs: list[Array | None], opset: int) -> dict[str, TensorType]:
        known = {name: value for name, value in zip(node.inputs, inputs, strict=True) if name and value is not None}
        types = {name: TensorType(value.dtype, value.shape) for name, value in known.items()}
        return infer(node, types, known, opset)


def root(array: Array) -> Array:
    """The array whose memory it looks into."""
    while isinstance(array.base, np.ndarray):
        array = array.base
    return array


def check_room(who: object, shape: Iterable[int], itemsize: int) -> None:
    """Whether an array that is made for the image may be so large; for a moment there are three. ModelError where it
    may not."""
    size = prod(shape) * itemsize
    Budget().claim(who, size, 2 * size)


def count_nodes(graph: Graph) -> int:
    """Of a graph and all its subgraphs."""
    return sum(1 + sum(count_nodes(a) for a in n.attrs.values() if isinstance(a, Graph)) for n in graph.nodes)


def scratch(node: Node, inputs: Sequence[Array], results: Sequence[TensorType]) -> int:
    """Bytes that computing needs for a moment, besides operands and results."""
    taken, made = sum(value.nbytes for value in inputs), sum(map(_bytes, results))
    if node.op_type in MOVES:
        return made
    if node.op_type in VECTORS:
        return 2 * (taken + made)
    if node.op_type in PRODUCTS:
        return taken + made
    if node.op_type in LOOPS:
        return 12 * (taken + made)
    return 16 * (taken + made) * _window(node, inputs)


def work(node: Node, inputs: Sequence[Array], results: Sequence[TensorType]) -> int:
    """Operations that computing takes."""
    elements = sum(value.size for value in inputs) + sum(t.size for t in results)
    if node.op_type in MOVES:
        return elements
    if node.op_type in VECTORS:
        return 20 * elements
    if node.op_type in ("MatMul", "Gemm"):
        return elements + _product(node, inputs, results)
    if node.op_type == "Einsum":
        return elements + _letters(node, inputs)
    return LOOPS.get(node.op_type, SLOWEST * _window(node, inputs)) * elements


def _bytes(t: TensorType) -> int:
    return t.size * t.dtype.itemsize


def _product(node: Node, inputs: Sequence[Array], results: Sequence[TensorType]) -> int:
    """Of matrices: each entry of the result is a sum over the inner axis."""
    first = inputs[0]
    inner = first.shape[0] if node.attrs.get("transA") else first.shape[-1] if first.ndim else 1
    return results[0].size * inner // (BLAS if first.dtype.kind == "f" else 1)


def _letters(node: Node, inputs: Sequence[Array]) -> int:
    """Of an Einsum: at worst, one operation for each value of all its letters together."""
    sizes: dict[str, int] = {}
    terms = str(node.attrs["equation"]).partition("->")[0].replace(" ", "").split(",")
    for term, value in zip(terms, inputs, strict=False):
        before, dots, after = term.partition("...")
        between = value.shape[len(before) : value.ndim - len(after)] if dots else ()
        for letter, size in zip([*before, *_dots(len(between)), *after], value.shape, strict=False):
            sizes[letter] = max(size, sizes.get(letter, 1))
    return prod(sizes.values())


def _dots(count: int) -> list[str]:
    """Names of the axes that `...` stands for, by their place from the right."""
    return [f".{k}" for k in reversed(range(count))]


def _window(node: Node, inputs: Iterable[Array]) -> int:
    """Elements that each element of a result looks at, where a kernel slides."""
    kernel: list[int] = node.attrs.get("kernel_shape", [])
    if kernel:
        return max(1, prod(kernel))
    weights = list(inputs)[1:2]
    return max(1, prod(weights[0].shape[1:])) if node.op_type == "Conv" and weights else 1
