"""The exceptions streamgru raises: one small tree, every message says what, where, and what to do.

A caller who catches :class:`StreamgruError` catches them all.
"""


class StreamgruError(Exception):
    """Base of every error streamgru raises on purpose."""


class ModelError(StreamgruError):
    """A model cannot be read, compiled or streamed; the message names the node."""


class ImageError(ModelError):
    """A ``.sgru`` image is truncated, altered, of another version, or not an image."""


class ShapeError(StreamgruError, ValueError):
    """An array has the wrong shape, dtype or memory layout."""


class StateError(StreamgruError):
    """A saved state does not fit, or a closed stream was used."""


class SlotError(StreamgruError, LookupError):
    """A slot of a pool that is not open, of another pool, or named twice in a step; or no slot is free."""


class NonFiniteError(StreamgruError, ArithmeticError):
    """A NaN or an infinity in a frame, or one that arose in the state. The state is as it was."""


class ExportError(StreamgruError):
    """A PyTorch module cannot be exported faithfully."""


class ParityError(StreamgruError, AssertionError):
    """A parity check did not hold."""
