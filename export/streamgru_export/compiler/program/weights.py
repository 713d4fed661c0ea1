"""Weights of fewer bits: the packed rows of a program as halves, or as bytes with a scale for each row.

What stays float32: everything that is no constant matrix of a product (convolution kernels that slide, biases, tables),
and matrices that are too small to pay (`is_worth_it`) or that a half cannot hold.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from streamgru._types import Array
from streamgru.layout import BLOCK_ROWS, LINE, MAX_COLUMNS_I8, Layout, block_lines, block_lines_i8

from .program import Program, Tensor

LEAST_SIDE, LEAST_SIZE = 16, 1024  # measured: from there on a product of bytes is faster than one of floats
LARGEST_HALF = 65504.0


def convert_in_place(program: Program, weights: str) -> list[Tensor]:
    """Converts every matrix that pays, and returns them; all others stay float32."""
    found = [t for t in program.tensors() if t.layout == Layout.PACKED and t.dtype == np.float32]
    converted = []
    for tensor in found if weights != "f32" else []:
        assert tensor.data is not None
        if is_worth_it(*tensor.shape) and np.isfinite(tensor.data).all():
            (_to_bytes if weights == "i8" else _to_halves)(tensor)
        if tensor.dtype != np.float32:
            converted.append(tensor)
    return converted


def is_worth_it(rows: int, columns: int) -> bool:
    """Whether a matrix is large enough for fewer bits."""
    return min(rows, columns) >= LEAST_SIDE and rows * columns >= LEAST_SIZE


def unpacked(tensor: Tensor) -> Array:
    """The matrix [rows, columns] of packed rows of floats or halves."""
    (rows, columns), data = tensor.shape, tensor.data
    assert data is not None
    whole, lines = rows // BLOCK_ROWS * BLOCK_ROWS, block_lines(columns)
    blocks = data[: whole * lines].reshape(-1, lines, BLOCK_ROWS)[:, :columns].swapaxes(1, 2).reshape(whole, columns)
    rest = data[whole * lines :].reshape(columns, -1).T[: rows - whole]
    return np.concatenate([blocks, rest])


def _to_halves(tensor: Tensor) -> None:
    data = tensor.data
    assert data is not None
    if np.abs(data).max() <= LARGEST_HALF:
        tensor.data, tensor.dtype = data.astype(np.float16), np.dtype(np.float16)


def _to_bytes(tensor: Tensor) -> None:
    if tensor.shape[1] <= MAX_COLUMNS_I8:
        tensor.data, tensor.dtype = packed_bytes(*quantise_rows(unpacked(tensor))), np.dtype(np.int8)


def quantise_rows(matrix: Array) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Each row as integers of -127 to 127 and a scale, symmetric: the largest magnitude becomes 127."""
    scales = (np.abs(matrix).max(axis=1) / 127).astype(np.float32)
    divisor = np.where(scales > 0, scales, 1).astype(np.float64)
    return np.clip(np.rint(matrix / divisor[:, None]), -127, 127).astype(np.int8), scales


def packed_bytes(integers: NDArray[np.int8], scales: NDArray[np.float32]) -> NDArray[np.int8]:
    """Packed rows of 8 bits: for each 16 rows lines of [k / 4][row][k % 4], then sums, scales and what makes the
    number of lines odd."""
    rows, columns = integers.shape
    blocks, lines = -(-rows // BLOCK_ROWS), -(-columns // 4)
    padded = np.zeros((blocks * BLOCK_ROWS, lines * 4), np.int8)
    padded[:rows, :columns] = integers
    image = np.zeros((blocks, block_lines_i8(columns), LINE), np.int8)
    image[:, :lines] = padded.reshape(blocks, BLOCK_ROWS, lines, 4).swapaxes(1, 2).reshape(blocks, lines, LINE)
    sums = -128 * padded.sum(axis=1, dtype=np.int32)
    image[:, lines] = sums.reshape(blocks, BLOCK_ROWS).view(np.int8)
    all_scales = np.zeros(blocks * BLOCK_ROWS, np.float32)
    all_scales[:rows] = scales
    image[:, lines + 1] = all_scales.reshape(blocks, BLOCK_ROWS).view(np.int8)
    return image.reshape(-1)
