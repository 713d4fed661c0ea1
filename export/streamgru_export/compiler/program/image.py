"""Writes a planned program as the bytes of a ``.sgru`` image, and reads them back for looking at
(docs/format.md).

It decides nothing: every number comes from the program. The reader is for tests and for `streamgru info`;
the C library has its own, which trusts nobody.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from streamgru._kernel import ffi, lib
from streamgru.errors import ImageError, ModelError
from streamgru.layout import (
    ALIGN,
    HEADER,
    MAGIC,
    MAX_RECORDS,
    MAX_WORDS,
    NONE,
    OPERATOR,
    SUMMED_FROM,
    TENSOR,
    VERSION,
    Dtype,
    Kind,
    Layout,
    Record,
    Tables,
    header_of,
    rounded,
    shape_of,
    tables_of,
)

from .program import Operator, Program, Tensor


def checksum(data: bytes | bytearray) -> int:
    """The checksum of docs/format.md, by the core."""
    return int(lib.sgru_checksum(ffi.from_buffer(data), len(data)))


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
    if len(tensors) > MAX_RECORDS or len(program.operators) > MAX_RECORDS:
        raise ModelError(f"the program has {len(tensors)} tensors; an image holds {MAX_RECORDS} at most")
    for i, t in enumerate(tensors):
        t.id = i
    strings = _Strings()
    data = _place_constants(tensors)
    words: list[int] = []
    operators = np.zeros(len(program.operators), OPERATOR)
    for record, op in zip(operators, program.operators, strict=True):
        _set_operator(record, op, words, strings)
    lists = len(words)
    words += [t.id for t in (*program.inputs, *program.outputs, *program.states)]
    records = np.zeros(len(tensors), TENSOR)
    for record, t in zip(records, tensors, strict=True):
        _set_tensor(record, t, strings)
    text = json.dumps(dict(about), ensure_ascii=False).encode()
    header = np.zeros((), HEADER)
    _set(
        header, magic=MAGIC, version=VERSION, lists=lists, strings_size=len(strings.data), json_size=len(text),
        data_size=len(data), n_tensors=len(tensors), n_ops=len(operators), n_words=len(words),
        n_inputs=len(program.inputs), n_outputs=len(program.outputs), n_states=len(program.states),
    )  # fmt: skip
    return _joined(
        header, tensors=records.tobytes(), ops=operators.tobytes(), words=np.array(words, "<u4").tobytes(),
        strings=bytes(strings.data), json=text, data=data,
    )  # fmt: skip


def _joined(header: Record, **sections: bytes) -> bytes:
    """The header with the places of the sections, then these in their order."""
    size = rounded(HEADER.itemsize)
    for name, section in sections.items():
        header[name] = size
        size += rounded(len(section))
    header["file_size"] = size
    image = bytearray(b"".join(_filled(part) for part in (header.tobytes(), *sections.values())))
    header["checksum"] = checksum(image[SUMMED_FROM:])
    image[: HEADER.itemsize] = header.tobytes()
    return bytes(image)


def _filled(section: bytes) -> bytes:
    return section.ljust(rounded(len(section)), b"\0")


def _set(record: Record, **fields: object) -> None:
    for name, value in fields.items():
        record[name] = value


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
            data += _filled(raw)
            known.setdefault(raw, t.offset)
        else:
            t.offset = known[raw]
    return bytes(data)


def _set_tensor(record: Record, t: Tensor, strings: _Strings) -> None:
    _set(
        record, dtype=Dtype.of(t.dtype), kind=t.kind, rank=len(t.shape), layout=t.layout, name=strings.add(t.name),
        offset=t.offset, dims=1, reset=NONE if t.reset is None else t.reset.id,
    )  # fmt: skip
    record["dims"][: len(t.shape)] = t.shape


def _set_operator(record: Record, op: Operator, words: list[int], strings: _Strings) -> None:
    ids = [[NONE if t is None else t.id for t in operands] for operands in (op.inputs, op.outputs)]
    lists = [*ids, op.words()]
    if max(map(len, lists)) > MAX_WORDS:
        raise ModelError(f"node '{op.name}' has too many operands for an image")
    n_in, n_out, n_params = map(len, lists)
    name = strings.add(op.name)
    _set(record, code=op.code, n_in=n_in, n_out=n_out, n_params=n_params, first=len(words), name=name)
    words += [word for part in lists for word in part]


def dump(image: bytes) -> dict[str, Any]:
    """An image as dictionaries: ``header``, ``tensors``, ``operators``, ``inputs``, ``outputs``, ``states``,
    ``about``.

    Raises
    ------
    ImageError
        Not an image, of another version, truncated or altered.
    """
    if len(image) < HEADER.itemsize or not image.startswith(MAGIC):
        raise ImageError("not a .sgru image")
    header = header_of(image)
    if header["version"] != VERSION:
        raise ImageError(f"the image has version {header['version']}; {VERSION} is understood: compile the model again")
    whole = header["file_size"] == len(image) and len(image) % ALIGN == 0
    if not whole or checksum(image[SUMMED_FROM:]) != header["checksum"]:
        raise ImageError("the image is truncated or was altered: its size or checksum does not match")
    tables = tables_of(image)
    numbers = {name: int(header[name]) for name in HEADER.names or () if name != "magic"}
    inputs, outputs, states = _ports(tables)
    return {
        "header": {"version": VERSION, "size": len(image),
                   "data_offset": numbers["data"], "data_size": numbers["data_size"]},
        "tensors": [_read_tensor(t, image, numbers["strings"]) for t in tables.tensors],
        "operators": [_read_operator(op, tables, image) for op in tables.operators],
        "inputs": inputs,
        "outputs": outputs,
        "states": states,
        "about": json.loads(image[numbers["json"] : numbers["json"] + numbers["json_size"]]),
    }  # fmt: skip


def _ports(tables: Tables) -> list[list[int]]:
    """The lists of inputs, outputs and states."""
    first, lists = int(tables.header["lists"]), []
    for name in ("n_inputs", "n_outputs", "n_states"):
        end = first + int(tables.header[name])
        lists.append(tables.words[first:end].tolist())
        first = end
    return lists


def _string(image: bytes, at: int) -> str:
    return image[at : image.index(b"\0", at)].decode()


def _read_tensor(t: Record, image: bytes, strings: int) -> dict[str, Any]:
    return {
        "name": _string(image, strings + int(t["name"])), "dtype": Dtype(t["dtype"]), "shape": shape_of(t),
        "kind": Kind(t["kind"]), "layout": Layout(t["layout"]), "offset": int(t["offset"]), "reset": int(t["reset"]),
    }  # fmt: skip


def _read_operator(op: Record, tables: Tables, image: bytes) -> dict[str, Any]:
    inputs, outputs, params = tables.words_of(op)
    name = _string(image, int(tables.header["strings"]) + int(op["name"]))
    return {"code": int(op["code"]), "name": name, "inputs": inputs, "outputs": outputs, "params": params}
