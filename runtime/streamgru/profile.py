"""Where a model's time and bytes go: its operators by kind, each timed in its place within a step.

The core reads a clock between operators (``sgru_profile``); what the reading takes is measured too, and taken off.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np

from . import layout
from ._kernel import ffi, lib
from ._status import raise_for
from ._types import Array
from .codes import Code
from .model import Model

LONGEST = 0.5  # seconds, for all steps together
STEPS = 1000
WARM_UP = 20


@dataclass(frozen=True)
class OperatorProfile:
    """All operators of one kind."""

    code: str
    count: int
    ns: float  # in a step, median
    share: float  # of the operators' time
    weights: int  # bytes of constants; what several share counts once


def profile(model: Model, seed: int = 0) -> list[OperatorProfile]:
    """What each kind of operator takes, the longest first; over half a second at most.

    Parameters
    ----------
    model : Model
    seed : int
        Of the random frame; an input of another dtype than float is zeros, a length 1.
    """
    codes, weights = _operators(model)
    times = _times(model, seed, len(codes))
    total = float(times.sum()) or 1.0
    found = []
    for code in sorted(set(codes)):
        of_kind = [i for i, c in enumerate(codes) if c == code]
        ns = float(times[of_kind].sum())
        found.append(OperatorProfile(Code(code).name, len(of_kind), ns, ns / total, sum(weights[i] for i in of_kind)))
    return sorted(found, key=lambda kind: -kind.ns)


def _times(model: Model, seed: int, count: int) -> Array:
    """Nanoseconds of each operator: medians over many steps, the clock's own taken off."""
    random = np.random.default_rng(seed)
    clock = ffi.addressof(lib, "sgru_nanoseconds")
    steps = np.zeros((STEPS, count + 1), np.uint64)
    with model.stream(block=1, nonfinite="pass") as stream:
        for tensor, x in zip(model.inputs, stream._inputs, strict=True):
            other = int(tensor.name in model.lengths.inputs)
            x[...] = random.standard_normal(x.shape) if x.dtype.kind == "f" else other
        for _ in range(WARM_UP):
            stream.step_inplace()
        done, end = 0, time.monotonic() + LONGEST
        while done < STEPS and (time.monotonic() < end or done == 0):
            ticks = ffi.from_buffer("uint64_t[]", steps[done], require_writable=True)
            raise_for(lib.sgru_profile(stream._c, clock, ticks), "profiling a step")
            done += 1
    medians = np.median(steps[:done].astype(np.float64), axis=0)
    times: Array = np.maximum(medians[:-1] - medians[-1], 0.0)
    return times


def _operators(model: Model) -> tuple[list[int], list[int]]:
    """Of each operator its code and the bytes of the constants that it is the first to read."""
    tables = layout.tables_of(model._image)
    seen: set[int] = set()
    codes, weights = [], []
    for op in tables.operators:
        own = 0
        for i in tables.words_of(op)[0]:
            tensor = tables.tensors[i] if i != layout.NONE else None
            if tensor is None or tensor["kind"] != layout.Kind.CONSTANT or int(tensor["offset"]) in seen:
                continue
            seen.add(int(tensor["offset"]))
            own += layout.stored_bytes(tensor)
        codes.append(int(op["code"]))
        weights.append(own)
    return codes, weights
