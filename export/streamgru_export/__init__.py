"""The workshop of streamgru: PyTorch to ONNX, ONNX to image, and the proofs.

Nothing here is needed to run an image. :func:`compile` needs ``onnx``; :func:`export` needs torch as well.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .compiler.compile import Compiled, compile
    from .from_torch.export import ExportResult, export

__all__ = ["Compiled", "ExportResult", "compile", "export"]

_HOME = {
    "compile": ".compiler.compile",
    "Compiled": ".compiler.compile",
    "export": ".from_torch.export",
    "ExportResult": ".from_torch.export",
}


def __getattr__(name: str) -> Any:
    """Load the module of a public name at its first use, so that none costs what it does not need."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOME[name], __name__), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
