"""Adds nodes to a static graph: each is typed as it is added, so that the next can be built on it."""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Mapping, MutableMapping, Sequence
from typing import Any

import numpy as np

from .evaluate import infer
from .graph import Array, Node, TensorType


class Builder:
    """New nodes, constants and their types; what is given is read and not changed."""

    def __init__(self, types: Mapping[str, TensorType], constants: Mapping[str, Array], opset: int) -> None:
        self.nodes: list[Node] = []
        self.new_types: dict[str, TensorType] = {}
        self.new_constants: dict[str, Array] = {}
        self.types: MutableMapping[str, TensorType] = ChainMap(self.new_types, dict(types))
        self.constants: MutableMapping[str, Array] = ChainMap(self.new_constants, dict(constants))
        self.opset = opset
        self.name = ""  # of the nodes that are added next

    def shape(self, name: str) -> tuple[int, ...]:
        """Of a value."""
        return self.types[name].shape

    def free(self, name: str) -> str:
        """A name that no value has."""
        while name in self.types:
            name += "_"
        return name

    def constant(self, value: Any, what: str) -> str:
        """A constant of that value."""
        array = np.asarray(value)
        name = self.free(f"{self.name}/{what}")
        self.constants[name], self.types[name] = array, TensorType(array.dtype, array.shape)
        return name

    def add(self, node: Node) -> None:
        """Appends a node."""
        self.types.update(infer(node, self.types, self.constants, self.opset))
        self.nodes.append(node)

    def emit(self, op: str, inputs: Sequence[str], output: str = "", **attrs: Any) -> str:
        """Appends a node with one output, and names that."""
        output = output or self.free(f"{self.name}/{op}")
        self.add(Node(op, self.name, list(inputs), [output], attrs))
        return output

    def reshape(self, x: str, shape: Sequence[int], output: str = "") -> str:
        """`x` in another shape; itself where it has that and no name is asked for."""
        if self.shape(x) == tuple(shape) and not output:
            return x
        return self.emit("Reshape", [x, self.constant(np.array(shape, np.int64), "shape")], output)

    def unsqueeze(self, x: str, axis: int) -> str:
        """`x` with one more axis, of size 1."""
        shape = self.shape(x)
        return self.reshape(x, (*shape[:axis], 1, *shape[axis:]))

    def transpose(self, x: str, perm: Sequence[int]) -> str:
        """`x` with its axes in another order."""
        if list(perm) == sorted(perm):
            return x
        return self.emit("Transpose", [x], perm=list(perm))

    def move_axis(self, x: str, source: int, target: int) -> str:
        """`x` with one axis moved, as NumPy's moveaxis."""
        perm = [i for i in range(len(self.shape(x))) if i != source]
        perm.insert(target, source)
        return self.transpose(x, perm)

    def entries(self, x: str, indices: Array, axis: int) -> str:
        """Entries of one axis, known now: all of it in order is `x` itself."""
        at = np.asarray(indices, np.int64)
        if np.array_equal(at, np.arange(self.shape(x)[axis])):
            return x
        return self.emit("Gather", [x, self.constant(at, "indices")], axis=axis)
