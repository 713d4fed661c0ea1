"""The one door from the edge package to the workshop, `streamgru_export`, which may not be installed.

No other module of streamgru names it. What needs a package that is missing says which, and how to get it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

from .errors import ModelError

if TYPE_CHECKING:
    from streamgru_export.compiler.compile import Compiled as Compiled
    from streamgru_export.compiler.compile import compile as compile
    from streamgru_export.from_torch.export import ExportResult as ExportResult
    from streamgru_export.from_torch.export import export as export
    from streamgru_export.parity.check import parity as parity
    from streamgru_export.parity.report import ParityReport as ParityReport
    from streamgru_export.whole.graph import NodeArg as NodeArg
    from streamgru_export.whole.model import WholeModel as WholeModel
    from streamgru_export.whole.session import InferenceSession as InferenceSession

# Public names of streamgru that live in the workshop -> their modules there.
HOME = {
    "Compiled": "compiler.compile",
    "compile": "compiler.compile",
    "ExportResult": "from_torch.export",
    "export": "from_torch.export",
    "parity": "parity.check",
    "ParityReport": "parity.report",
    "NodeArg": "whole.graph",
    "WholeModel": "whole.model",
    "InferenceSession": "whole.session",
}
READING = "reading ONNX"
PURPOSES = dict.fromkeys(("compile", "Compiled", "InferenceSession", "WholeModel", "NodeArg"), READING)
WORKSHOP = "streamgru_export"
# What `pip install 'streamgru[export]'` brings.
EXTRA = {"torch", "onnx", "onnx_ir", "onnxscript", "onnxruntime", "tqdm", "rich", "matplotlib", WORKSHOP}


def workshop(module: str, purpose: str) -> ModuleType:
    """A module of the workshop.

    Parameters
    ----------
    module : str
        Its dotted name inside of `streamgru_export`.
    purpose : str
        What it is needed for, as a message begins: "net.onnx: reading ONNX".

    Raises
    ------
    ModelError
        A package that it needs is not installed; the message says how to get it.
    """
    with needs_packages(purpose):
        return import_module(f"{WORKSHOP}.{module}")


@contextmanager
def needs_packages(purpose: str) -> Iterator[None]:
    """Where a package of the workshop is missing inside, the error says what to do."""
    try:
        yield
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package not in EXTRA:
            raise
        extra = "onnx" if package == "onnx" else "export"
        elsewhere = "; or compile the model elsewhere (`streamgru compile`) and load the .sgru here"
        raise ModelError(
            f"{purpose} needs the package {package!r}: pip install 'streamgru[{extra}]'"
            f"{elsewhere if purpose.endswith(READING) else ''}"
        ) from error


def public(name: str) -> Any:
    """What the workshop calls by a public name of streamgru."""
    return getattr(workshop(HOME[name], f"streamgru.{name}: {PURPOSES.get(name, 'it')}"), name)
