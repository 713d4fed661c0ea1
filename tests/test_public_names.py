"""What people import: every public name of 0.1 is where it was."""

from __future__ import annotations

from importlib import import_module

import pytest

import streamgru
import streamgru_export

OF_0_1 = {
    "streamgru": [
        "ExportError", "ImageError", "InferenceSession", "Model", "ModelError", "NodeArg", "NonFiniteError",
        "ParityError", "ParityReport", "Pool", "ShapeError", "SlotError", "StateError", "Stream", "StreamgruError",
        "TensorInfo", "WholeModel", "available_isas", "export", "isa", "load", "parity", "set_isa", "__version__",
    ],
    "streamgru_export": ["Compiled", "ExportResult", "compile", "export"],
    "streamgru.cli": ["main"],
    "streamgru.decode": ["Hypothesis", "SequenceWriter", "draw", "log_softmax"],
    "streamgru.denoise": ["Bands", "Denoiser", "read_wav", "write_wav"],
    "streamgru.errors": ["ModelError", "StreamgruError"],
    "streamgru_export.zoo": [
        "AdditiveAttentionDecoder", "BandGains", "BatchNormGRUCell", "BidirectionalClassifier", "CANDIDATES", "CELLS",
        "Cell", "CellNet", "Decoder", "DotAttentionDecoder", "Encoder", "EncoderDecoder", "EncoderStep", "GRUCell",
        "GRUNet", "GateDropout", "GateDropoutGRUCell", "JointGRUCell", "LSTMCell", "LSTMNet", "LanguageModel",
        "LayerNormGRUCell", "OutputGateGRUCell", "RNNCell", "RNNNet", "ResidualGRUCell", "StackedGRU",
    ],
    "streamgru_export.recipes": ["RECIPES", "train"],
}  # fmt: skip


@pytest.mark.parametrize("module, name", [(module, name) for module, names in OF_0_1.items() for name in names])
def test_a_name_of_0_1_is_there(module, name):
    assert hasattr(import_module(module), name)


@pytest.mark.parametrize("module", [streamgru, streamgru_export], ids=lambda module: module.__name__)
def test_what_is_listed_is_there_and_is_told_to_whoever_looks(module):
    assert all(hasattr(module, name) for name in module.__all__)
    assert set(module.__all__) <= set(dir(module))
    assert module.__all__ == sorted(module.__all__)


def test_the_workshops_names_are_one_thing_under_two_roofs():
    assert streamgru.compile is streamgru_export.compile
    assert streamgru.export is streamgru_export.export


def test_a_name_that_there_is_not():
    with pytest.raises(AttributeError, match="has no attribute 'lode'"):
        _ = streamgru.lode
