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
    return setup._sha256_of_arrays(arrays)


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
