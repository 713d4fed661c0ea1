"""A pool: many streams of one model, moved on together by one pass over the weights. One call at a time.

The bits are those of single streams, whatever the company. A step takes any of the slots, in any order; all of them
move, or, after an error, none.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count
from typing import Any, NoReturn, Self, TypeAlias

import numpy as np
import numpy.typing as npt

from ._alone import Alone, alone, to_the_end
from ._kernel import ffi, lib
from ._options import one_of, whole_number
from ._status import aligned, raise_for, saved_state
from ._threads import Threads
from ._types import Array, Frames
from .errors import ModelError, NonFiniteError, OptionError, ShapeError, SlotError, StateError
from .image import Image
from .tensors import as_list, check_array, one_or_all

Slots: TypeAlias = "Sequence[int] | npt.NDArray[np.integer[Any]]"

MOST_LANES = 64
ENGINE_BYTES = 8 << 20  # the memory that lanes work in, for all of them
MOST_SLOTS = 1 << 24
TAGS = 1 << 15
_tags = count(1)


class Pool(Alone[bool]):
    """Many streams of one model. Made by :meth:`Model.pool`; also a context manager.

    Attributes
    ----------
    model : Model
    capacity : int
        Slots that can be open at once.
    """

    def __init__(
        self,
        model: Image,
        capacity: int,
        *,
        lanes: int | None = None,
        nonfinite: str = "refuse",
        threads: int = 1,
    ) -> None:
        one_of("nonfinite", nonfinite, ("refuse", "pass"))
        capacity = whole_number("capacity", capacity, 1, MOST_SLOTS)
        self._threads = Threads(threads)
        wanted = _default_lanes(model) if lanes is None else whole_number("lanes", lanes, 1, MOST_SLOTS)
        lanes = min(capacity, wanted)
        size = lib.sgru_pool_size(model._c, capacity, lanes, threads)
        if size == 0:
            raise OptionError(f"lanes={lanes}: a pool of so many side by side does not fit in memory")
        try:
            self._memory = aligned(size)
        except MemoryError as error:
            raise ModelError(f"a pool of {capacity} streams takes {size} bytes: they cannot be had") from error
        flags = lib.SGRU_PASS_NONFINITE if nonfinite == "pass" else 0
        buffer = ffi.from_buffer(self._memory)
        self.model = model
        self.capacity = capacity
        self._c = lib.sgru_pool_init(buffer, size, model._c, capacity, lanes, threads, next(_tags) % TAGS, flags)
        lib.sgru_pool_use(self._c, self._threads.workers)
        self._slots: dict[int, None] = {}
        self._bad = ffi.new("size_t *")
        self._turn = True

    # ---- slots ----

    @alone
    def open(self) -> int:
        """Take a slot, its state at the reset value, and give its id.

        Raises
        ------
        SlotError
            All are taken.
        StateError
            The pool is closed.
        """
        self._check_open()
        slot = int(lib.sgru_pool_open(self._c))
        if not slot:
            raise SlotError(f"all {self.capacity} slots of this pool are open: close one, or make a larger pool")
        self._slots[slot] = None
        return slot

    def close(self, slot: int | None = None) -> None:
        """Give a slot back; its id is never valid again. Without a slot, end the pool; doing that twice is fine."""
        if slot is None:
            self._close_all()
        else:
            self._close_one(slot)

    @to_the_end
    def _close_all(self) -> None:
        self._c = ffi.NULL
        self._slots.clear()
        self._threads.stop()

    @alone
    def _close_one(self, slot: int) -> None:
        self._check_slot(slot)
        raise_for(lib.sgru_pool_close(self._c, slot), "closing a slot")
        del self._slots[slot]

    @property
    def slots(self) -> tuple[int, ...]:
        """The open ones, oldest first."""
        return tuple(self._slots)

    def __len__(self) -> int:
        """How many slots are open."""
        return len(self._slots)

    def __contains__(self, slot: object) -> bool:
        return isinstance(slot, int | np.integer) and slot in self._slots

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    # ---- frames ----

    def step(self, slots: Slots, x: Frames) -> Array:
        """One frame for each of some slots: any of them, in any order, each once. The interpreter lock is released.

        Parameters
        ----------
        slots : sequence of int, n of them
        x : array, or dict of name to array for a model of several inputs
            ``[n, *frame shape]``, C-contiguous, of the input's dtype.

        Returns
        -------
        y : array, or dict of name to array
            ``[n, *frame shape]``, in the order of `slots`.

        Raises
        ------
        SlotError
            A slot that is not open, of another pool, or that stands twice.
        ShapeError
            Wrong shape, dtype or layout, a missing or unknown input, an id in the data out of range.
        NonFiniteError
            A frame holds NaN or infinity, or a state would; the message names the slot. Leave it out and step again.
        StateError
            The pool is closed.
        ConcurrencyError
            Another thread is in it.

        In each case no slot has moved.
        """
        turn, self._turn = self._turn, None
        if turn is None:
            self._refuse_second()
        try:
            return self._step(slots, x)
        finally:
            self._turn = turn

    def _step(self, slots: Slots, x: Frames) -> Array:
        self._check_open()
        ids = self._as_ids(slots)
        arrays = [
            check_array(tensor, array, (len(ids), *tensor.shape))
            for tensor, array in zip(self.model.inputs, as_list(self.model.inputs, x), strict=True)
        ]
        results = tuple(np.empty((len(ids), *t.shape), t.dtype) for t in self.model.outputs)
        if len(ids):
            inputs = [ffi.from_buffer(a) for a in arrays]
            outputs = [ffi.from_buffer(r, require_writable=True) for r in results]
            status = lib.sgru_pool_step(
                self._c,
                len(ids),
                ffi.from_buffer("sgru_slot[]", ids),
                ffi.new("void *[]", inputs),
                ffi.new("void *[]", outputs),
                self._bad,
            )
            if status:
                self._refuse(status, ids, arrays)
        return one_or_all(self.model.outputs, results)

    # ---- states ----

    @alone
    def reset(self, slot: int) -> None:
        """One slot's state back to its reset value."""
        self._check_slot(slot)
        raise_for(lib.sgru_pool_reset(self._c, slot), "resetting a slot")

    @alone
    def save(self, slot: int) -> bytes:
        """One slot's state as bytes; streams and pools of the same image share them."""
        self._check_slot(slot)
        blob = bytearray(lib.sgru_save_size(self.model._c))
        raise_for(lib.sgru_pool_save(self._c, slot, ffi.from_buffer(blob), len(blob)), "saving the state")
        return bytes(blob)

    @alone
    def restore(self, slot: int, state: bytes) -> None:
        """Take over a state that :meth:`save` or :meth:`Stream.save` gave.

        Raises
        ------
        StateError
            Not such a state, of another model, truncated or altered; the slot's own is as it was.
        """
        self._check_slot(slot)
        buffer = saved_state(state)
        raise_for(lib.sgru_pool_restore(self._c, slot, buffer, len(buffer)), "restoring a state")

    def __reduce__(self) -> NoReturn:
        raise StateError(
            "a pool is neither copied nor pickled: save() each slot, and restore() the states in another pool"
        )

    @property
    def nbytes(self) -> int:
        """Bytes of the pool's memory, the weights not included."""
        return len(self._memory)

    # ---- what was wrong ----

    def _check_open(self) -> None:
        if self._c == ffi.NULL:
            raise StateError("this pool is closed: make another with model.pool()")

    def _check_slot(self, slot: int) -> None:
        self._check_open()
        if slot not in self:
            raise SlotError(f"{slot!r:.100} is no open slot of this pool")

    def _as_ids(self, slots: Slots) -> npt.NDArray[np.uint64]:
        try:
            ids = np.asarray(slots)
        except (TypeError, ValueError, OverflowError):  # lists of unequal lengths
            ids = np.empty(())
        if ids.ndim != 1 or (len(ids) and ids.dtype.kind not in "iu"):
            raise SlotError(f"slots are a sequence of the integers that open() gave, not {slots!r:.100}")
        return ids.astype(np.uint64)

    def _refuse(self, status: int, ids: npt.NDArray[np.uint64], arrays: list[Array]) -> None:
        """Raise for a step that the core refused."""
        at = self._bad[0]
        slot = int(ids[at]) if at < len(ids) else None
        if status == lib.SGRU_E_SLOT:
            twice = "stands twice in this step" if slot in self._slots else "is no open slot of this pool"
            raise SlotError(f"slot {slot} (number {at}) {twice}; no slot has moved")
        if status == lib.SGRU_E_NONFINITE:
            names = [
                tensor.name
                for tensor, array in zip(self.model.inputs, arrays, strict=True)
                if tensor.dtype.kind == "f" and not np.isfinite(array[at]).all()
            ]
            what = f"input {names[0]!r} holds NaN or infinity" if names else "its state would hold NaN or infinity"
            raise NonFiniteError(
                f"slot {slot} (number {at}): {what}; no slot has moved. "
                "Leave it out, or make the pool with nonfinite='pass'"
            )
        if status == lib.SGRU_E_INDEX:
            raise ShapeError(f"slot {slot} (number {at}): an index in the data is out of range; no slot has moved")
        raise_for(status, "this step")


def _default_lanes(model: Image) -> int:
    sizes = model.sizes
    return max(1, min(MOST_LANES, ENGINE_BYTES // max(1, sizes["arena"] + sizes["state"] + sizes["scratch"])))
