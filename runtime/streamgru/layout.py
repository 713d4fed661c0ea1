"""How a ``.sgru`` image lies: its records, and the numbers that stand in them for dtypes, kinds and layouts.

With codes.py, which has the operators, the only place in Python that knows; docs/format.md is the description,
c_src/internal.h the core's. It reads records out of an image and checks nothing: that is the core's work. It needs
numpy alone.
"""

from __future__ import annotations

import math
from enum import IntEnum
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from ._types import AnyDtype

MAGIC = b"SGRU\r\n\x1a\n"
VERSION = 1
ALIGN = 64  # bytes: where sections and constants begin
NONE = 0xFFFFFFFF  # id of an absent operand
MAX_RANK = 8
MAX_RECORDS = 1 << 20  # tensors, and operators
MAX_ELEMENTS = 0x7FFFFFFF  # of a tensor
MAX_WORDS = 0xFFFF  # of one operator's inputs, outputs or parameters
MAX_COLUMNS_I8 = 65536  # of packed rows of 8 bits: their sums stay within 32 bits

Record: TypeAlias = Any  # one entry of an array of records: mypy has no type for its fields
Records: TypeAlias = npt.NDArray[np.void]


class Dtype(IntEnum):
    """What the elements of a tensor are."""

    F32 = 1
    I64 = 2
    I32 = 3
    BOOL = 4
    F16 = 5
    I8 = 6

    @property
    def numpy(self) -> AnyDtype:
        """As NumPy has it."""
        return _NUMPY[self]

    @classmethod
    def of(cls, dtype: AnyDtype) -> Dtype:
        """The code of a NumPy dtype; KeyError where an image cannot hold it."""
        return _DTYPES[dtype]


_NUMPY: dict[Dtype, AnyDtype] = {
    Dtype.F32: np.dtype(np.float32),
    Dtype.I64: np.dtype(np.int64),
    Dtype.I32: np.dtype(np.int32),
    Dtype.BOOL: np.dtype(np.bool_),
    Dtype.F16: np.dtype(np.float16),
    Dtype.I8: np.dtype(np.int8),
}
_DTYPES = {dtype: code for code, dtype in _NUMPY.items()}


class Kind(IntEnum):
    """Where a tensor lies."""

    CONSTANT = 0
    ARENA = 1
    STATE = 2


class Layout(IntEnum):
    """How a tensor lies."""

    ROWS = 0
    PACKED = 1


# ---- records ----

HEADER = np.dtype(
    [
        ("magic", "S8"),
        *((name, "<u4") for name in ("version", "flags")),
        *((name, "<u8") for name in ("file_size", "checksum")),
        *((f"n_{name}", "<u4") for name in ("tensors", "ops", "words", "inputs", "outputs", "states")),
        *((name, "<u4") for name in ("lists", "strings_size")),
        *((name, "<u8") for name in ("tensors", "ops", "words", "strings", "json", "json_size", "data", "data_size")),
    ]
)
TENSOR = np.dtype(
    [
        *((name, "u1") for name in ("dtype", "kind", "rank", "layout")),
        ("name", "<u4"),
        ("offset", "<u8"),
        ("dims", "<u4", MAX_RANK),
        ("reset", "<u4"),
        ("zero", "<u4", 3),
    ]
)
OPERATOR = np.dtype(
    [
        *((name, "<u2") for name in ("code", "n_in", "n_out", "n_params")),
        *((name, "<u4") for name in ("first", "name")),
        ("zero", "<u4", 4),
    ]
)
SUMMED_FROM = 32  # the checksum is over the bytes from here on


class Tables(NamedTuple):
    """The records of an image, and its words."""

    header: Record
    tensors: Records
    operators: Records
    words: npt.NDArray[np.uint32]

    def words_of(self, operator: Record) -> tuple[list[int], list[int], list[int]]:
        """The ids of an operator's inputs and outputs, and its parameters."""
        first, n_in, n_out, n_params = (int(operator[name]) for name in ("first", "n_in", "n_out", "n_params"))
        words = self.words[first : first + n_in + n_out + n_params].tolist()
        return words[:n_in], words[n_in : n_in + n_out], words[n_in + n_out :]


def header_of(image: bytes | npt.NDArray[np.uint8]) -> Record:
    """The header of what is at least as long as one."""
    return np.frombuffer(image, HEADER, 1)[0]


def tables_of(image: bytes | npt.NDArray[np.uint8]) -> Tables:
    """The records of an image that is known to be whole."""
    header = header_of(image)

    def table(dtype: npt.DTypeLike, count: str, offset: str) -> Any:
        return np.frombuffer(image, dtype, int(header[count]), int(header[offset]))

    tensors, operators = table(TENSOR, "n_tensors", "tensors"), table(OPERATOR, "n_ops", "ops")
    return Tables(header, tensors, operators, table("<u4", "n_words", "words"))


def shape_of(tensor: Record) -> tuple[int, ...]:
    """A tensor's dimensions."""
    return tuple(tensor["dims"][: int(tensor["rank"])].tolist())


# ---- constants ----

BLOCK_ROWS = 16  # packed rows lie in blocks of so many
LINE = 64  # bytes of a line of packed rows of 8 bits


def block_lines(columns: int) -> int:
    """Lines of a whole block of floats or halves, an odd number."""
    return columns | 1


def block_lines_i8(columns: int) -> int:
    """Lines of a block of 8 bits: weights, sums, scales, and what makes their number odd."""
    return (-(-columns // 4) + 2) | 1


def last_block_rows(rows: int) -> int:
    """How wide the last, partial block of floats or halves is, filled up; 0 where there is none."""
    return -(-(rows % BLOCK_ROWS) // 4) * 4


def rounded(n: int) -> int:
    """Bytes up to the next boundary."""
    return -(-n // ALIGN) * ALIGN


def stored_bytes(tensor: Record) -> int:
    """Bytes that a tensor takes."""
    dtype, shape = Dtype(tensor["dtype"]), shape_of(tensor)
    if tensor["layout"] == Layout.ROWS:
        return math.prod(shape) * dtype.numpy.itemsize
    rows, columns = shape
    if dtype == Dtype.I8:
        return -(-rows // BLOCK_ROWS) * LINE * block_lines_i8(columns)
    whole = rows // BLOCK_ROWS * BLOCK_ROWS
    return (whole * block_lines(columns) + last_block_rows(rows) * columns) * dtype.numpy.itemsize
