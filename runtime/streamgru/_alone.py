"""One call at a time. Who finds another in progress gets a ConcurrencyError, and nothing has happened.

Whoever takes the turn puts None in its place and gives it back at the end. Taking is one assignment: CPython hands its
lock on, and lets signals in, at calls and backward jumps, and there is none in it. The core has a flag of its own
(claim.h) for those who come from C.

Threads are not in a child of `fork`. What one of them was in the middle of then stays half done there: it can be closed
and dropped, no more.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from copy import deepcopy
from functools import wraps
from typing import Any, Concatenate, Generic, NoReturn, ParamSpec, Self, TypeVar
from weakref import ref

from .errors import ConcurrencyError

T = TypeVar("T")
P = ParamSpec("P")
R = TypeVar("R")
A = TypeVar("A", bound="Alone[Any]")


class Alone(Generic[T]):
    """What serves one call at a time. The turn is whatever a call needs."""

    _turn: T | None = None
    _is_orphan = False  # a thread of the parent was in it when this process was forked

    def __new__(cls, *_: object, **__: object) -> Self:
        self = super().__new__(cls)
        _all.add(ref(self, _all.discard))
        return self

    def __copy__(self) -> Self:
        """Not a second hand on the same streams."""
        return deepcopy(self)

    def __getstate__(self) -> dict[str, object]:
        turn, self._turn = self._turn, None
        if turn is None:
            self._refuse_second()
        try:
            return {**vars(self), "_turn": turn}
        finally:
            self._turn = turn

    def _refuse_second(self) -> NoReturn:
        kind = type(self).__name__
        if self._is_orphan:
            raise ConcurrencyError(
                f"another thread was in this {kind} when the process was forked: its copy is half done; open another"
            )
        raise ConcurrencyError(
            f"another call is in progress on this {kind}: one thread at a time; wait for it, or open another"
        )


def alone(method: Callable[Concatenate[A, P], R]) -> Callable[Concatenate[A, P], R]:
    """The method, with the turn taken."""

    @wraps(method)
    def call(self: A, /, *args: P.args, **options: P.kwargs) -> R:
        turn, self._turn = self._turn, None
        if turn is None:
            self._refuse_second()
        try:
            return method(self, *args, **options)
        finally:
            self._turn = turn

    return call


def to_the_end(method: Callable[[A], None]) -> Callable[[A], None]:
    """The same for a method that closes: an orphan may be closed."""
    closes = alone(method)

    @wraps(method)
    def call(self: A, /) -> None:
        (method if self._is_orphan else closes)(self)

    return call


# No WeakSet: it forgets in Python, where a signal may arrive, and what its handler raises is lost.
_all: set[ref[Alone[Any]]] = set()


def _in_child() -> None:
    for each in _all.copy():
        if (one := each()) is not None:
            one._is_orphan = one._turn is None or one._is_orphan


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_child)
