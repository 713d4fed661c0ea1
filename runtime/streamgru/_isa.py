"""Which instruction set the kernels use: the best one, or what ``STREAMGRU_ISA`` names."""

from __future__ import annotations

import os

from ._kernel import ffi, lib
from .errors import OptionError, StreamgruError


def available_isas() -> tuple[str, ...]:
    """The instruction sets this machine can run, best first; ``ref`` is always the last."""
    names: list[str] = []
    while (name := lib.sgru_available_isa(len(names))) != ffi.NULL:
        names.append(ffi.string(name).decode())
    return tuple(names)


def isa() -> str:
    """The instruction set that new streams use."""
    return str(ffi.string(lib.sgru_isa()).decode())


def set_isa(name: str | None = None) -> None:
    """Choose the instruction set of streams made from now on; None for the best. All give the same bits.

    Raises
    ------
    StreamgruError
        This machine does not have it.
    OptionError
        It is no name.
    """
    if not isinstance(name, str | None):
        raise OptionError(f"name is one of {', '.join(available_isas())}, not {name!r:.100}")
    if lib.sgru_set_isa(name.encode(errors="replace") if name else ffi.NULL) != 0:
        raise StreamgruError(f"this machine cannot run {name!r}: it has {', '.join(available_isas())}")


if os.environ.get("STREAMGRU_ISA"):
    set_isa(os.environ["STREAMGRU_ISA"])
