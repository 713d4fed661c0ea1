"""Whatever a caller can cause is an error of ours, and says what would be right."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

import streamgru
from runtime.models import gru_model, gru_onnx

LOADS = {
    "load": streamgru.load,
    "whole": lambda path: streamgru.load(path, mode="whole"),
    "compile": lambda path: streamgru.compile(path),
    "parity": lambda path: streamgru.parity(path),
    "session": lambda path: streamgru.InferenceSession(path),
}


@pytest.fixture(scope="module")
def model():
    return gru_model()


@pytest.mark.parametrize("call", LOADS)
@pytest.mark.parametrize(
    "path",
    ["absent.onnx", "x" * 300, "x" * 5000, "loop", "file/inside", "", ".", "a\0b", "\udcff.onnx"],
    ids=["absent", "long name", "long path", "loop of links", "inside of a file", "empty", "folder", "NUL", "no UTF-8"],
)
def test_a_path_that_leads_nowhere(call, path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(streamgru.StreamgruError):
        LOADS[call](path)


@pytest.mark.parametrize("call", ["load", "whole", "parity"])
@pytest.mark.parametrize("path", [None, 5, [], b"abc", object()])
def test_what_is_no_path(call, path):
    with pytest.raises(streamgru.StreamgruError):
        LOADS[call](path)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"block": 0}, "block is 1 to"),
        ({"block": -1}, "block is 1 to"),
        ({"block": 1.5}, "block is a whole number of 1 to"),
        ({"block": "2"}, "block is a whole number of 1 to"),
        ({"block": 2**62}, "block is 1 to"),
        ({"threads": 0}, "threads is 1 to"),
        ({"threads": 10_000}, "the processors that this process may use"),
        ({"threads": "2"}, "threads is a whole number"),
        ({"nonfinite": "refusing"}, "did you mean 'refuse'?"),
        ({"nonfinite": None}, "one of 'refuse', 'pass' was expected"),
        ({"thread": 2}, "has no option 'thread'; did you mean 'threads'?"),
        ({"zzz": 2}, "has no option 'zzz'"),
    ],
)
def test_options_of_a_stream(model, options, message):
    with pytest.raises(streamgru.OptionError) as raised:
        model.stream(**options)
    assert message in str(raised.value)


@pytest.mark.parametrize(
    "capacity, options, message",
    [
        (0, {}, "capacity is 1 to"),
        (2**40, {}, "capacity is 1 to"),
        ("many", {}, "capacity is a whole number"),
        (4, {"lanes": 0}, "lanes is 1 to"),
        (4, {"lanes": 2.5}, "lanes is a whole number"),
        (4, {"threads": 10_000}, "threads is 1 to"),
        (4, {"nonfinite": "no"}, "one of 'refuse', 'pass'"),
        (4, {"lane": 1}, "did you mean 'lanes'?"),
    ],
)
def test_options_of_a_pool(model, capacity, options, message):
    with pytest.raises(streamgru.OptionError) as raised:
        model.pool(capacity, **options)
    assert message in str(raised.value)


def test_options_of_load(tmp_path):
    path = tmp_path / "gru.onnx"
    onnx.save(gru_onnx()[0], path)
    with pytest.raises(streamgru.OptionError, match=r"load has no option 'weigths'; did you mean 'weights'?"):
        streamgru.load(path, weigths="i8")
    with pytest.raises(
        streamgru.OptionError, match=r"mode='hole': one of 'stream', 'whole' was expected; did you mean"
    ):
        streamgru.load(path, mode="hole")
    with pytest.raises(streamgru.OptionError, match="takes no 'batch'"):
        streamgru.load(path, mode="whole", batch=3)
    with pytest.raises(streamgru.StreamgruError, match="'f32', 'f16'"):
        streamgru.load(path, weights="int8")


def test_numpys_numbers_are_numbers(model):
    with model.stream(block=np.int64(2), threads=np.int32(1)) as stream, model.pool(np.uint8(3)) as pool:
        assert (stream.clone().isa, pool.capacity) == (stream.isa, 3)


def test_an_error_of_an_option_is_what_python_would_raise():
    assert issubclass(streamgru.OptionError, ValueError)
    assert issubclass(streamgru.OptionError, TypeError)
    assert issubclass(streamgru.DataError, ValueError)
