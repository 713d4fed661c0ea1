"""How a ``.sgru`` image lies: its records, and the numbers that stand in them for dtypes, operators and functions.

The only place in Python that knows; docs/format.md is the description, c_src/internal.h the core's. It reads records
out of an image and checks nothing: that is the core's work. It needs numpy alone.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, TypeAlias

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


class Code(IntEnum):
    """Operators."""

    COPY = 1
    FILL = 2
    CAST = 3
    GATHER = 4
    GATHER_ELEMENTS = 5
    SCATTER_ELEMENTS = 6
    SCATTER_ND = 7
    UNARY = 16
    BINARY = 17
    WHERE = 18
    AFFINE = 32
    MATMUL = 33
    GRU = 48
    LSTM = 49
    RNN = 50
    REDUCE = 64
    SOFTMAX = 65
    NORMALIZE = 66
    ARG = 67
    TOPK = 68
    CUMSUM = 69
    CONV = 80
    CONV_TRANSPOSE = 81
    POOL = 82


class Unary(IntEnum):
    """Functions of one element: of UNARY, and the activations of AFFINE, the convolutions and the cells."""

    IDENTITY = 0
    SIGMOID = 1
    TANH = 2
    RELU = 3
    LEAKY_RELU = 4
    ELU = 5
    HARD_SIGMOID = 6
    SOFTSIGN = 7
    SOFTPLUS = 8
    THRESHOLDED_RELU = 9
    SCALED_TANH = 10
    AFFINE = 11
    CLIP = 12
    EXP = 13
    LOG = 14
    SQRT = 15
    RECIPROCAL = 16
    NEG = 17
    ABS = 18
    FLOOR = 19
    CEIL = 20
    SIGN = 21
    ERF = 22
    SELU = 23
    GELU = 24
    GELU_TANH = 25
    HARD_SWISH = 26
    SILU = 27
    ROUND = 28
    CELU = 29
    NOT = 30
    MISH = 31
    SIN = 32
    COS = 33
    THRESHOLDED_RELU_EQ = 34


class Binary(IntEnum):
    """Functions of BINARY."""

    ADD = 0
    SUB = 1
    MUL = 2
    DIV = 3
    POW = 4
    MIN = 5
    MAX = 6
    PRELU = 7
    MOD = 8
    FMOD = 9
    EQUAL = 16
    LESS = 17
    LESS_OR_EQUAL = 18
    GREATER = 19
    GREATER_OR_EQUAL = 20
    AND = 24
    OR = 25
    XOR = 26


class Reduction(IntEnum):
    """Functions of REDUCE."""

    SUM = 0
    MEAN = 1
    MAX = 2
    MIN = 3
    PROD = 4
    L1 = 5
    L2 = 6
    SQUARES = 7
    LOG_SUM_EXP = 8


class Scatter(IntEnum):
    """What SCATTER_ELEMENTS and SCATTER_ND do to an element."""

    NONE = 0
    ADD = 1
    MUL = 2
    MAX = 3
    MIN = 4


class Pooling(IntEnum):
    """Functions of POOL."""

    MAX = 0
    AVERAGE = 1


class Extreme(IntEnum):
    """What ARG looks for."""

    MAX = 0
    MIN = 1


_CELL = "T B I H reverse x_offset x_t x_b y_offset y_t y_b h0_offset h0_b yh_offset yh_b clip"
_CONVOLUTION = "N C H W M OH OW group kh kw sh sw ph pw dh dw activation alpha beta"
# The parameters of each operator by name; LISTS follow them.
PARAMETERS: dict[Code, tuple[str, ...]] = {
    code: tuple(names.split())
    for code, names in {
        Code.COPY: "rank src_offset dst_offset",
        Code.FILL: "low high",
        Code.CAST: "",
        Code.GATHER: "outer dim inner n",
        Code.GATHER_ELEMENTS: "axis",
        Code.SCATTER_ELEMENTS: "axis reduction",
        Code.SCATTER_ND: "reduction",
        Code.UNARY: "function alpha beta",
        Code.BINARY: "function rank",
        Code.WHERE: "rank",
        Code.AFFINE: "n M K activation alpha beta",
        Code.MATMUL: "rank M N K a_row_stride b_row_stride",
        Code.GRU: f"{_CELL} linear_before_reset f f_alpha f_beta g g_alpha g_beta",
        Code.LSTM: f"{_CELL} c0_offset c0_b yc_offset yc_b input_forget f f_alpha f_beta g g_alpha g_beta "
        "h h_alpha h_beta",
        Code.RNN: f"{_CELL} f f_alpha f_beta",
        Code.REDUCE: "reduction outer n inner",
        Code.SOFTMAX: "outer n inner log",
        Code.NORMALIZE: "outer n epsilon",
        Code.ARG: "extreme outer n inner select_last",
        Code.TOPK: "outer n inner k largest sorted",
        Code.CUMSUM: "outer n inner exclusive reverse",
        Code.CONV: _CONVOLUTION,
        Code.CONV_TRANSPOSE: _CONVOLUTION,
        Code.POOL: "pooling N C H W OH OW kh kw sh sw ph pw dh dw count_include_pad pad_end_h pad_end_w",
    }.items()
}
# Dimensions and strides, `rank` words each.
LISTS: dict[Code, tuple[str, ...]] = {
    Code.COPY: ("dims", "src_strides", "dst_strides"),
    Code.BINARY: ("dims", "a_strides", "b_strides"),
    Code.WHERE: ("dims", "c_strides", "a_strides", "b_strides"),
    Code.MATMUL: ("batch", "a_strides", "b_strides"),
}
# Where parameters name functions, which are Unary, those of BINARY itself Binary.
FUNCTIONS_AT: dict[Code, tuple[int, ...]] = {
    code: tuple(i for i, name in enumerate(names) if name in ("function", "activation", "f", "g", "h"))
    for code, names in PARAMETERS.items()
}


def index_of(code: Code, parameter: str) -> int:
    """Where a parameter of an operator stands among its words."""
    return PARAMETERS[code].index(parameter)


def lists_of(code: Code, params: Sequence[int | float]) -> list[tuple[int, ...]]:
    """The lists among the words of an operator that has some."""
    rank, first = int(params[index_of(code, "rank")]), len(PARAMETERS[code])
    starts = (first + i * rank for i in range(len(LISTS[code])))
    return [tuple(int(p) for p in params[start : start + rank]) for start in starts]


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


@dataclass(frozen=True)
class Tables:
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
