"""A stream: one state, moved on frame by frame. One call at a time; any number of streams on one model.

`step` costs little more than the C call: the frame goes by one memmove into the arena that `step_inplace` reads, and
everything that could be looked up is looked up once; a result that nobody holds any more is filled again. The checks
that name what is wrong run only after something was.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from itertools import cycle
from typing import Self, TypedDict, TypeVar

import numpy as np

from ._alone import Alone, alone, to_the_end
from ._call import Call, new_call
from ._kernel import ffi, lib
from ._options import one_of, whole_number
from ._parts import Parts
from ._status import aligned, raise_for, saved_state
from ._threads import Threads, most_threads
from ._types import Array, CData, Frames
from .errors import ModelError, NonFiniteError, OptionError, ShapeError, StateError
from .image import Image
from .tensors import TensorInfo, as_frame, as_list, as_sequences, check_array, one_or_all, states_in

MOST_FRAMES = 2**31  # in a block
LOCKED_BYTES = 1 << 20  # a step over weights of this size takes some microseconds: it keeps the interpreter lock
RESULTS = 4  # a step fills these in turn, or a new one where somebody still holds what it gave before


class Options(TypedDict):
    """What a stream was opened with."""

    block: int
    nonfinite: str
    threads: int


class Stream(Alone[Callable[[], Call]]):
    """One stream of a model. Made by :meth:`Model.stream`; also a context manager.

    Attributes
    ----------
    x, y : numpy.ndarray or dict of name to numpy.ndarray
        The buffers that :meth:`step_inplace` reads and writes (arrays where there is one, dicts where there are
        several). They belong to the stream, and :meth:`step` uses them too.
    """

    def __init__(self, model: Image, *, block: int = 1, nonfinite: str = "refuse", threads: int = 1) -> None:
        one_of("nonfinite", nonfinite, ("refuse", "pass"))
        block = whole_number("block", block, 1, MOST_FRAMES - 1)
        size = lib.sgru_stream_size(model._c, block)
        if size == 0:
            raise OptionError(f"block={block}: a stream in blocks of so many frames does not fit in memory")
        self.model = model
        self._options: Options = {"block": block, "nonfinite": nonfinite, "threads": threads}
        self._parts = Parts(block)
        self._threads = Threads(threads)
        try:
            self._memory = aligned(size)
        except MemoryError as error:
            raise ModelError(f"a stream in blocks of {block} takes {size} bytes: they cannot be had") from error
        buffer = ffi.from_buffer(self._memory)
        flags = lib.SGRU_PASS_NONFINITE if nonfinite == "pass" else 0
        self._open = lib.sgru_stream_init(buffer, size, model._c, block, flags)
        self._c = self._open  # NULL once the stream is closed
        lib.sgru_stream_use(self._c, self._threads.workers)
        self._inputs = tuple(self._view(lib.sgru_input(self._c, i), t) for i, t in enumerate(model.inputs))
        self._outputs = tuple(self._view(lib.sgru_output(self._c, i), t) for i, t in enumerate(model.outputs))
        self.x = one_or_all(model.inputs, self._inputs)
        self.y = one_or_all(model.outputs, self._outputs)
        self._prepare_fast_path()

    def _view(self, pointer: CData, tensor: TensorInfo) -> Array:
        """The stream's own memory at `pointer`, as an array."""
        start = int(ffi.cast("uintptr_t", pointer)) - self._memory.ctypes.data
        count = int(np.prod(tensor.shape, dtype=np.int64)) * tensor.dtype.itemsize
        return self._memory[start : start + count].view(tensor.dtype).reshape(tensor.shape)

    def _prepare_fast_path(self) -> None:
        """What `step` needs; of a model of one input and one output all but a call. A shape of None fits no array."""
        pointers = [lib.sgru_input(self._c, i) for i in range(len(self._inputs))]
        self._exact = [
            (t.name, x.shape, x.dtype, ffi.buffer(p, x.nbytes))
            for t, x, p in zip(self.model.inputs, self._inputs, pointers, strict=True)
        ]
        self._is_brief = self.model._c.image_size <= LOCKED_BYTES and self._threads.n == 1
        self._step_inplace = lib.sgru_step_inplace_locked if self._is_brief else lib.sgru_step_inplace
        self._step_call = lib.sgru_step_call_locked if self._is_brief else lib.sgru_step_call
        self._x_pointers = ffi.new("void *[]", pointers)
        self._calls = [new_call(self._c, self._x_pointers, self.model.outputs) for _ in range(RESULTS)]
        for y in self._calls[0].arrays:
            self._idle = getrefcount(y)  # of one that nobody else holds, counted as `step` counts it
        self._turn = cycle(self._calls).__next__
        self._has_one_output = len(self._outputs) == 1
        self._x_shape: tuple[int, ...] | None = None
        if len(self._inputs) == 1:
            _, self._x_shape, self._x_dtype, self._x_buffer = self._exact[0]

    # ---- frames ----

    def step(self, x: Frames) -> Array:
        """One frame in, one frame out; the state moves on.

        Parameters
        ----------
        x : array, or dict of name to array for a model of several inputs
            C-contiguous, of the input's dtype and its frame shape (axes of length 1 may be left out).

        Returns
        -------
        y : array, or dict of name to array for a model of several outputs
            New arrays of the outputs' frame shapes. It is typed as an array: :meth:`Model.named` gives and is typed as
            a dict, whatever the number of outputs.

        Raises
        ------
        ShapeError
            Wrong shape, dtype or layout, a missing or unknown input, an id out of range.
        NonFiniteError
            The frame holds NaN or infinity, or the state would.
        StateError
            The stream is closed.
        ConcurrencyError
            Another thread is in it.

        In each case the state is what it was.
        """
        if type(x) is ndarray and x.shape == self._x_shape and x.dtype is self._x_dtype:
            turn, self._turn = self._turn, None
            if turn is None:
                self._refuse_second()
            try:
                try:
                    self._x_buffer[EVERYTHING] = x
                except (ValueError, BufferError):
                    check_array(self.model.inputs[0], x, self.model.inputs[0].shape)
                    raise
                call = turn()
                if not self._has_one_output:
                    return self._results(x, call)
                y = call.arrays[0]
                if getrefcount(y) != self._idle:
                    call.renew()
                    y = call.arrays[0]
                if status := self._step_call(call.c):
                    self._refuse(x, status)
                return y
            finally:
                self._turn = turn
        return self._step_any(x)

    def _step_any(self, x: Frames) -> Array:
        """The general way: any number of inputs, squeezed shapes, arrays of subclasses."""
        turn, self._turn = self._turn, None
        if turn is None:
            self._refuse_second()
        try:
            if not self._filled(x):
                for buffer, frame in zip(self._inputs, self._checked_frames(x), strict=True):
                    buffer[...] = frame
            return self._results(x, turn())
        finally:
            self._turn = turn

    def _results(self, x: Frames, call: Call) -> Array:
        """A step over what the input buffers hold; `x` is what they were filled from."""
        for y in call.arrays:
            if getrefcount(y) != self._idle:
                call.renew()
                break
        if status := self._step_call(call.c):
            self._refuse(x, status)
        return call.arrays[0] if self._has_one_output else call.by_name.copy()  # type: ignore[return-value]

    def _filled(self, x: Frames) -> bool:
        """Whether every input is just what it should be, and has been copied to where it is read."""
        is_dict = type(x) is dict
        if (len(x) if is_dict else 1) != len(self._exact):
            return False
        try:
            for name, shape, dtype, buffer in self._exact:
                frame = x.get(name) if is_dict else x  # type: ignore[union-attr]
                if type(frame) is not ndarray or frame.shape != shape or frame.dtype is not dtype:
                    return False
                buffer[EVERYTHING] = frame
        except (ValueError, BufferError):  # not contiguous
            return False
        return True

    def step_inplace(self) -> None:
        """One frame, zero copy: reads :attr:`x`, writes :attr:`y`.

        Raises
        ------
        NonFiniteError, ShapeError, StateError
            As :meth:`step`; the state is what it was.
        """
        if self._is_brief:  # the lock is kept: from here to the end of the step there is nobody else
            if self._turn is None:
                self._refuse_second()
            if status := self._step_inplace(self._c):
                self._refuse(self.x, status)
        else:
            self._step_inplace_alone()

    @alone
    def _step_inplace_alone(self) -> None:
        if status := self._step_inplace(self._c):
            self._refuse(self.x, status)

    @alone
    def run(self, x: Frames) -> Array:
        """Many frames at once, the GIL released: the same bits as so many steps.

        Ctrl-C ends it within some hundredths of a second, or a frame where one takes longer; the state is what it was.

        Parameters
        ----------
        x : array, or dict of name to array
            What the ONNX graph takes: ``[T, B, I]`` or ``[B, T, I]`` as its time axis stands. For a graph of one step,
            and for inputs without a time axis, frames stacked on a new first axis.

        Returns
        -------
        y : array, or dict of name to array
            Stacked likewise.

        Raises
        ------
        ShapeError, NonFiniteError, StateError
            As :meth:`step`; the whole run is undone.
        """
        self._check_open()
        arrays = as_sequences(self.model.inputs, x)
        frames = len(arrays[0]) if arrays else 0
        results = [np.empty((frames, *t.shape), t.dtype) for t in self.model.outputs]
        placed = tuple(
            np.moveaxis(r, 0, t.time_axis) if t.time_axis else r
            for r, t in zip(results, self.model.outputs, strict=True)
        )
        y = one_or_all(self.model.outputs, placed)
        if frames:
            inputs = ffi.new("void *[]", [ffi.from_buffer(a) for a in arrays])
            outputs = ffi.new("void *[]", [ffi.from_buffer(r, require_writable=True) for r in results])
            if status := self._parts.run(self._c, frames, inputs, outputs):
                self._refuse(x, status)
        return y

    # ---- the state ----

    @alone
    def reset(self) -> None:
        """The state back to its reset value: zeros, or the constant initial state of the graph."""
        self._check_open()
        raise_for(lib.sgru_reset(self._c), "resetting the state")

    @alone
    def save(self) -> bytes:
        """The state as bytes, for :meth:`restore` on any stream of this image, on any machine."""
        return self._save()

    def _save(self) -> bytes:
        self._check_open()
        blob = bytearray(lib.sgru_save_size(self.model._c))
        raise_for(lib.sgru_save(self._c, ffi.from_buffer(blob), len(blob)), "saving the state")
        return bytes(blob)

    @alone
    def restore(self, state: bytes) -> None:
        """Take over a state that :meth:`save` gave.

        Raises
        ------
        StateError
            Not such a state, of another model, truncated or altered; the stream's own is as it was.
        """
        self._restore(state)

    def _restore(self, state: bytes) -> None:
        self._check_open()
        buffer = saved_state(state)
        raise_for(lib.sgru_restore(self._c, buffer, len(buffer)), "restoring a state")

    def clone(self) -> Self:
        """A new stream of the same model in the same state; from here on the two are independent.

        :mod:`copy` does the same, and a pickled stream comes back so, with its model.
        """
        return _revived(type(self), self.model, self._options, self.save())

    __copy__ = clone

    def __deepcopy__(self, memo: object) -> Self:
        return self.clone()

    def __reduce__(self) -> tuple[Callable[..., Self], tuple[object, ...]]:
        """Pickles as its model, its options and its state."""
        return _revived, (type(self), self.model, self._options, self.save())

    @property
    def state(self) -> dict[str, Array]:
        """A copy of the state by name."""
        saved = np.frombuffer(self.save(), np.uint8)
        return {name: view.copy() for name, view in states_in(self.model.states, saved).items()}

    @alone
    def set_state(self, values: Mapping[str, Array]) -> None:
        """Take over states by name, as :attr:`state` gives them: an encoder's last state, for a decoder. Those not
        named stay as they are.

        Raises
        ------
        ShapeError
            There is no state of that name, it has another shape or dtype, or `values` is no mapping.
        NonFiniteError
            NaN or infinity, unless the stream lets them pass.

        In each case the state is what it was.
        """
        if not isinstance(values, Mapping):
            raise ShapeError(f"states are given by name, as a dict of arrays, not as {type(values).__name__}")
        known = {tensor.name: tensor for tensor in self.model.states}
        saved = np.frombuffer(bytearray(self._save()), np.uint8)
        views = states_in(self.model.states, saved)
        for name, value in values.items():
            if name not in known:
                raise ShapeError(f"there is no state {name!r}; there are {list(known)}")
            array = as_frame(known[name], value)
            if self._options["nonfinite"] == "refuse" and not np.isfinite(array).all():
                raise NonFiniteError(f"state {name!r}: NaN or infinity; open the stream with nonfinite='pass'")
            views[name][...] = array
        state = saved[-self.model._c.state_size :] if known else saved[:0]
        saved[16:24].view("<u8")[0] = lib.sgru_checksum(ffi.from_buffer(state), len(state))
        self._restore(saved.tobytes())

    @property
    def isa(self) -> str:
        """The instruction set this stream runs on."""
        return str(ffi.string(lib.sgru_stream_isa(self._open)).decode())

    @to_the_end
    def close(self) -> None:
        """End the stream; a further call raises :class:`StateError`. Closing twice is fine."""
        self._c = ffi.NULL
        for call in self._calls:
            call.c.stream = ffi.NULL
        self._threads.stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    # ---- what was wrong ----

    def _check_open(self) -> None:
        if self._c == ffi.NULL:
            raise StateError("this stream is closed: open another with model.stream()")

    def _refuse(self, x: Frames, status: int) -> None:
        """Raise for a call that the core refused."""
        self._check_open()
        for tensor, array in zip(self.model.inputs, as_list(self.model.inputs, x), strict=True):
            if tensor.dtype.kind == "f" and not np.isfinite(array).all():
                where = np.unravel_index(int(np.argmin(np.isfinite(array))), np.shape(array))
                raise NonFiniteError(
                    f"input {tensor.name!r} holds {np.asarray(array)[where]} at {tuple(map(int, where))}; "
                    "the frame was refused and the state is as it was. "
                    "Clean the input, or open the stream with nonfinite='pass'"
                )
        raise_for(status, "this frame")

    def _checked_frames(self, x: Frames) -> list[Array]:
        self._check_open()
        return [
            as_frame(tensor, array)
            for tensor, array in zip(self.model.inputs, as_list(self.model.inputs, x), strict=True)
        ]


S = TypeVar("S", bound=Stream)


def _revived(cls: type[S], model: Image, options: Options, state: bytes) -> S:
    """A stream in a state, on no more threads than this machine has."""
    threads = min(options["threads"], most_threads())
    stream = cls(model, block=options["block"], nonfinite=options["nonfinite"], threads=threads)
    stream._restore(state)
    return stream


ndarray = np.ndarray
EVERYTHING = slice(None)
getrefcount: Callable[[object], int] = getattr(sys, "getrefcount", lambda _: 1)
