"""Where a value has its time: the words that causal.py and its rules speak in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from streamgru.errors import ModelError

# What can be done with a model that looks into the future. compile.py tries the first before anybody reads it.
RUN_WHOLE = "It can run whole: streamgru.load(path, mode='whole').run(x)"
ONE_STEP = "Export one step, with its state as an input and an output"


class MayRunWholeError(ModelError):
    """What cannot stream as it is asked for. Whether it runs whole, compile.py tries and adds to the message."""


PROBES = (29, 31)  # lengths tried: two primes, so that none is an accident or a product of the other


@dataclass(frozen=True)
class Time:
    """A value with time in one of its axes: entry `(o·T + t)·inner + i` of it belongs to frame t.

    A value that was padded along time has more entries than frames: frame t is entry `before + t`, what stands before
    frame 0 is what the stream's history begins with, and nothing may read the `after` entries behind the last frame.
    Then o and i are 0, and inner is 1.
    """

    axis: int
    inner: int = 1
    before: int = 0
    after: int = 0

    @property
    def is_padded(self) -> bool:
        """Whether there are other entries than the frames."""
        return self.before != 0 or self.after != 0

    def entries(self, frames: int) -> int:
        """Of a value whose axis holds its frames and nothing else."""
        return self.before + frames * self.inner + self.after


FIXED: Literal["fixed"] = "fixed"
LAST: Literal["last"] = "last"
Place = Time | Literal["fixed", "last"]


def inner_of(short: int, long: int, lengths: tuple[int, int]) -> int | None:
    """Entries of each frame along an axis of these sizes; None where that is no whole number."""
    n, rest = divmod(short, lengths[0])
    return n if rest == 0 and n * lengths[1] == long else None
