"""The results of a step, and the call of the core that fills them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from ._kernel import ffi
from ._types import Array, CData
from .tensors import TensorInfo


@dataclass(slots=True)
class Call:
    """The results of one step, and the call that fills them."""

    c: CData  # sgru_call *
    pointers: CData  # void *[], to the arrays
    outputs: Sequence[TensorInfo]
    arrays: list[Array] = field(default_factory=list)
    by_name: dict[str, Array] = field(default_factory=dict)

    def renew(self) -> None:
        """New arrays in place of those that somebody holds. Each owns its memory, so a view of it holds it too."""
        self.arrays[:] = [np.empty(t.shape, t.dtype) for t in self.outputs]
        for i, (t, y) in enumerate(zip(self.outputs, self.arrays, strict=True)):
            self.pointers[i] = ffi.from_buffer(y)
            self.by_name[t.name] = y


def new_call(stream: CData, inputs: CData, outputs: Sequence[TensorInfo]) -> Call:
    """A step of `stream` from what `inputs` point to into arrays of its own."""
    pointers = ffi.new("void *[]", len(outputs))
    call = Call(ffi.new("sgru_call *", [stream, inputs, pointers]), pointers, outputs)
    call.renew()
    return call
