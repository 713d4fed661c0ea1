"""From the core's status codes to exceptions, and aligned memory for it."""

from __future__ import annotations

from typing import Any

import numpy as np

from ._kernel import ffi, lib
from ._types import CData
from .errors import ConcurrencyError, ImageError, ModelError, NonFiniteError, ShapeError, StateError, StreamgruError

EXCEPTIONS: dict[int, type[StreamgruError]] = {
    lib.SGRU_E_FORMAT: ImageError,
    lib.SGRU_E_VERSION: ImageError,
    lib.SGRU_E_CHECKSUM: ImageError,
    lib.SGRU_E_OPERATOR: ModelError,
    lib.SGRU_E_NONFINITE: NonFiniteError,
    lib.SGRU_E_INDEX: ShapeError,
    lib.SGRU_E_STATE: StateError,
    lib.SGRU_E_BUSY: ConcurrencyError,
}


def raise_for(status: int, where: str) -> None:
    """Raise what a status means; ``where`` says what was being done."""
    if status != lib.SGRU_OK:
        text = ffi.string(lib.sgru_strerror(status)).decode()
        raise EXCEPTIONS.get(status, StreamgruError)(f"{where}: {text}")


def saved_state(state: object) -> CData:
    """The memory of a saved state. StateError where it is no bytes."""
    try:
        return ffi.from_buffer(state)
    except (TypeError, ValueError, BufferError):
        raise StateError(f"a saved state is the bytes that save() gave, not {type(state).__name__}") from None


def aligned(size: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """``size`` zeroed bytes on a 64-byte boundary."""
    raw = np.zeros(size + 64, np.uint8)
    start = -raw.ctypes.data % 64
    return raw[start : start + size]
