"""What a certificate names: the digests tell apart whatever differs, and nothing else."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
import torch

import streamgru
from runtime.models import gru_image
from streamgru_export.parity import setup

VALUES = np.arange(6, dtype=np.float32).reshape(2, 3)


def digest(**arrays):
    return setup._sha256_of(setup._of_array(name, array) for name, array in arrays.items())


def test_the_same_arrays_have_the_same_digest():
    assert digest(w=VALUES) == digest(w=VALUES.copy())
    assert len(digest(w=VALUES)) == 64


@pytest.mark.parametrize(
    "other",
    [
        {"v": VALUES},
        {"w": VALUES.view(np.int32)},
        {"w": VALUES.view(">f4")},
        {"w": VALUES.reshape(3, 2)},
        {"w": VALUES.reshape(6)},
        {"w": VALUES.reshape(1, 2, 3)},
    ],
    ids=["name", "dtype", "byte order", "shape", "rank", "an axis of one"],
)
def test_the_same_bytes_under_another_description_have_another_digest(other):
    assert [v.tobytes() for v in other.values()] == [VALUES.tobytes()]
    assert digest(**other) != digest(w=VALUES)


def test_other_values_have_another_digest():
    altered = VALUES.copy()
    altered[1, 2] = np.nextafter(altered[1, 2], np.float32(9))
    assert digest(w=altered) != digest(w=VALUES)
    assert digest(w=np.float32([-0.0])) != digest(w=np.float32([0.0]))


def test_what_lies_in_memory_in_another_way_is_the_same():
    assert digest(w=np.asfortranarray(VALUES)) == digest(w=VALUES)
    assert digest(w=np.repeat(VALUES, 2, axis=1)[:, ::2]) == digest(w=VALUES)


def test_every_array_counts_and_which_is_which():
    two = digest(w=VALUES, v=VALUES + 1)
    assert two not in (digest(w=VALUES), digest(v=VALUES + 1), digest(w=VALUES + 1, v=VALUES))
    assert digest(w=VALUES[:1], v=VALUES[1:]) != digest(w=VALUES)


def test_the_order_of_the_names_does_not_count():
    assert digest(w=VALUES, v=VALUES + 1) == digest(v=VALUES + 1, w=VALUES)


def test_the_order_of_the_bytes_does_not_count():
    assert digest(w=VALUES.astype(">f4")) == digest(w=VALUES)
    assert digest(w=np.arange(3, dtype=">i8")) == digest(w=np.arange(3))


def test_a_name_cannot_be_taken_for_data_nor_data_for_a_name():
    """Whatever ends where: the same bytes, cut at another place."""
    octets = np.frombuffer(b"b uint8 (2,)ab", np.uint8)
    sets = [
        {"a": octets},
        {"a": octets[:0], "b": octets[-2:]},
        {"a uint8 (14,)": octets[:0]},
        {"a b": octets, "c": octets},
        {"a": octets, "b c": octets},
        {'a", "uint8': octets},
        {"a\x00": octets},
        {"a\udc80": octets},
        {},
    ]
    assert len({digest(**arrays) for arrays in sets}) == len(sets)


class Entries(torch.nn.Module):
    """A module with these in its state dict."""

    def __init__(self, **entries):
        super().__init__()
        self.entries = entries

    def state_dict(self, *args, **kwargs):
        return self.entries


def module_digest(**entries):
    source = setup.Source("m", streamgru.Model(gru_image()), None)
    return setup.hashes(source, {"x": VALUES}, Entries(**entries), None)["module"]


DTYPES = (torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int8, torch.bool, torch.complex64)


def test_modules_of_every_dtype_have_a_digest_of_their_own():
    ones = torch.ones(2, 3)
    found = [module_digest(w=ones.to(dtype)) for dtype in (*DTYPES, torch.float8_e4m3fn, torch.float8_e5m2)]
    assert len(set(found)) == len(found)
    assert module_digest(w=ones.to(torch.bfloat16)) == found[3]
    assert module_digest(w=ones.to(torch.bfloat16) * 1.0078125) != found[3]  # the next one up


def test_a_tensor_and_an_array_of_the_same_numbers_have_the_same_digest():
    assert module_digest(w=torch.from_numpy(VALUES.copy())) == digest(w=VALUES)
    assert module_digest(w=torch.from_numpy(VALUES.T.copy()).T) == digest(w=VALUES)
    assert module_digest(w=torch.tensor(2.5)) == digest(w=np.array(2.5, np.float32))


def test_a_state_dict_may_hold_what_is_no_dense_tensor():
    sparse = torch.eye(3).to_sparse()
    entries = ({"w": sparse}, {"w": sparse * 2}, {"w": "text"}, {"w": {"step": 1}}, {"w": {"step": 2}}, {"w": None})
    assert len({module_digest(**each) for each in entries}) == len(entries)


def test_a_certificate_tells_modules_of_the_same_bytes_apart():
    """Two modules whose state dicts differ in names alone, or in the shape alone."""

    class Holds(torch.nn.Module):
        def __init__(self, name, *shape):
            super().__init__()
            self.register_buffer(name, torch.arange(6.0).reshape(shape))

    source = setup.Source("m", streamgru.Model(gru_image()), None)
    modules = (Holds("a", 2, 3), Holds("b", 2, 3), Holds("a", 3, 2), Holds("a", 2, 3))
    found = [setup.hashes(source, {"x": VALUES}, module, None) for module in modules]
    a, b, turned, again = (hashes["module"] for hashes in found)
    assert a == again
    assert len({a, b, turned}) == 3


def test_the_digests_of_files_are_those_of_their_bytes(tmp_path):
    onnx, weights = tmp_path / "m.onnx", tmp_path / "w.pt"
    onnx.write_bytes(b"the graph")
    weights.write_bytes(b"the weights")
    image = gru_image()
    found = setup.hashes(setup.Source("m", streamgru.Model(image), onnx), {"x": VALUES}, None, weights)
    for name, data in {"onnx": b"the graph", "sgru": image, "weights": b"the weights"}.items():
        assert found[name] == hashlib.sha256(data).hexdigest()
    assert set(found) == {"onnx", "sgru", "weights", "frames"}
