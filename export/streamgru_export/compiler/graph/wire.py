"""How much memory a file takes once protobuf has parsed it, from its bytes alone: two bytes can be a node, which is 150
bytes in memory. It follows the tags and lengths of the wire format, and jumps over what the weights are.

The wire format: https://protobuf.dev/programming-guides/encoding
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

import onnx
from google.protobuf.descriptor import Descriptor, FieldDescriptor

from streamgru.errors import ModelError

MAX_ENTRIES = 2_000_000  # fields of a file: nodes, names, attributes, dimensions
UNSEEN = 2**23  # bytes of a file that may be anything: no more than 90 times as much in memory
MESSAGE, TEXT, NUMBER = 200, 48, 24  # bytes in memory of an entry, with the lists that grew until it had its place

VARINT, FIXED64, LENGTH, FIXED32 = 0, 1, 2, 5
FIXED = {FIXED64: 8, FIXED32: 4}
AS_LONG = {FieldDescriptor.TYPE_FLOAT, FieldDescriptor.TYPE_DOUBLE}  # packed numbers that stay as long as they are


Field = tuple[int, int, Descriptor | None]  # bytes in memory: of one, for each byte of it; what it is made of
UNKNOWN: Field = (TEXT, 1, None)


class _EndsEarlyError(Exception):
    """The bytes are no such format: protobuf says so itself."""


def check_size(data: bytes, max_bytes: int) -> None:
    """Whether the file may be parsed.

    Raises
    ------
    ModelError
        It has too many entries, or would take more than `max_bytes`.
    """
    if len(data) <= UNSEEN:
        return
    taken = entries = 0
    try:
        for size in _entries(data):
            taken, entries = taken + size, entries + 1
            if entries > MAX_ENTRIES or taken > max_bytes:
                raise ModelError(f"the file has more than {MAX_ENTRIES} entries, or they take more than {max_bytes} "
                                 "bytes of memory")  # fmt: skip
    except (_EndsEarlyError, IndexError):
        return


def _entries(data: bytes) -> Iterator[int]:
    """What each field of a model takes in memory, as far as the bytes are well formed."""
    fields = _fields(onnx.ModelProto.DESCRIPTOR)
    waiting = [(0, len(data), fields)]
    while waiting:
        at, end, fields = waiting.pop()
        while at < end:
            tag = data[at]
            tag, at = (tag, at + 1) if tag < 128 else _varint(data, at)
            kind = tag & 7
            if kind == VARINT:
                at = _varint(data, at)[1]
                yield NUMBER
            elif kind in FIXED:
                at += FIXED[kind]
                yield NUMBER
            elif kind == LENGTH:
                size = data[at]
                size, at = (size, at + 1) if size < 128 else _varint(data, at)
                if size > end - at:
                    raise _EndsEarlyError
                taken, times, inner = fields.get(tag >> 3, UNKNOWN)
                yield taken + times * size
                if inner is not None:
                    waiting.append((at + size, end, fields))
                    end, fields = at + size, _fields(inner)
                else:
                    at += size
            else:
                raise ModelError("the file is no ONNX model: it has a group, which protobuf gave up long ago")


@lru_cache
def _fields(message: Descriptor) -> dict[int, Field]:
    """The fields of a message by their numbers."""
    return {number: _field(field) for number, field in message.fields_by_number.items()}


def _field(field: FieldDescriptor) -> Field:
    if field.message_type is not None:
        return MESSAGE, 0, field.message_type
    if field.type in (FieldDescriptor.TYPE_STRING, FieldDescriptor.TYPE_BYTES):
        return UNKNOWN
    return NUMBER, 1 if field.type in AS_LONG else NUMBER, None  # of numbers that are packed one may be a byte


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """A number of seven bits a byte, and where it ends."""
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
        shift += 7
        if shift > 63:
            raise _EndsEarlyError
