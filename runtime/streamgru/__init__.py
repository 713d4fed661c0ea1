"""Streaming inference of GRU models on CPUs: the same float bits on every machine.

>>> import streamgru
>>> model = streamgru.load("model.onnx")
>>> stream = model.stream()
>>> y = stream.step(x)

Importing this package needs numpy and cffi only. Reading ``.onnx`` needs the ``onnx`` package; :func:`export` needs
torch; :func:`parity` uses what is installed and says what is missing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from . import _workshop
from ._isa import available_isas, isa, set_isa
from .errors import (
    CannotStreamError,
    ConcurrencyError,
    DataError,
    ExportError,
    FaultError,
    FileError,
    ImageError,
    ModelError,
    NonFiniteError,
    Obstacle,
    OptionError,
    ParityError,
    ShapeError,
    SlotError,
    StateError,
    StreamgruError,
)
from .model import Model, load
from .notes import Note
from .pool import Pool
from .stream import Stream
from .tensors import TensorInfo

if TYPE_CHECKING:
    from ._workshop import (
        Compiled,
        ExportResult,
        InferenceSession,
        NodeArg,
        ParityReport,
        WholeModel,
        compile,
        export,
        parity,
    )

__version__ = "0.1.0"

__all__ = [
    "CannotStreamError",
    "Compiled",
    "ConcurrencyError",
    "DataError",
    "ExportError",
    "ExportResult",
    "FaultError",
    "FileError",
    "ImageError",
    "InferenceSession",
    "Model",
    "ModelError",
    "NodeArg",
    "NonFiniteError",
    "Note",
    "Obstacle",
    "OptionError",
    "ParityError",
    "ParityReport",
    "Pool",
    "ShapeError",
    "SlotError",
    "StateError",
    "Stream",
    "StreamgruError",
    "TensorInfo",
    "WholeModel",
    "available_isas",
    "compile",
    "export",
    "isa",
    "load",
    "parity",
    "set_isa",
]


def __getattr__(name: str) -> Any:
    """What lives in the workshop, loaded at first use, so that this package needs none of it."""
    if name in _workshop.HOME:
        globals()[name] = _workshop.public(name)
        return globals()[name]
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
