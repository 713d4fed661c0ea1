"""A model: an opened image, shared by any number of streams and threads, never written again."""

from __future__ import annotations

import json
import mmap
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, overload

import numpy as np
import numpy.typing as npt

from ._kernel import ffi, lib
from ._status import aligned, needs_onnx, raise_for
from .errors import ImageError, ModelError

if TYPE_CHECKING:
    from .pool import Pool
    from .stream import Frames, Stream
    from .whole import WholeModel

DTYPES: dict[int, np.dtype[Any]] = {
    lib.SGRU_F32: np.dtype(np.float32),
    lib.SGRU_I64: np.dtype(np.int64),
    lib.SGRU_I32: np.dtype(np.int32),
    lib.SGRU_BOOL: np.dtype(np.bool_),
}
BLOCK_BYTES = 256 * 1024  # a block's intermediate values should stay in the cache
MOST_BLOCK = 16
HEADER_BYTES = 128


@dataclass(frozen=True)
class TensorInfo:
    """An input, an output or a state, as one frame sees it.

    Attributes
    ----------
    name : str
    shape : tuple of int
        Of one frame: the ONNX shape without the time axis.
    dtype : numpy.dtype
    time_axis : int or None
        Where the time axis stands in the ONNX shape; None where there is none.
    batch_axis : int or None
        Where the batch stands in the ONNX shape; None where there is none, or where it is a number in the graph.
    source : tuple of (str, str) or None
        Of a state: the graph input and output it replaces, where the graph had them.
    """

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    time_axis: int | None = None
    source: tuple[str, str] | None = None
    batch_axis: int | None = None

    def __str__(self) -> str:
        return f"{self.name}: {self.dtype}{list(self.shape)}"


class Model:
    """An image, checked and ready. Made by :func:`load`.

    Attributes
    ----------
    inputs, outputs, states : tuple of TensorInfo
    metadata : dict
        Where the model came from: ``source``, ``sha256``, ``producer``, ``kind``, ``time_axis``, ``notes``,
        ``weights``. Where they were given to the export also ``sample_rate`` in hertz, ``labels``, ``normalisation``;
        all else in ``meta``.
    """

    def __init__(
        self, image: bytes | mmap.mmap | npt.NDArray[np.uint8], name: str = "the image", *, threads: int = 1
    ) -> None:
        """Open an image held in memory; it is copied where it can be written or does not lie on a 64-byte boundary.

        ``name`` is what error messages call it; ``threads`` is for streams and pools that are not told themselves.

        Raises
        ------
        ImageError
            Not an image, truncated, altered, or of another version.
        ModelError
            An operator that this release does not have.
        """
        memory: npt.NDArray[np.uint8] = np.frombuffer(image, np.uint8)
        if len(memory) == 0:
            raise ImageError(f"{name}: an empty file is not a .sgru image: compile the model again")
        if memory.ctypes.data % 64 or memory.flags.writeable:
            memory = aligned(len(memory))
            memory[:] = np.frombuffer(image, np.uint8)
        self._image = memory
        self.threads = threads
        self._buffer = ffi.from_buffer(memory)
        self._c = ffi.new("sgru_model *")
        raise_for(lib.sgru_model_open(self._c, self._buffer, len(memory)), name)
        self.metadata: dict[str, Any] = _metadata(memory, name)
        self.inputs = self._tensors(lib.SGRU_INPUT, self._c.n_inputs)
        self.outputs = self._tensors(lib.SGRU_OUTPUT, self._c.n_outputs)
        self.states = self._tensors(lib.SGRU_STATE, self._c.n_states)

    def _tensors(self, kind: int, count: int) -> tuple[TensorInfo, ...]:
        axes = self.metadata.get("time_axis") or {}
        batch = self.metadata.get("batch_axis") or {}
        pairs = {s["name"]: (s.get("input"), s.get("output")) for s in self.metadata.get("states") or []}
        info = ffi.new("sgru_tensor_info *")
        found = []
        for i in range(count):
            raise_for(lib.sgru_tensor(self._c, kind, i, info), "reading the image")
            name = ffi.string(info.name).decode("utf-8", "replace")
            if info.dtype not in DTYPES:
                raise ImageError(f"tensor {name!r} has a dtype that frames cannot have")
            if max(axes.get(name) or 0, batch.get(name) or 0) > info.rank:
                raise ImageError(f"tensor {name!r} has no such axis as the JSON block says")
            source = pairs.get(name) if kind == lib.SGRU_STATE else None
            found.append(
                TensorInfo(
                    name,
                    tuple(info.shape[0 : info.rank]),
                    DTYPES[info.dtype],
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

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the image; never a half-written file under the final name."""
        path = Path(path)
        temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        try:
            temporary.write_bytes(self._image.data)
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)

    def stream(self, *, block: int | None = None, nonfinite: str = "refuse", threads: int | None = None) -> Stream:
        """Open a stream: one state, one thread at a time.

        Parameters
        ----------
        block : int, optional
            Frames that :meth:`Stream.run` hands through the operators at once; bits do not depend on it. By
            default as many (up to 16) as keep the intermediate values within 256 KB.
        nonfinite : {"refuse", "pass"}
            What a NaN or infinity in a frame does: raise :class:`NonFiniteError` and leave the state alone,
            or pass as the equations have it, into the state for good.
        threads : int, optional
            That share a step, up to the processors there are; each core keeps its part of the weights in its own cache.
            By default what :func:`load` was told, which is 1. Bits do not depend on it.
        """
        from .stream import Stream

        block = self._default_block() if block is None else block
        return Stream(self, block=block, nonfinite=nonfinite, threads=self.threads if threads is None else threads)

    def pool(
        self, capacity: int, *, lanes: int | None = None, nonfinite: str = "refuse", threads: int | None = None
    ) -> Pool:
        """Open a pool of streams that move on together: one pass over the weights serves many.

        Parameters
        ----------
        capacity : int
            Slots that can be open at once.
        lanes : int, optional
            Streams that go through the operators side by side; bits do not depend on it. By default up to 64, as many
            as 8 MB of working memory hold.
        nonfinite, threads
            As :meth:`stream`; the threads share the slots.
        """
        from .pool import Pool

        return Pool(
            self, capacity, lanes=lanes, nonfinite=nonfinite, threads=self.threads if threads is None else threads
        )

    def run(self, x: Frames, lengths: npt.ArrayLike | None = None, *, nonfinite: str = "refuse") -> Any:
        """Whole sequences, through a stream of their own.

        Parameters
        ----------
        x : array, or dict of name to array for a model of several inputs
            What the ONNX graph takes; for a graph of one step, frames stacked on a new first axis.
        lengths : sequence of int, optional
            How many frames of each sequence of the batch are valid. Each gives what it gives alone; what an output has
            beyond that is zero, and one without a time axis (a final state) is that of the last valid frame. The batch
            must be a dynamic dimension of the graph, or there is one length for all.
        nonfinite : {"refuse", "pass"}
            As :meth:`stream`.

        Returns
        -------
        y : array, or dict of name to array
            What the ONNX graph gives, without the states; for a graph of one step, stacked likewise.

        Raises
        ------
        ShapeError, NonFiniteError
            As :meth:`Stream.run`; wrong lengths; a model bound to one length and `lengths` given.
        ModelError
            An output has no batch axis, and there are several lengths.
        """
        from .whole import run_fresh

        return run_fresh(self, x, lengths, nonfinite)

    def _default_block(self) -> int:
        return max(1, min(MOST_BLOCK, BLOCK_BYTES // max(1, int(self._c.arena_size))))

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

    def __repr__(self) -> str:
        names = [", ".join(map(str, part)) or "none" for part in (self.inputs, self.outputs, self.states)]
        return "<streamgru.Model inputs: {}; outputs: {}; states: {}>".format(*names)


def _metadata(image: npt.NDArray[np.uint8], name: str) -> dict[str, Any]:
    """The JSON block of an image that the core has found whole."""
    at, size = image[96:112].view("<u8")
    try:
        block = json.loads(image[int(at) : int(at + size)].tobytes() or b"{}")
    except (ValueError, RecursionError) as error:
        raise ImageError(f"{name}: the JSON block cannot be read: {error}") from error
    if not isinstance(block, dict):
        raise ImageError(f"{name}: the JSON block is no object")
    for key, fits in (("time_axis", _are_axes), ("batch_axis", _are_axes), ("states", _are_states)):
        if block.get(key) is not None and not fits(block[key]):
            raise ImageError(f"{name}: {key!r} in the JSON block is not what docs/format.md says")
    return block


def _are_axes(value: Any) -> bool:
    return isinstance(value, dict) and all(v is None or (type(v) is int and v >= 0) for v in value.values())


def _are_states(value: Any) -> bool:
    return isinstance(value, list) and all(
        isinstance(s, dict)
        and isinstance(s.get("name"), str)
        and all(s.get(key) is None or isinstance(s[key], str) for key in ("input", "output"))
        for s in value
    )


@overload
def load(
    path: str | os.PathLike[str],
    *,
    mode: Literal["stream"] = "stream",
    mapped: bool = False,
    threads: int = 1,
    **options: Any,
) -> Model: ...
@overload
def load(path: str | os.PathLike[str], *, mode: Literal["whole"], length: int, **options: Any) -> Model: ...
@overload
def load(
    path: str | os.PathLike[str], *, mode: Literal["whole"], length: None = None, **options: Any
) -> WholeModel: ...
def load(
    path: str | os.PathLike[str], *, mode: str = "stream", mapped: bool = False, threads: int = 1, **options: Any
) -> Model | WholeModel:
    """Load a model from ``.sgru``, or compile it from ``.onnx`` in memory.

    Parameters
    ----------
    path : path
        A ``.sgru`` image, or an ONNX file (needs the ``onnx`` package).
    mode : {"stream", "whole"}
        For ``.onnx``: one frame at a time with the state kept; or the graph as it stands, for whole sequences, which a
        model that looks into the future needs. With ``length=`` it is bound to that many frames, else it takes any:
        a :class:`WholeModel`, compiled for each length it meets.
    mapped : bool
        Map an image instead of reading it: processes share its memory, but whoever truncates the file while it is
        mapped kills them, and whoever writes to it has their memory: only for files that nobody else can write.
    threads : int
        That share a step of its streams and pools, unless they are told otherwise.
    **options
        For ``.onnx``: what :func:`streamgru_export.compile` takes (``weights``, ``batch``, ``dims``, ``time_axis``,
        ``state``, ...).

    Raises
    ------
    ModelError
        The file cannot be read, or the model cannot be streamed; the message names the node.
    ImageError
        The image is truncated, altered or of another version.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            start = file.read(8)
            if start[:4] == b"SGRU" or path.suffix == ".sgru":
                options = options if mode == "stream" else {"mode": mode, **options}
                return Model(_read_image(path, file, mapped, options), str(path), threads=threads)
    except OSError as error:
        raise ModelError(f"{path}: cannot be read: {error.strerror}") from error
    if mode == "whole" and options.get("length") is None:
        from .whole import WholeModel

        return WholeModel(path, **{name: value for name, value in options.items() if name != "length"})
    with needs_onnx(path):
        from streamgru_export.compiler.compile import compile as compile_onnx
    return Model(compile_onnx(path, mode=mode, **options).image, str(path), threads=threads)


def _read_image(path: Path, file: Any, mapped: bool, options: dict[str, Any]) -> npt.NDArray[np.uint8]:
    if options:
        raise ModelError(
            f"{path}: an image is compiled already: {', '.join(options)} must be given to `streamgru compile`"
        )
    size = os.fstat(file.fileno()).st_size
    if mapped and size:
        return np.frombuffer(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ), np.uint8)
    file.seek(0)
    header = file.read(HEADER_BYTES)
    if int.from_bytes(header[16:24], "little") != size:
        return np.frombuffer(header, np.uint8)  # enough to be refused by the right name, however long the file is
    memory = aligned(size)
    file.seek(0)
    memory = memory[: file.readinto(memory)]
    memory.flags.writeable = False
    return memory
