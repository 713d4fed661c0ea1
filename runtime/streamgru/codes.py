"""The operators of a ``.sgru`` image by their numbers: their codes, functions and parameters.

With layout.py, which tells how an image lies, the only place in Python that knows; docs/format.md is the description,
c_src/ops/table.c and c_src/kernels/kernels.h are the core's. Apart from layout.py because whoever runs an image needs
none of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum


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
