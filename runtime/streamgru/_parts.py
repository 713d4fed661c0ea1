"""A run of many frames in parts, so that Python handles signals between them. The bits do not depend on them."""

from __future__ import annotations

from time import perf_counter

from ._kernel import lib
from ._types import CData

SECONDS = 0.01  # of a part, as long as nothing else keeps the processor
GROWTH = 8  # of a part over the one before, while it is not known how long a frame takes


class Parts:
    """How many frames a part of a stream's runs has: learned from those that were run.

    Attributes
    ----------
    frames : int
    """

    def __init__(self, frames: int) -> None:
        self.frames = frames

    def run(self, c: CData, frames: int, inputs: CData, outputs: CData) -> int:
        """The status of a run. Where it fails or anything is raised the state is what it was."""
        run, undo, first, end = lib.sgru_run_part, lib.sgru_undo, 0, min(self.frames, frames)
        before = perf_counter() if end < frames else 0.0
        status: int
        try:  # nothing is called in here before the part that keeps the state
            while True:
                status = run(c, first, end, inputs, outputs)
                if status or end == frames:
                    return status
                before = self.fit(end - first, before)
                first, end = end, min(end + self.frames, frames)
        except BaseException:
            undo(c)
            raise

    def fit(self, frames: int, before: float) -> float:
        """Learn from a part of so many frames, begun then; the time that it is."""
        now = perf_counter()
        fitting = int(frames * SECONDS / max(now - before, 1e-9))
        self.frames = max(1, min(GROWTH * frames, fitting))
        return now
