"""What a file takes in memory, told from its bytes: small ones and real ones pass, nests of empty entries do not."""

from __future__ import annotations

import os
import resource
import sys

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from export.graphs import model
from streamgru.errors import ModelError
from streamgru_export.compiler.graph import wire
from streamgru_export.compiler.graph.onnx_reader import read
from streamgru_export.compiler.graph.wire import check_size

LIMIT = 2**23


def varint(number):
    out = b""
    while number > 127:
        out, number = out + bytes([number & 127 | 128]), number >> 7
    return out + bytes([number])


def field(number, payload):
    return varint(number << 3 | 2) + varint(len(payload)) + payload


GRAPH, NODE, ATTRIBUTE, TENSOR = 7, 1, 5, 5
MANY = 2**17
ENTRIES = {
    "nodes": field(GRAPH, field(NODE, b"") * MANY),
    "initializers": field(GRAPH, field(TENSOR, b"") * MANY),
    "infos": field(GRAPH, field(13, b"") * MANY),
    "inputs of a node": field(GRAPH, field(NODE, field(1, b"") * 4 * MANY)),
    "numbers of an attribute": field(GRAPH, field(NODE, field(ATTRIBUTE, field(8, bytes(16 * MANY))))),
    "numbers of a tensor": field(GRAPH, field(TENSOR, field(7, bytes(16 * MANY)))),
    "functions": field(25, b"") * MANY,
    "what nobody knows": field(1023, b"") * 4 * MANY,
    "numbers one by one": field(GRAPH, field(TENSOR, b"\x38\x01" * 4 * MANY)),
}


@pytest.fixture(autouse=True)
def everything_is_looked_at(monkeypatch):
    monkeypatch.setattr(wire, "UNSEEN", 0)


@pytest.mark.parametrize("kind", ENTRIES)
def test_small_entries_that_are_many_are_refused(kind):
    with pytest.raises(ModelError, match="they take more than 8388608 bytes of memory"):
        check_size(ENTRIES[kind], LIMIT)


def test_too_many_entries_are_refused(monkeypatch):
    data = model([helper.make_node("Relu", ["x"], ["y"])], {"x": [4]}, ["y"]).SerializeToString()
    monkeypatch.setattr(wire, "MAX_ENTRIES", 20)
    check_size(data[:8], LIMIT)
    with pytest.raises(ModelError, match="the file has more than 20 entries"):
        check_size(data, LIMIT)


def test_weights_are_jumped_over():
    """They take what they are long, in either form."""
    for tensor in (helper.make_tensor("w", TensorProto.FLOAT, [2**20], bytes(2**22), raw=True),
                   helper.make_tensor("w", TensorProto.FLOAT, [2**20], np.zeros(2**20, np.float32))):  # fmt: skip
        made = model([helper.make_node("Relu", ["x"], ["y"])], {"x": [4]}, ["y"])
        made.graph.initializer.append(tensor)
        data = made.SerializeToString()
        check_size(data, 2**22 + 2**12)
        with pytest.raises(ModelError):
            check_size(data, 2**22)


@pytest.mark.skipif(sys.platform != "linux", reason="a process's memory as Linux counts it")
@pytest.mark.parametrize("kind", ENTRIES)
def test_the_estimate_is_no_less_than_what_protobuf_takes(kind, tmp_path):
    data, answer = ENTRIES[kind], tmp_path / "answer"
    child = os.fork()
    if child == 0:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        model = onnx.load_model_from_string(data)
        taken = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
        answer.write_text(f"{taken} {model.ByteSize()}", encoding="utf-8")
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    taken = int(answer.read_text(encoding="utf-8").split()[0])
    print(f"{len(data)} bytes take {taken}")
    with pytest.raises(ModelError):
        check_size(data, taken - len(data))


@pytest.mark.parametrize("data", [b"\x3a\x05\x0a", b"\xff" * 12, b"\x3a", b"\x0d\x01"], ids=repr)
def test_what_is_no_protobuf_is_left_to_protobuf(data):
    check_size(data, LIMIT)
    with pytest.raises(ModelError, match="not an ONNX model"):
        read(data)


def test_a_group_is_refused():
    """Nobody writes one, and what lies behind it could not be followed."""
    group = bytes([40 << 3 & 127 | 3 | 128, 40 << 3 >> 7, 40 << 3 & 127 | 4 | 128, 40 << 3 >> 7])
    onnx.ModelProto.FromString(group)
    with pytest.raises(ModelError, match="it has a group"):
        check_size(group, LIMIT)
