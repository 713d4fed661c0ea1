"""The step program: tensors and operators as an image holds them (docs/format.md), before they have
addresses.

The lowering builds it, fuse.py shortens it, plan.py gives it addresses, image.py writes it.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from streamgru._types import Array
from streamgru.codes import Code
from streamgru.layout import BLOCK_ROWS, Kind, Layout, block_lines, last_block_rows


@dataclass(eq=False)
class Tensor:
    """A tensor of the image. One with a `base` is a view: it lies inside the base's bytes."""

    name: str
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    kind: Kind
    layout: Layout = Layout.ROWS
    data: Array | None = None  # of a constant: the bytes as stored
    reset: Tensor | None = None  # of a state: the constant it starts as
    base: Tensor | None = None
    base_offset: int = 0  # of a view, in elements
    offset: int = -1  # in bytes; plan.py sets it
    id: int = -1

    @property
    def root(self) -> Tensor:
        """The tensor whose bytes these are."""
        return self if self.base is None else self.base

    @property
    def size(self) -> int:
        """Elements, as shaped."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes, as stored."""
        return self.data.nbytes if self.data is not None else self.size * self.dtype.itemsize


@dataclass(eq=False)
class Operator:
    """An operator of the image. A float parameter is a Python float, all others are int."""

    code: Code
    inputs: list[Tensor | None]
    outputs: list[Tensor | None]
    params: list[int | float]
    name: str
    origin: object = None  # what it was lowered from

    def words(self) -> list[int]:
        """The parameters as u32."""
        return [word(p) for p in self.params]


def word(p: int | float) -> int:
    """A parameter as u32: an integer as it is (negative ones in two's complement), a float as its bits."""
    if isinstance(p, float):
        return int(struct.unpack("<I", struct.pack("<f", p))[0])
    return int(p) & 0xFFFFFFFF


@dataclass
class Program:
    """Operators in order, and what goes in, comes out and stays."""

    operators: list[Operator] = field(default_factory=list)
    inputs: list[Tensor] = field(default_factory=list)
    outputs: list[Tensor] = field(default_factory=list)
    states: list[Tensor] = field(default_factory=list)
    arena_bytes: int = 0
    state_bytes: int = 0

    def tensors(self) -> list[Tensor]:
        """Every tensor once, the bases of views included."""
        found: dict[Tensor, None] = {}
        listed: Sequence[Tensor | None] = [*self.inputs, *self.outputs, *self.states]
        used = [t for op in self.operators for t in (*op.inputs, *op.outputs)]
        for t in (*listed, *used):
            while t is not None and t not in found:
                found[t] = None
                if t.reset is not None:
                    found[t.reset] = None
                t = t.base
        return list(found)


def constant(name: str, value: Array) -> Tensor:
    """A row-major constant. Subnormal floats become zero: they would cost time and change nothing one can
    measure."""
    value = np.asarray(value, order="C")
    if value.dtype == np.float32:
        value = np.where(np.abs(value) < np.finfo(np.float32).tiny, np.float32(0), value)
    return Tensor(name, value.dtype, value.shape, Kind.CONSTANT, data=value)


def packed(name: str, matrix: Array) -> Tensor:
    """A constant [M, K] of packed rows.

    Blocks of 16 rows lie as [block][k][row in block], each padded with zeros to an odd number of k; the last, partial
    block is as wide as the rows that remain, rounded up to a multiple of 4, and not padded.
    """
    value = constant(name, matrix.astype(np.float32, copy=False)).data
    assert value is not None
    rows, columns = value.shape
    whole = rows // BLOCK_ROWS * BLOCK_ROWS
    blocks = np.zeros((rows // BLOCK_ROWS, block_lines(columns), BLOCK_ROWS), np.float32)
    blocks[:, :columns] = value[:whole].reshape(-1, BLOCK_ROWS, columns).swapaxes(1, 2)
    rest = np.zeros((columns, last_block_rows(rows)), np.float32)
    rest[:, : rows - whole] = value[whole:].T
    data = np.concatenate([blocks.ravel(), rest.ravel()])
    return Tensor(name, np.dtype(np.float32), matrix.shape, Kind.CONSTANT, Layout.PACKED, data)
