"""An opened image: the core's handle, what goes in, what comes out, what it keeps. Shared by any number of streams and
threads, never written again. It streams nothing: model.py does.
"""

from __future__ import annotations

import json
import mmap
import os
from collections.abc import Callable
from typing import Any, Self, TypeVar

import numpy as np
import numpy.typing as npt

from ._disk import write_bytes
from ._kernel import ffi, lib
from ._options import as_path, whole_number
from ._status import aligned, raise_for
from ._threads import checked_threads, most_threads
from ._types import Json
from .bound import are_bound
from .errors import ImageError, ModelError
from .layout import ALIGN, Dtype, header_of
from .lengths import lengths_of
from .tensors import FRAME_DTYPES, TensorInfo

MAX_OPS = 10_000_000_000  # of a step, where nobody says otherwise: seconds at most
UNLIMITED = 2**64 - 1


def checked_ops(max_ops: object) -> int:
    """The largest number of operations, None for any. OptionError where it is no whole number of 64 bits."""
    return UNLIMITED if max_ops is None else whole_number("max_ops", max_ops, 0, UNLIMITED)


class Image:
    """An image in memory, checked and ready.

    Attributes
    ----------
    inputs, outputs, states : tuple of TensorInfo
    lengths : Lengths
        Which inputs say how long sequences are; mostly none.
    metadata : dict
        Where the model came from: ``source``, ``sha256``, ``producer``, ``kind``, ``time_axis``, ``notes``,
        ``weights``. Where they were given to the export also ``sample_rate`` in hertz, ``labels``, ``normalisation``;
        all else in ``meta``.
    """

    def __init__(
        self,
        image: bytes | mmap.mmap | npt.NDArray[np.uint8],
        name: str = "the image",
        *,
        threads: int = 1,
        max_ops: int | None = MAX_OPS,
    ) -> None:
        """Open an image held in memory; it is copied where it can be written or does not lie on a 64-byte boundary.

        ``name`` is what error messages call it; ``threads`` is for streams and pools that are not told themselves;
        ``max_ops`` is how many operations a step may take (:attr:`ops`), None for any number.

        Raises
        ------
        ImageError
            Not an image, truncated, altered, or of another version.
        ModelError
            An operator that this release does not have, or a step takes more than `max_ops`.
        OptionError
            `threads` or `max_ops` cannot be that.
        """
        try:
            memory: npt.NDArray[np.uint8] = np.frombuffer(image, np.uint8)
        except (TypeError, ValueError, BufferError):
            raise ImageError(f"{name}: the bytes of an image were expected, not {type(image).__name__}") from None
        if len(memory) == 0:
            raise ImageError(f"{name}: an empty file is not a .sgru image: compile the model again")
        if memory.ctypes.data % ALIGN or memory.flags.writeable:
            memory = aligned(len(memory))
            memory[:] = np.frombuffer(image, np.uint8)
        self._image = memory
        self.threads = checked_threads(threads)
        self._buffer = ffi.from_buffer(memory)
        self._c = ffi.new("sgru_model *")
        self._max_ops = checked_ops(max_ops)
        status = self._open(self._max_ops)
        if status == lib.SGRU_E_WORK and self._open(UNLIMITED) == lib.SGRU_OK:
            raise ModelError(
                f"{name}: a step takes more than {self._max_ops:,} operations: give a larger max_ops= where you trust "
                "the model"
            )
        if status == lib.SGRU_E_WORK:
            raise ModelError(
                f"{name}: a step reads and writes too much to be checked: make its tensors smaller, or run fewer "
                "frames, or a smaller batch, at once"
            )
        raise_for(status, name)
        self.metadata: Json = _metadata(memory, name)
        self.inputs = self._tensors(lib.SGRU_INPUT, self._c.n_inputs)
        self.outputs = self._tensors(lib.SGRU_OUTPUT, self._c.n_outputs)
        self.states = self._tensors(lib.SGRU_STATE, self._c.n_states)
        self.lengths = lengths_of(self.metadata, self.inputs, self.states, name)

    def _open(self, most: int) -> int:
        status: int = lib.sgru_model_open_within(self._c, self._buffer, len(self._image), most)
        return status

    def _tensors(self, kind: int, count: int) -> tuple[TensorInfo, ...]:
        axes = self.metadata.get("time_axis") or {}
        batch = self.metadata.get("batch_axis") or {}
        pairs = {s["name"]: (s.get("input"), s.get("output")) for s in self.metadata.get("states") or []}
        info = ffi.new("sgru_tensor_info *")
        found = []
        for i in range(count):
            raise_for(lib.sgru_tensor(self._c, kind, i, info), "reading the image")
            name = ffi.string(info.name).decode("utf-8", "replace")
            if info.dtype not in FRAME_DTYPES:
                raise ImageError(f"tensor {name!r} has a dtype that frames cannot have")
            if max(axes.get(name) or 0, batch.get(name) or 0) > info.rank:
                raise ImageError(f"tensor {name!r} has no such axis as the JSON block says")
            source = pairs.get(name) if kind == lib.SGRU_STATE else None
            found.append(
                TensorInfo(
                    name,
                    tuple(info.shape[0 : info.rank]),
                    Dtype(info.dtype).numpy,
                    axes.get(name),
                    source if source and all(source) else None,
                    batch.get(name),
                )
            )
        return tuple(found)

    @property
    def image(self) -> bytes:
        """The bytes of the ``.sgru`` file."""
        return self._image.tobytes()

    def __copy__(self) -> Self:
        """Itself, for nothing in it ever changes."""
        return self

    def __deepcopy__(self, memo: object) -> Self:
        return self

    def __reduce__(self) -> tuple[Callable[..., Self], tuple[object, ...]]:
        """Pickles as its image. What may be opened here may be opened there."""
        return _revived, (type(self), self.image, self.threads, self._max_ops)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the image: whoever reads `path`, whatever happens, finds the old file or the new one, whole.

        Raises
        ------
        FileError
            It cannot be written there.
        """
        write_bytes(as_path("path", path), self._image.data)

    @property
    def sizes(self) -> dict[str, int]:
        """Bytes: of the image; of a stream and, in it, its state, one frame's arena and scratch memory; of each further
        slot of a pool; of a saved state."""
        c = self._c
        pools = [lib.sgru_pool_size(c, capacity, 1, 1) for capacity in (1, 1025)]
        return {
            "image": c.image_size,
            "state": c.state_size,
            "arena": c.arena_size,
            "scratch": c.scratch_size,
            "stream": lib.sgru_stream_size(c, 1),
            "slot": (pools[1] - pools[0]) // 1024,
            "saved_state": lib.sgru_save_size(c),
        }

    @property
    def ops(self) -> int:
        """Operations that a step takes, counted from the shapes: multiply-adds and what is computed for each element,
        whole vectors and calls of kernels included, rather too many than too few."""
        return int(lib.sgru_model_ops(self._c))

    def __repr__(self) -> str:
        names = [", ".join(map(str, part)) or "none" for part in (self.inputs, self.outputs, self.states)]
        return f"<streamgru.{type(self).__name__} " + "inputs: {}; outputs: {}; states: {}>".format(*names)


I = TypeVar("I", bound=Image)  # noqa: E741 - of images


def _revived(cls: type[I], image: bytes, threads: int, max_ops: int) -> I:
    """A pickled model, on no more threads than this machine has."""
    return cls(image, "the pickled model", threads=min(threads, most_threads()), max_ops=max_ops)


def _metadata(image: npt.NDArray[np.uint8], name: str) -> Json:
    """The JSON block of an image that the core has found whole."""
    header = header_of(image)
    at, size = int(header["json"]), int(header["json_size"])
    try:
        block = json.loads(image[at : at + size].tobytes() or b"{}")
    except (ValueError, RecursionError) as error:
        raise ImageError(f"{name}: the JSON block cannot be read: {error}") from error
    if not isinstance(block, dict):
        raise ImageError(f"{name}: the JSON block is no object")
    for key, fits in (
        ("time_axis", _are_axes),
        ("batch_axis", _are_axes),
        ("states", _are_states),
        ("bound", are_bound),
        *TEXTS,
    ):
        if block.get(key) is not None and not fits(block[key]):
            raise ImageError(f"{name}: {key!r} in the JSON block is not what docs/format.md says")
    return block


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _are_axes(value: Any) -> bool:
    return isinstance(value, dict) and all(v is None or (type(v) is int and v >= 0) for v in value.values())


def _are_states(value: Any) -> bool:
    return isinstance(value, list) and all(
        isinstance(s, dict)
        and isinstance(s.get("name"), str)
        and all(s.get(key) is None or isinstance(s[key], str) for key in ("input", "output"))
        for s in value
    )


TEXTS = tuple((key, _is_text) for key in ("source", "sha256", "producer", "kind", "weights"))
