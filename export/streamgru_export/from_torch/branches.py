"""Where forward() lets Python decide by the values of a tensor: a graph would keep what the example decided.

It does not look at branches on shapes, which a graph keeps rightly, nor at the tensors of the module itself, which are
constant. A branch counts if the other answer makes forward() compute another result; if it makes it raise, it is a
check.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice

from torch import Tensor

from .dataflow import Flow, Read, watch
from .signature import FlatModule

MOST = 16  # truth values to try the other answer of; a loop may read one a frame
WRITE_BOTH = (
    "A graph has no branches of Python's, it would keep the one that the example takes. Compute both and choose with "
    "tensors: `torch.where(condition, a, b)`, or a product with a mask, such as `h * (1 - starts)`"
)
KEEP_TENSORS = (
    "The graph would keep the example's. Leave them tensors: index, compare or multiply with the tensor itself, "
    "without item(), int(), tolist() or numpy()"
)
LEAVE_OUT = (
    "What it computes does not hang on them, and a graph checks nothing: leave that out of forward(), or skip it "
    "`if torch.onnx.is_in_onnx_export()`"
)


@dataclass(frozen=True)
class Branches:
    """What forward() reads of its inputs' values."""

    deciding: tuple[Read, ...] = ()  # which change what is computed
    checks: tuple[Read, ...] = ()  # which only raise
    idle: tuple[Read, ...] = ()  # which change nothing


def find_branches(module: FlatModule, examples: Sequence[Tensor], flow: Flow) -> Branches:
    """Which of the reads in `flow` decide what is computed: found by giving each the other answer."""
    deciding: list[Read] = []
    checks: list[Read] = []
    idle: list[Read] = []
    for k, read in islice(enumerate(flow.reads), MOST):
        if read.function != "__bool__":
            deciding.append(read)
        else:
            outcome = _otherwise(module, examples, flow, k)
            kind = checks if outcome is None else deciding if outcome else idle
            kind.append(read)
    deciding += flow.reads[MOST:]
    return Branches(*(_by_place(kind) for kind in (deciding, checks, idle)))


def _by_place(reads: Sequence[Read]) -> tuple[Read, ...]:
    """The first of each line."""
    return tuple({read.place: read for read in reversed(reads)}.values())[::-1]


def _otherwise(module: FlatModule, examples: Sequence[Tensor], flow: Flow, k: int) -> bool | None:
    """Whether another result is computed where read `k` gives the other answer; None if forward() raises."""
    try:
        return watch(module, examples, {k: not flow.reads[k].answer}).origins != flow.origins
    except Exception:  # noqa: BLE001  a check may raise any exception
        return None


def explain(branches: Branches, names: Sequence[str]) -> str:
    """Where the values are read, and how to write it without; empty if they are not."""
    reads = branches.deciding or branches.checks or branches.idle
    if not reads:
        return ""
    first = reads[0]
    inputs = ", ".join(f"'{names[i]}'" for i in sorted(first.inputs))
    others = "".join(f"; so does {read.place}" for read in reads[1:3])
    if not branches.deciding:
        return f"forward() looks at values of {inputs} in {first.place}{others}. {LEAVE_OUT}"
    if first.function == "__bool__":
        return f"forward() branches on values of {inputs} in {first.place}{others}. {WRITE_BOTH}"
    return f"forward() makes numbers of Python's of values of {inputs} in {first.place}{others}. {KEEP_TENSORS}"
