"""Threads that take part in a step; the stream or pool that starts them owns them."""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable

from ._kernel import ffi, lib
from ._options import whole_number
from ._status import aligned
from ._types import CData
from .errors import StreamgruError


def processors() -> int:
    """How many this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def checked_threads(n: object) -> int:
    """The number of threads. OptionError: fewer than one, or more than there are processors."""
    return whole_number("threads", n, 1, most_threads(), ", the processors that this process may use")


def most_threads() -> int:
    """How many may share a step here."""
    return min(processors(), int(lib.SGRU_MOST_THREADS))


class Threads:
    """A team of `n` threads, the caller's included; they end when this object does.

    In a child of `fork` the first step that they share starts them anew.

    Attributes
    ----------
    n : int
    workers : sgru_workers *, NULL for a team of one
    """

    def __init__(self, n: int) -> None:
        """OptionError: fewer than one, or more than there are processors; StreamgruError: the system gives none."""
        self.n = n = checked_threads(n)
        self.workers: CData = ffi.NULL
        self._end: Callable[[], object] = int  # nothing
        if n == 1:
            return
        memory = aligned(lib.sgru_threads_size(n))
        threads = lib.sgru_threads_start(ffi.from_buffer(memory), len(memory), n)
        if threads == ffi.NULL:
            raise StreamgruError(f"the system refused to start {n - 1} more threads: use fewer, or threads=1")
        self.workers = lib.sgru_threads_workers(threads)
        self._memory = memory  # a daemon thread's step may outlive their end, when Python itself ends
        self._end = weakref.finalize(self, _stop, threads, memory)

    def stop(self) -> None:
        """End them; no step may follow. Twice is fine."""
        self._end()


def _stop(threads: CData, memory: object) -> None:
    """The memory is held until here."""
    lib.sgru_threads_stop(threads)
