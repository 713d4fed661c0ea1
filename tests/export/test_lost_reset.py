"""A GRU that lost its linear_before_reset is found by the producer's name or by the marks of torch's exporter."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from export.graphs import gru_weights, model, node
from streamgru_export.compiler.compile import compile
from streamgru_export.compiler.graph.onnx_reader import read
from streamgru_export.lost_reset import is_of_torch, lost_reset, suspicious_grus, with_linear_before_reset


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.gru = nn.GRU(3, 4, batch_first=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.gru(x)[0]


@pytest.fixture(scope="module", params=["dynamo", "legacy"])
def exported(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, onnx.ModelProto]:
    """nn.GRU by an exporter of torch."""
    path: Path = tmp_path_factory.mktemp("lost") / "gru.onnx"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(Net().eval(), (torch.zeros(1, 5, 3),), path, dynamo=request.param == "dynamo", verbose=False)
    return request.param, onnx.load(path)


def lost(source: onnx.ModelProto) -> onnx.ModelProto:
    """The model with linear_before_reset=0 in its GRUs."""
    copy = onnx.ModelProto()
    copy.CopyFrom(source)
    for gru in (n for n in copy.graph.node if n.op_type == "GRU"):
        next(a for a in gru.attribute if a.name == "linear_before_reset").i = 0
    return copy


def test_what_the_exporters_write_is_right(exported):
    _, source = exported
    assert suspicious_grus(source) == []
    assert [n.from_torch_gru for n in read(source).nodes if n.op_type == "GRU"] == [True]


def test_with_0_in_its_place_it_is_found_by_all_who_ask(exported):
    _, source = exported
    broken = lost(source)
    assert len(suspicious_grus(broken)) == 1
    assert suspicious_grus(with_linear_before_reset(broken)) == []
    with pytest.warns(UserWarning, match="linear_before_reset=0 in a model exported from PyTorch"):
        compile(broken)


def test_the_default_exporters_marks_outlive_the_producers_name(exported):
    exporter, source = exported
    broken = lost(source)
    broken.producer_name = "a tool that writes models anew"
    found = suspicious_grus(broken)
    assert len(found) == (1 if exporter == "dynamo" else 0)  # the older exporter leaves no mark on a node
    assert any("linear_before_reset" in note.text for note in compile_quietly(broken).notes) == bool(found)


def compile_quietly(source: onnx.ModelProto):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return compile(source)


@pytest.mark.parametrize("exported", ["dynamo"], indirect=True)
@pytest.mark.parametrize("key", ["pkg.torch.onnx.fx_node", "pkg.torch.onnx.class_hierarchy", "namespace"])
def test_each_of_the_default_exporters_marks_is_enough(exported, key):
    gru = next(n for n in exported[1].graph.node if n.op_type == "GRU")
    value = next(p.value for p in gru.metadata_props if p.key == key)
    assert is_of_torch("", {key: value})


def test_a_graph_made_by_hand_resets_before_the_product_as_it_likes():
    gru = node("GRU", ["x", "W", "R", "B"], ["Y"], hidden_size=4, linear_before_reset=0)
    source = model([gru], {"x": [5, 1, 3]}, ["Y"], gru_weights(np.random.default_rng(0), 3, 4))
    assert suspicious_grus(source) == []
    assert compile(source).notes == []


@pytest.mark.parametrize("of_torch, attribute, expected", [(1, 0, True), (1, 1, False), (0, 0, False), (0, 1, False)])
def test_the_rule(of_torch, attribute, expected):
    assert lost_reset(bool(of_torch), attribute) is expected
