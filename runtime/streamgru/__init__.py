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

from ._isa import available_isas, isa, set_isa
from .errors import (
    ExportError,
    ImageError,
    ModelError,
    NonFiniteError,
    ParityError,
    ShapeError,
    SlotError,
    StateError,
    StreamgruError,
)
from .model import Model, TensorInfo, load
from .pool import Pool
from .session import InferenceSession
from .stream import Stream
from .whole import NodeArg, WholeModel

if TYPE_CHECKING:
    from ._parity import ParityReport, parity

__version__ = "0.1.0"

__all__ = [
    "ExportError",
    "ImageError",
    "InferenceSession",
    "Model",
    "ModelError",
    "NodeArg",
    "NonFiniteError",
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
    "export",
    "isa",
    "load",
    "parity",
    "set_isa",
]


def export(module: Any, example: Any, path: Any, **options: Any) -> Any:
    """Export a PyTorch module to ONNX that streams: :func:`streamgru_export.export`, which needs torch."""
    from streamgru_export import export as export_module

    return export_module(module, example, path, **options)


def __getattr__(name: str) -> Any:
    """``parity`` and its report, loaded at first use."""
    if name in ("parity", "ParityReport"):
        from importlib import import_module

        module = import_module("._parity", __name__)
        globals().update(parity=module.parity, ParityReport=module.ParityReport)
        return globals()[name]
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
