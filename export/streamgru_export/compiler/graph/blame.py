"""Errors of a graph that contradicts itself. The passes take a well-formed graph for granted: where one is not,
what Python then says is no help to anyone, so it becomes a ModelError that names the node, the cause attached."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import contextmanager

from streamgru.errors import ModelError, StreamgruError

from .graph import Node

CONTRADICTIONS = (LookupError, ValueError, TypeError, AttributeError, ArithmeticError, AssertionError, struct.error)


@contextmanager
def blaming(node: Node | None = None) -> Iterator[None]:
    """What goes wrong inside is the model's fault: the `node`'s, or the graph's.

    Raises
    ------
    ModelError
        In place of any error that is not ours already.
    """
    who = "the graph" if node is None else str(node)
    try:
        yield
    except StreamgruError:
        raise
    except CONTRADICTIONS as error:
        said = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        raise ModelError(f"{who}: its inputs and attributes contradict each other ({said})") from error
    except (MemoryError, RecursionError) as error:
        raise ModelError(f"{who}: more memory or deeper nesting than there is ({type(error).__name__})") from error
