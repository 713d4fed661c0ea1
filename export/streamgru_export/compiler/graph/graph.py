"""The graph between the ONNX reader and the passes: nodes, constants, types. It computes nothing and knows no
file."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamgru._printable import printable

Array = NDArray[Any]
Dim = int | str  # a number, or the name of a dimension that is still to be bound


@dataclass
class Node:
    """One ONNX node. Attributes are Python values; a tensor is an array, a subgraph a :class:`Graph`."""

    op_type: str
    name: str
    inputs: list[str]  # "" where an optional input is absent
    outputs: list[str]
    attrs: dict[str, Any] = field(default_factory=dict)
    from_torch_gru: bool = False  # the file says: torch.nn.GRU

    def input(self, i: int) -> str:
        """Name of input `i`, "" where it is absent."""
        return self.inputs[i] if i < len(self.inputs) else ""

    def output(self, i: int) -> str:
        """Name of output `i`, "" where it is absent."""
        return self.outputs[i] if i < len(self.outputs) else ""

    def is_like(self, other: Node | None) -> bool:
        """Whether the other computes the same values in the same way."""
        if other is None or self.attrs.keys() != other.attrs.keys():
            return False
        same = (self.op_type, self.inputs, self.outputs) == (other.op_type, other.inputs, other.outputs)
        return same and all(np.array_equal(v, other.attrs[k]) for k, v in self.attrs.items())

    def __str__(self) -> str:
        """How messages call the node."""
        kind = printable(self.op_type)
        if self.name:
            return f"{kind} node '{printable(self.name)}'"
        first = next((o for o in self.outputs if o), "")
        return f"{kind} node (unnamed, output '{printable(first)}')"


@dataclass(frozen=True)
class Control:
    """A Loop or Scan that was written out, or an If whose branch was taken.

    Attributes
    ----------
    turns : int
        How many steps there were; of an If 1 or 0.
    forgets : bool
        One of its states starts from a constant, whatever was before.
    backward : bool
        It goes through a scanned input from the end.
    """

    node: Node
    turns: int
    forgets: bool = False
    backward: bool = False


@dataclass(frozen=True)
class Port:
    """An input or output of the graph. Of an output the shape is the file's claim, and never relied upon."""

    name: str
    dtype: np.dtype[Any]
    shape: tuple[Dim, ...]


@dataclass(frozen=True)
class TensorType:
    """What a value is once every dimension is bound."""

    dtype: np.dtype[Any]
    shape: tuple[int, ...]

    def __str__(self) -> str:
        return f"{self.dtype}{list(self.shape)}"

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)


@dataclass
class Graph:
    """Nodes in topological order. `types` is filled by :func:`compiler.static.specialise.specialise`."""

    name: str
    nodes: list[Node]
    inputs: list[Port]
    outputs: list[Port]
    constants: dict[str, Array]
    opset: int = 17
    producer: str = ""
    metadata: dict[str, str] = field(default_factory=dict)
    types: dict[str, TensorType] = field(default_factory=dict)
    source: str = ""
    sha256: str = ""
    notes: list[str] = field(default_factory=list)
    # First output of a GRU that the file had in pieces -> note.
    recognised: dict[str, str] = field(default_factory=dict)
    pieces: set[str] = field(default_factory=set)  # outputs of the nodes that were those pieces
    bound: dict[str, Array] = field(default_factory=dict)  # inputs of the file that are constants here
    control: dict[str, Control] = field(default_factory=dict)  # first output of each that was resolved -> what it was

    def producers(self) -> dict[str, Node]:
        """Value name -> the node that computes it."""
        return {o: n for n in self.nodes for o in n.outputs if o}

    def uses(self) -> Counter[str]:
        """How often each value is read, by nodes and as a graph output."""
        count = Counter(i for n in self.nodes for i in n.inputs if i)
        count.update(p.name for p in self.outputs)
        return count

    def readers(self) -> dict[str, list[Node]]:
        """Value name -> the nodes that read it."""
        found: dict[str, list[Node]] = {}
        for node in self.nodes:
            for name in dict.fromkeys(i for i in node.inputs if i):
                found.setdefault(name, []).append(node)
        return found

    def symbols(self) -> dict[str, list[tuple[str, int]]]:
        """Unbound dimension -> the (input, axis) pairs that have it."""
        found: dict[str, list[tuple[str, int]]] = {}
        for port in self.inputs:
            for axis, dim in enumerate(port.shape):
                if isinstance(dim, str):
                    found.setdefault(dim, []).append((port.name, axis))
        return found

    def copied(self) -> Graph:
        """The same graph, to be changed: its nodes and tables are its own, the arrays are shared."""
        nodes = [replace(n, inputs=list(n.inputs), outputs=list(n.outputs), attrs=dict(n.attrs)) for n in self.nodes]
        return replace(self, nodes=nodes, inputs=list(self.inputs), outputs=list(self.outputs),
                       constants=dict(self.constants), types=dict(self.types))  # fmt: skip

    def with_inputs(self, inputs: Iterable[Port]) -> Graph:
        """The same graph with other input declarations."""
        return replace(self, inputs=list(inputs), types={})


def live_nodes(nodes: list[Node], wanted: Iterable[str]) -> list[Node]:
    """The nodes that `wanted` depends on, in order."""
    needed = set(wanted)
    kept: list[Node] = []
    for node in reversed(nodes):
        if needed.intersection(node.outputs):
            kept.append(node)
            needed.update(i for i in node.inputs if i)  # what is absent is nobody's output
    return kept[::-1]
