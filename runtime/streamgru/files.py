"""Frames on disk: .npy, .npz and .csv, as the command line reads and writes them."""

from __future__ import annotations

import csv
import zlib
from collections.abc import Sequence
from io import TextIOWrapper
from pathlib import Path
from tokenize import TokenError
from typing import Any
from zipfile import BadZipFile

import numpy as np

from ._disk import opened, writing
from ._types import Array
from .errors import DataError
from .tensors import TensorInfo

Arrays = dict[str, Array]
MOST_ARRAYS = 2**35  # of a file of arrays, and of what it unpacks to
MOST_TEXT = 2**30  # of a .csv: each number takes some thirty times the memory while it is read


def read_frames(path: Path, inputs: Sequence[TensorInfo]) -> Arrays:
    """Frames for each input, as Stream.run takes them. DataError where the file holds none, FileError where it cannot
    be read."""
    if path.suffix in (".npy", ".npz"):
        arrays = _read_numpy(path)
    elif path.suffix == ".csv":
        arrays = {"": _read_csv(path, inputs[0].dtype)}
    else:
        raise DataError(f"{path}: frames are read from .npy, .npz or .csv")
    if len(arrays) == 1 == len(inputs):
        arrays = {inputs[0].name: next(iter(arrays.values()))}
    names = [t.name for t in inputs]
    if sorted(arrays) != sorted(names):
        raise DataError(f"{path} must be an .npz with an array for each input, {names}; it has {sorted(arrays)}")
    return {t.name: _as_frames(arrays[t.name], t, path) for t in inputs}


def _read_numpy(path: Path) -> Arrays:
    """The arrays of an .npz by name, or that of an .npy by no name."""
    try:
        with opened(path, MOST_ARRAYS) as file:
            loaded = np.load(file, allow_pickle=False)
            if isinstance(loaded, np.ndarray):
                return {"": loaded}
            with loaded:
                if sum(entry.file_size for entry in loaded.zip.infolist()) > MOST_ARRAYS:
                    raise DataError(f"{path}: its arrays have more than {MOST_ARRAYS} bytes")
                return dict(loaded)
    except (ValueError, EOFError, MemoryError, NotImplementedError, BadZipFile, TokenError, zlib.error) as error:
        raise DataError(f"{path} is no {path.suffix} of plain numbers: {error}") from None


def _as_frames(array: Array, tensor: TensorInfo, path: Path) -> Array:
    """The array in the model's dtype, with its time axis where the model's is.

    Frames may also stand on the first axis, each in its shape (up to axes of length 1) or flat.
    """
    axis = tensor.time_axis or 0
    shape = list(tensor.shape)
    given = list(array.shape)
    if given[:axis] + given[axis + 1 :] != shape or array.ndim != len(shape) + 1:
        flat = int(np.prod(shape))
        if array.ndim == 0 or _squeezed(given[1:]) not in (_squeezed(shape), _squeezed([flat])):
            wanted = str([*shape[:axis], "frames", *shape[axis:]]).replace("'", "")
            raise DataError(f"{path}: {tensor.name} has shape {given}, not {wanted}")
        array = np.moveaxis(array.reshape(len(array), *shape), 0, axis)
    if not np.can_cast(array.dtype, tensor.dtype, "same_kind"):
        raise DataError(f"{path}: {tensor.name} is {array.dtype}, the model takes {np.dtype(tensor.dtype)}")
    return np.ascontiguousarray(array, tensor.dtype)


def _squeezed(shape: Sequence[int]) -> list[int]:
    return [size for size in shape if size != 1]


def _read_csv(path: Path, dtype: Any) -> Array:
    """One frame in each line, numbers between commas; `#` begins a comment."""
    number = float if np.issubdtype(dtype, np.floating) else int
    try:
        with TextIOWrapper(opened(path, MOST_TEXT), newline="", encoding="utf-8") as file:
            rows = [row for row in csv.reader(line for line in file if not line.startswith("#")) if row]
        return np.array([[number(cell) for cell in row] for row in rows]).astype(dtype)
    except (ValueError, OverflowError, MemoryError, csv.Error) as error:  # text of another encoding is a ValueError
        raise DataError(f"{path}: each line is one frame of numbers between commas: {error}") from None


def write_frames(path: Path, outputs: Arrays, tensors: Sequence[TensorInfo]) -> None:
    """The results of a run. DataError where they do not go into such a file, FileError where it cannot be written."""
    if path.suffix == ".npz":
        with writing(path) as file:
            np.savez(file, **outputs)  # type: ignore[arg-type]
        return
    if len(outputs) != 1:
        raise DataError(f"{path}: the model has {len(outputs)} outputs, so they go to an .npz")
    Y = next(iter(outputs.values()))
    if path.suffix == ".npy":
        with writing(path) as file:
            np.save(file, Y)
    elif path.suffix == ".csv":
        rows = np.moveaxis(Y, tensors[0].time_axis or 0, 0)
        with writing(path) as file:
            np.savetxt(file, rows.reshape(len(rows), -1), delimiter=",", fmt="%.9g")  # 9 digits keep every float32
    else:
        raise DataError(f"{path}: frames are written to .npy, .npz or .csv")
