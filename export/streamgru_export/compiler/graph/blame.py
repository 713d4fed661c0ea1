"""Whose fault an error is. What a check finds in a model is the model's: a ModelError. An error of Python's own is
ours: the passes took for granted what nobody had checked, or a line of theirs is wrong."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from streamgru.errors import FaultError, ModelError, StreamgruError

from .graph import Node

STRICT = "STREAMGRU_STRICT"  # environment: "1" lets Python's own errors through, for tests and fuzzers


@contextmanager
def blaming(node: Node | None = None) -> Iterator[None]:
    """What goes wrong inside happens at the `node`, or at the graph as a whole.

    Raises
    ------
    FaultError
        In place of an error of Python's own, with that as its cause. Where STREAMGRU_STRICT=1 is set, the error itself,
        with a note that names the node. Errors of the system and missing packages are neither's fault, and pass.
    ModelError
        There is not enough memory for it, or it is nested too deeply.
    """
    who = "the graph" if node is None else str(node)
    try:
        yield
    except (StreamgruError, OSError, ImportError):
        raise
    except (MemoryError, RecursionError) as error:
        raise ModelError(f"{who}: more memory or deeper nesting than there is ({type(error).__name__})") from error
    except Exception as error:
        if os.environ.get(STRICT) == "1":
            if not hasattr(error, "__notes__"):
                error.add_note(f"at {who}")
            raise
        said = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        raise FaultError(f"a fault of streamgru at {who} ({said}): please report it with the model") from error
