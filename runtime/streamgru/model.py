"""A model: an image that opens streams and pools, and runs whole sequences. :func:`load` makes it."""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Literal, Never, TypeAlias, overload

import numpy as np
import numpy.typing as npt

from ._disk import opened
from ._options import as_path, one_of, refuse_unknown
from ._status import aligned
from ._threads import checked_threads
from ._types import Array, Frames, Json, Outputs
from ._workshop import workshop
from .errors import FileError, ModelError, OptionError
from .image import MAX_OPS, UNLIMITED, Image, checked_ops
from .layout import HEADER, header_of
from .pool import Pool
from .sequences import run_fresh
from .stream import Stream
from .tensors import by_name

if TYPE_CHECKING:
    from ._workshop import WholeModel

AnyPath: TypeAlias = "str | os.PathLike[str]"
Weights: TypeAlias = Literal["f32", "f16", "i8"]
NonFinite: TypeAlias = Literal["refuse", "pass"]

BLOCK_BYTES = 256 * 1024  # a block's intermediate values should stay in the cache
MOST_BLOCK = 16


class Model(Image):
    """An image, checked and ready. Made by :func:`load`.

    Attributes
    ----------
    inputs, outputs, states : tuple of TensorInfo
    metadata : dict
        Where the model came from: ``source``, ``sha256``, ``producer``, ``kind``, ``time_axis``, ``notes``,
        ``weights``. Where they were given to the export also ``sample_rate`` in hertz, ``labels``, ``normalisation``;
        all else in ``meta``.
    """

    def stream(
        self, *, block: int | None = None, nonfinite: NonFinite = "refuse", threads: int | None = None, **unknown: Never
    ) -> Stream:
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

        Raises
        ------
        OptionError
            There is no such option, or it cannot have that value.
        """
        refuse_unknown(self.stream, unknown)
        block = self._default_block() if block is None else block
        return Stream(self, block=block, nonfinite=nonfinite, threads=self.threads if threads is None else threads)

    def pool(
        self,
        capacity: int,
        *,
        lanes: int | None = None,
        nonfinite: NonFinite = "refuse",
        threads: int | None = None,
        **unknown: Never,
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

        Raises
        ------
        OptionError
            There is no such option, or it cannot have that value.
        """
        refuse_unknown(self.pool, unknown)
        return Pool(
            self, capacity, lanes=lanes, nonfinite=nonfinite, threads=self.threads if threads is None else threads
        )

    def run(self, x: Frames, lengths: npt.ArrayLike | None = None, *, nonfinite: NonFinite = "refuse") -> Array:
        """Whole sequences, through a stream of their own.

        Parameters
        ----------
        x : array, or dict of name to array for a model of several inputs
            What the ONNX graph takes; for a graph of one step, frames stacked on a new first axis. An input that says
            how long the sequences are (ONNX's sequence_lens) is obeyed as the graph has it.
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
        block = 1 if self.metadata.get("kind") == "whole" else None
        with self.stream(block=block, nonfinite=nonfinite) as stream:
            return run_fresh(stream, x, lengths)

    def _default_block(self) -> int:
        return max(1, min(MOST_BLOCK, BLOCK_BYTES // max(1, int(self._c.arena_size))))

    def named(self, y: Outputs) -> dict[str, Array]:
        """A result by name, whatever the number of outputs: what `step` and `run` give, always as a dict.

        >>> y = model.named(stream.step(x))["forecast"]
        """
        return by_name(self.outputs, y)


@overload
def load(
    path: AnyPath,
    *,
    mode: Literal["stream"] = "stream",
    weights: Weights = "f32",
    batch: int = 1,
    dims: Mapping[str, int] | None = None,
    time_axis: Mapping[str, int] | None = None,
    state: Iterable[tuple[str, str]] | None = None,
    values: Mapping[str, npt.ArrayLike] | None = None,
    tolerance: float | None = None,
    samples: Frames | None = None,
    mapped: bool = False,
    threads: int = 1,
    max_ops: int | None = MAX_OPS,
) -> Model: ...
@overload
def load(
    path: AnyPath,
    *,
    mode: Literal["whole"],
    length: int,
    weights: Weights = "f32",
    batch: int = 1,
    dims: Mapping[str, int] | None = None,
    time_axis: Mapping[str, int] | None = None,
    values: Mapping[str, npt.ArrayLike] | None = None,
    tolerance: float | None = None,
    samples: Frames | None = None,
    threads: int = 1,
    max_ops: int | None = MAX_OPS,
) -> Model: ...
@overload
def load(
    path: AnyPath,
    *,
    mode: Literal["whole"],
    length: None = None,
    weights: Weights = "f32",
    dims: Mapping[str, int] | None = None,
    time_axis: Mapping[str, int] | None = None,
    values: Mapping[str, npt.ArrayLike] | None = None,
) -> WholeModel: ...
def load(
    path: AnyPath,
    *,
    mode: Literal["stream", "whole"] = "stream",
    length: int | None = None,
    weights: Weights = "f32",
    batch: int = 1,
    dims: Mapping[str, int] | None = None,
    time_axis: Mapping[str, int] | None = None,
    state: Iterable[tuple[str, str]] | None = None,
    values: Mapping[str, npt.ArrayLike] | None = None,
    tolerance: float | None = None,
    samples: Frames | None = None,
    mapped: bool = False,
    threads: int = 1,
    max_ops: int | None = MAX_OPS,
    **unknown: Never,
) -> Model | WholeModel:
    """Load a model from ``.sgru``, or compile it from ``.onnx`` in memory.

    >>> model = streamgru.load("model.onnx", weights="i8", tolerance=0.02)

    Parameters
    ----------
    path : path
        A ``.sgru`` image, or an ONNX file (needs the ``onnx`` package).
    mode : {"stream", "whole"}
        For ``.onnx``: one frame at a time with the state kept; or the graph as it stands, for whole sequences, which a
        model that looks into the future needs. With ``length=`` it is bound to that many frames, else it takes any:
        a :class:`WholeModel`, compiled for each length it meets.
    length, weights, batch, dims, time_axis, state, values, tolerance, samples
        For ``.onnx``: as :func:`streamgru.compile`.
    mapped : bool
        Map an image instead of reading it: processes share its memory, but whoever truncates the file while it is
        mapped kills them, and whoever writes to it has their memory: only for files that nobody else can write.
    threads : int
        That share a step of its streams and pools, unless they are told otherwise.
    max_ops : int, optional
        Refuse a model whose step takes more operations (:attr:`Model.ops`); with ``length=``, so many for each of its
        frames. By default 10^10, which take a few seconds at most. None: any number. A :class:`WholeModel`, whose
        work grows with what it is fed, has no such limit.

    Raises
    ------
    ModelError
        The file cannot be read, the model cannot be compiled, or a step takes more than `max_ops`; the message names
        the node.
    CannotStreamError
        The model looks into the future: ``mode="whole"`` runs it.
    ImageError
        The image is truncated, altered or of another version.
    OptionError
        There is no such option, or it cannot have that value.
    """
    refuse_unknown(load, unknown)
    path = as_path("path", path)
    given: Json = {
        "mode": mode, "length": length, "weights": weights, "batch": batch, "dims": dims, "time_axis": time_axis,
        "state": state, "values": values, "tolerance": tolerance, "samples": samples,
    }  # fmt: skip
    said = {k: v for k, v in given.items() if (not _is(v, UNSAID[k]) if k in UNSAID else v is not None)}
    threads, most = checked_threads(threads), checked_ops(max_ops)
    try:
        with opened(path) as file:
            if file.read(4) == b"SGRU" or path.suffix == ".sgru":
                image = _read_image(path, file, mapped, said)
                return Model(image, str(path), threads=threads, max_ops=most)
    except FileError as error:
        raise ModelError(str(error)) from error
    except (OSError, MemoryError) as error:  # a disk that fails, a file that cannot be mapped
        raise ModelError(f"{path}: cannot be read: {error}") from error
    one_of("mode", mode, ("stream", "whole"))
    purpose = f"{path}: reading ONNX"
    if mode == "whole" and length is None:
        if unfit := said.keys() - {"mode", "weights", "dims", "time_axis", "values"}:
            raise OptionError(f"mode='whole' without length= takes no {min(unfit)!r}: give the length, or leave it out")
        whole: WholeModel = workshop("whole.model", purpose).WholeModel(path, dims, time_axis, weights, values)
        return whole
    compiled = workshop("compiler.compile", purpose).compile(path, **said)
    return Model(compiled.image, str(path), threads=threads, max_ops=min(most * (length or 1), UNLIMITED))


UNSAID: Json = {"mode": "stream", "weights": "f32", "batch": 1}  # what an option is where nobody gives it


def _is(value: object, usual: object) -> bool:
    """Whether an option has its usual value. An array is compared with nothing."""
    return isinstance(value, str | int | np.integer) and value == usual


def _read_image(path: Path, file: BinaryIO, mapped: bool, said: Mapping[str, Any]) -> npt.NDArray[np.uint8]:
    if said:
        raise ModelError(
            f"{path}: an image is compiled already: {', '.join(said)} must be given to `streamgru compile`"
        )
    size = os.fstat(file.fileno()).st_size
    if mapped and size:
        return np.frombuffer(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ), np.uint8)
    file.seek(0)
    header = file.read(HEADER.itemsize)
    if len(header) < HEADER.itemsize or header_of(header)["file_size"] != size:
        return np.frombuffer(header, np.uint8)  # enough to be refused by the right name, however long the file is
    memory = aligned(size)
    file.seek(0)
    memory = memory[: file.readinto(memory)]  # type: ignore[attr-defined]
    memory.flags.writeable = False
    return memory
