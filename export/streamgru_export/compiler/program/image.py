"""Writes a planned program as the bytes of a ``.sgru`` image, and reads them back for looking at
(docs/format.md).

It decides nothing: every number comes from the program. The reader is for tests and for `streamgru info`;
the C library has its own, which trusts nobody.
"""

from __future__ import annotations

import json
import os
import struct
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from streamgru.errors import ImageError, ModelError

from .program import DTYPE_CODES, NONE, Kind, Layout, Operator, Program, Tensor

MAGIC = b"SGRU\r\n\x1a\n"
VERSION = 1
ALIGN = 64
HEADER = struct.Struct("<8sIIQQ8I8Q")
TENSOR = struct.Struct("<4BIQ8II12x")
OPERATOR = struct.Struct("<4HII16x")
MASK = (1 << 64) - 1
MAX_TENSORS = 1 << 20
MAX_WORDS = 0xFFFF  # of one operator's operands or parameters


def checksum(data: bytes | bytearray) -> int:
    """The image's checksum; by the C library where it is built, else in plain Python (a second for a few
    megabytes)."""
    try:
        from streamgru._kernel import ffi, lib
    except ImportError:
        return _checksum_plain(data)
    return int(lib.sgru_checksum(ffi.from_buffer(data), len(data)))


def _checksum_plain(data: bytes | bytearray) -> int:
    total = 0x53475255
    for word in np.frombuffer(data, "<u8").tolist():
        total = ((total ^ word) * 0x9E3779B97F4A7C15) & MASK
        total ^= total >> 32
    return total


def build(program: Program, about: Mapping[str, Any]) -> bytes:
    """The image of a program that has its addresses.

    Parameters
    ----------
    program : Program
        After :func:`compiler.program.plan.plan_in_place`.
    about : mapping
        The JSON block.

    Raises
    ------
    ModelError
        More tensors or larger operators than the format can hold.
    """
    tensors = program.tensors()
    if len(tensors) > MAX_TENSORS or len(program.operators) > MAX_TENSORS:
        raise ModelError(f"the program has {len(tensors)} tensors; an image holds {MAX_TENSORS} at most")
    for i, t in enumerate(tensors):
        t.id = i
    strings = _Strings()
    data = _place_constants(tensors)
    words: list[int] = []
    operators = b"".join(_operator(op, words, strings) for op in program.operators)
    lists = len(words)
    words += [t.id for t in (*program.inputs, *program.outputs, *program.states)]
    records = b"".join(_tensor(t, strings) for t in tensors)
    text = json.dumps(dict(about), ensure_ascii=False).encode()
    sections = [records, operators, np.array(words, "<u4").tobytes(), bytes(strings.data), text, data]
    offsets, at = [], 2 * ALIGN
    for s in sections:
        offsets.append(at)
        at += _rounded(len(s))
    counts = [len(tensors), len(program.operators), len(words), len(program.inputs), len(program.outputs),
              len(program.states), lists, len(strings.data)]  # fmt: skip
    tail = [*offsets[:5], len(text), offsets[5], len(data)]
    image = bytearray(HEADER.pack(MAGIC, VERSION, 0, at, 0, *counts, *tail))
    for s in sections:
        image += s.ljust(_rounded(len(s)), b"\0")
    struct.pack_into("<Q", image, 24, checksum(image[32:]))
    return bytes(image)


def _rounded(n: int) -> int:
    return -(-n // ALIGN) * ALIGN


class _Strings:
    """The string table; equal strings are stored once."""

    def __init__(self) -> None:
        self.data = bytearray(b"\0")
        self.known = {"": 0}

    def add(self, text: str) -> int:
        text = text.replace("\0", " ")
        if text not in self.known:
            self.known[text] = len(self.data)
            self.data += text.encode("utf-8", "replace") + b"\0"
        return self.known[text]


def _place_constants(tensors: list[Tensor]) -> bytes:
    """The data section; constants of equal bytes share them, but for matrices of 8 bits, which the core wants apart."""
    data = bytearray()
    known: dict[bytes, int] = {}
    for t in tensors:
        if t.kind != Kind.CONSTANT:
            continue
        assert t.data is not None
        raw = np.ascontiguousarray(t.data).tobytes()
        apart = t.layout == Layout.PACKED and t.dtype == np.int8
        if apart or raw not in known:
            t.offset = len(data)
            data += raw.ljust(_rounded(len(raw)), b"\0")
            known.setdefault(raw, t.offset)
        else:
            t.offset = known[raw]
    return bytes(data)


def _tensor(t: Tensor, strings: _Strings) -> bytes:
    dims = [*t.shape, *[1] * (8 - len(t.shape))]
    reset = NONE if t.reset is None else t.reset.id
    kind = (DTYPE_CODES[t.dtype], t.kind, len(t.shape), t.layout)
    return TENSOR.pack(*kind, strings.add(t.name), t.offset, *dims, reset)


def _operator(op: Operator, words: list[int], strings: _Strings) -> bytes:
    first = len(words)
    for operands in (op.inputs, op.outputs):
        words += [NONE if t is None else t.id for t in operands]
    parameters = op.words()
    words += parameters
    counts = (len(op.inputs), len(op.outputs), len(parameters))
    if max(counts) > MAX_WORDS:
        raise ModelError(f"node '{op.name}' has too many operands for an image")
    return OPERATOR.pack(op.code, *counts, first, strings.add(op.name))


def write(image: bytes, path: str | os.PathLike[str]) -> None:
    """Writes a file whole or not at all: to a temporary one in the same folder, which then takes its
    place."""
    target = Path(path)
    fd, temporary = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
    try:
        with os.fdopen(fd, "wb") as file:
            file.write(image)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).chmod(0o644)
        Path(temporary).replace(target)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def dump(image: bytes) -> dict[str, Any]:
    """An image as dictionaries: ``header``, ``tensors``, ``operators``, ``inputs``, ``outputs``, ``states``,
    ``about``.

    Raises
    ------
    ImageError
        Not an image, of another version, truncated or altered.
    """
    if len(image) < HEADER.size or image[:8] != MAGIC:
        raise ImageError("not a .sgru image")
    fields = HEADER.unpack_from(image)
    if fields[1] != VERSION:
        raise ImageError(f"the image has version {fields[1]}; {VERSION} is understood: compile the model again")
    if fields[3] != len(image) or len(image) % ALIGN or checksum(image[32:]) != fields[4]:
        raise ImageError("the image is truncated or was altered: its size or checksum does not match")
    n_tensors, n_ops, n_words, n_in, n_out, n_state, ports, n_strings = fields[5:13]
    at_tensors, at_ops, at_words, at_strings, at_json, json_size, at_data, data_size = fields[13:]
    words = np.frombuffer(image, "<u4", n_words, at_words).tolist()
    strings = image[at_strings : at_strings + n_strings]

    def string(at: int) -> str:
        return strings[at : strings.index(b"\0", at)].decode()

    tensors, operators = [], []
    for i in range(n_tensors):
        dtype, kind, rank, layout, name, offset, *rest = TENSOR.unpack_from(image, at_tensors + TENSOR.size * i)
        place = {"kind": Kind(kind), "layout": Layout(layout), "offset": offset, "reset": rest[8]}
        tensors.append({"name": string(name), "dtype": dtype, "shape": tuple(rest[:rank]), **place})
    for i in range(n_ops):
        code, n_inputs, n_outputs, n_params, first, name = OPERATOR.unpack_from(image, at_ops + OPERATOR.size * i)
        a, b, c = first + n_inputs, first + n_inputs + n_outputs, first + n_inputs + n_outputs + n_params
        lists = {"inputs": words[first:a], "outputs": words[a:b], "params": words[b:c]}
        operators.append({"code": code, "name": string(name), **lists})
    return {
        "header": {"version": fields[1], "size": fields[3], "data_offset": at_data, "data_size": data_size},
        "tensors": tensors,
        "operators": operators,
        "inputs": words[ports : ports + n_in],
        "outputs": words[ports + n_in : ports + n_in + n_out],
        "states": words[ports + n_in + n_out : ports + n_in + n_out + n_state],
        "about": json.loads(image[at_json : at_json + json_size]),
    }
