"""The exceptions streamgru raises: one small tree, every message says what, where, and what to do.

A caller who catches :class:`StreamgruError` catches them all.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

from ._printable import printable


@dataclass(frozen=True)
class Obstacle:
    """Why a model cannot stream: the node, what it does, and what can be done."""

    node: str
    reason: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.node}: {self.reason}"


class StreamgruError(Exception):
    """Base of every error streamgru raises on purpose. Its text is safe to print, whatever a model's names are."""

    _keeps = ""  # of what does not print; line ends where the text quotes another library

    def __str__(self) -> str:
        return printable(super().__str__(), keep=self._keeps)


class ModelError(StreamgruError):
    """A model cannot be read, compiled or streamed; the message names the node."""


class ImageError(ModelError):
    """A ``.sgru`` image is truncated, altered, of another version, or not an image."""


class CannotStreamError(ModelError):
    """A model looks into the future: it cannot run one frame at a time. It may still run whole.

    Attributes
    ----------
    obstacles : tuple of Obstacle
        What keeps it from streaming, one for each node that does by itself.
    """

    def __init__(self, obstacles: Sequence[Obstacle]) -> None:
        self.obstacles = tuple(obstacles)
        first = self.obstacles[0]
        super().__init__(f"this model cannot stream: {first.node}: {first.reason}. {first.remedy}")


class FaultError(StreamgruError):
    """A fault of streamgru, not of the model: please report it. The message names the node, the cause is attached."""


class OptionError(StreamgruError, ValueError, TypeError):
    """An option that there is not, or a value that it cannot have."""

    _keeps = "\n"


class ShapeError(StreamgruError, ValueError):
    """An array has the wrong shape, dtype or memory layout."""


class DataError(StreamgruError, ValueError):
    """A file of frames or of sound that is none, or that does not fit the model."""


class FileError(StreamgruError, OSError):
    """A file that cannot be read or written: it is missing, closed to us, too long, no regular file; the disk is full.

    Attributes
    ----------
    errno : int or None
    filename : str
    """

    def __init__(self, message: str, number: int | None, path: str | os.PathLike[str]) -> None:
        super().__init__(message)
        self.message, self.errno, self.filename = message, number, os.fspath(path)

    def __str__(self) -> str:
        return printable(self.message)  # OSError's own would put the number and the name beside it

    def __reduce__(self) -> tuple[type[FileError], tuple[str, int | None, str]]:
        return type(self), (self.message, self.errno, self.filename)


class StateError(StreamgruError):
    """A saved state does not fit, or a closed stream was used."""


class SlotError(StreamgruError, LookupError):
    """A slot of a pool that is not open, of another pool, or named twice in a step; or no slot is free."""


class ConcurrencyError(StreamgruError, RuntimeError):
    """Another call is in progress on the same stream or pool, or was when the process was forked. Nothing was done."""


class NonFiniteError(StreamgruError, ArithmeticError):
    """A NaN or an infinity in a frame, or one that arose in the state. The state is as it was."""


class ExportError(StreamgruError):
    """A PyTorch module cannot be exported faithfully."""

    _keeps = "\n"


class ParityError(StreamgruError, AssertionError):
    """A parity check did not hold, or proved nothing.

    Attributes
    ----------
    verdict : str
        "does not hold", "partial" or "not proved"; empty where it was not about a verdict.
    """

    def __init__(self, message: str, verdict: str = "") -> None:
        super().__init__(message)
        self.verdict = verdict
