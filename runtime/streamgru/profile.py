"""Where a model's time and bytes go: its operators by kind, each timed in its place within a step.

The core reads a clock between operators (``sgru_profile``); what the reading takes is measured too, and taken off.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ._kernel import ffi, lib
from ._status import raise_for
from .model import Model

LONGEST = 0.5  # seconds, for all steps together
STEPS = 1000
WARM_UP = 20

# docs/format.md: the records, the operators' codes and the sizes of elements.
_HEADER = np.dtype([("head", "V32"), ("counts", "<u4", 8), ("offsets", "<u8", 8)])
_TENSOR = np.dtype(
    [
        *((name, "u1") for name in ("dtype", "kind", "rank", "layout")),
        *(("name", "<u4"), ("offset", "<u8"), ("dims", "<u4", 8), ("reset", "<u4"), ("zero", "V12")),
    ]
)
_OPERATOR = np.dtype([("counts", "<u2", 4), ("first", "<u4"), ("name", "<u4"), ("zero", "V16")])
CODES = {
    1: "COPY", 2: "FILL", 3: "CAST", 4: "GATHER", 5: "GATHER_ELEMENTS", 6: "SCATTER_ELEMENTS", 7: "SCATTER_ND",
    16: "UNARY", 17: "BINARY", 18: "WHERE", 32: "AFFINE", 33: "MATMUL", 48: "GRU", 49: "LSTM", 50: "RNN",
    64: "REDUCE", 65: "SOFTMAX", 66: "NORMALIZE", 67: "ARG", 68: "TOPK", 69: "CUMSUM", 80: "CONV",
    81: "CONV_TRANSPOSE", 82: "POOL",
}  # fmt: skip
_BYTES = {1: 4, 2: 8, 3: 4, 4: 1, 5: 2, 6: 1}
_I8 = 6


@dataclass(frozen=True)
class Kind:
    """All operators of one kind."""

    code: str
    count: int
    ns: float  # in a step, median
    share: float  # of the operators' time
    weights: int  # bytes of constants; what several share counts once


def profile(model: Model, seed: int = 0) -> list[Kind]:
    """What each kind of operator takes, the longest first; over half a second at most.

    Parameters
    ----------
    model : Model
    seed : int
        Of the random frame; an input of another dtype than float is zeros.
    """
    codes, weights = _operators(model)
    times = _times(model, seed, len(codes))
    total = float(times.sum()) or 1.0
    found = []
    for code in sorted(set(codes)):
        of_kind = [i for i, c in enumerate(codes) if c == code]
        ns = float(times[of_kind].sum())
        found.append(Kind(CODES[code], len(of_kind), ns, ns / total, sum(weights[i] for i in of_kind)))
    return sorted(found, key=lambda kind: -kind.ns)


def _times(model: Model, seed: int, count: int) -> NDArray[Any]:
    """Nanoseconds of each operator: medians over many steps, the clock's own taken off."""
    random = np.random.default_rng(seed)
    clock = ffi.addressof(lib, "sgru_nanoseconds")
    steps = np.zeros((STEPS, count + 1), np.uint64)
    with model.stream(block=1, nonfinite="pass") as stream:
        for x in stream._inputs:
            x[...] = random.standard_normal(x.shape) if x.dtype.kind == "f" else 0
        for _ in range(WARM_UP):
            stream.step_inplace()
        done, end = 0, time.monotonic() + LONGEST
        while done < STEPS and (time.monotonic() < end or done == 0):
            ticks = ffi.from_buffer("uint64_t[]", steps[done], require_writable=True)
            raise_for(lib.sgru_profile(stream._c, clock, ticks), "profiling a step")
            done += 1
    medians = np.median(steps[:done].astype(np.float64), axis=0)
    times: NDArray[Any] = np.maximum(medians[:-1] - medians[-1], 0.0)
    return times


def _operators(model: Model) -> tuple[list[int], list[int]]:
    """Of each operator its code and the bytes of the constants that it is the first to read."""
    image = model._image
    header = image[: _HEADER.itemsize].view(_HEADER)[0]
    n_tensors, n_ops, n_words = (int(n) for n in header["counts"][:3])
    at_tensors, at_ops, at_words = (int(n) for n in header["offsets"][:3])
    tensors = image[at_tensors : at_tensors + n_tensors * _TENSOR.itemsize].view(_TENSOR)
    operators = image[at_ops : at_ops + n_ops * _OPERATOR.itemsize].view(_OPERATOR)
    words = image[at_words : at_words + 4 * n_words].view("<u4")
    seen: set[int] = set()
    codes, weights = [], []
    for op in operators:
        code, n_in = (int(n) for n in op["counts"][:2])
        own = 0
        for i in words[int(op["first"]) : int(op["first"]) + n_in]:
            if i < n_tensors and tensors[i]["kind"] == 0 and (offset := int(tensors[i]["offset"])) not in seen:
                seen.add(offset)
                own += _stored(tensors[i])
        codes.append(code)
        weights.append(own)
    return codes, weights


def _stored(tensor: Any) -> int:
    """Bytes of a constant; docs/format.md says how packed rows lie."""
    dims = [int(d) for d in tensor["dims"][: int(tensor["rank"])]]
    if tensor["layout"] == 0:
        return int(np.prod(dims, dtype=np.int64)) * _BYTES[int(tensor["dtype"])]
    rows, columns = dims
    if tensor["dtype"] == _I8:
        return -(-rows // 16) * 64 * (-(-columns // 4) + 2 | 1)
    return (rows // 16 * 16 * (columns | 1) + -(-(rows % 16) // 4) * 4 * columns) * _BYTES[int(tensor["dtype"])]
