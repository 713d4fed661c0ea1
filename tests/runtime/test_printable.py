"""Names of a model that would write to a terminal, where people see them."""

from __future__ import annotations

import warnings

import numpy as np
import onnx
import pytest
from onnx import helper

import streamgru
from export.graphs import model
from runtime.models import gru_onnx
from streamgru._printable import printable
from streamgru.cli import main

EVIL = "\x1b[2Jname\nstreamgru: all is well\r\u202e\x9b"


@pytest.mark.parametrize(
    "text, shown",
    [
        ("plain, größe, 状态", "plain, größe, 状态"),
        ("\x1b[31m", r"\x1b[31m"),
        ("a\nb\tc\r", r"a\nb\tc\r"),
        ("\u202eabc", r"\u202eabc"),
        ("\x9b31m\x7f", r"\x9b31m\x7f"),
        ("\udcff", r"\udcff"),
    ],
)
def test_what_does_not_print_is_escaped(text, shown):
    assert printable(text) == shown


def test_newlines_may_be_kept():
    assert printable("a\nb\x1b", keep="\n") == "a\nb\\x1b"


def is_safe(text):
    return all(c.isprintable() or c == "\n" for c in text) and "\nstreamgru: all is well" not in text


def evil_model(op="GRU"):
    proto, _ = gru_onnx()
    proto.graph.node[0].name = EVIL
    proto.graph.input[0].name = proto.graph.node[0].input[0] = EVIL
    proto.graph.output[0].name = proto.graph.node[0].output[0] = f"y{EVIL}"
    proto.producer_name = "pytorch"
    for attribute in proto.graph.node[0].attribute:
        if attribute.name == "linear_before_reset":
            attribute.i = 0  # a warning that names the node
    if op != "GRU":
        proto = model([helper.make_node(op, ["X"], ["Y"], name=EVIL)], {"X": [2, 2]}, ["Y"], {})
    return proto


def test_in_messages_and_descriptions(tmp_path):
    with pytest.warns(UserWarning, match="linear_before_reset=0") as told:
        loaded = streamgru.Model(streamgru.compile(evil_model().SerializeToString()).image)
    assert all(is_safe(str(warning.message)) for warning in told)
    assert loaded.inputs[0].name == EVIL  # the name itself is the model's
    assert is_safe(repr(loaded))
    assert is_safe(str(loaded.inputs[0]))
    with pytest.raises(streamgru.ShapeError) as raised:
        loaded.stream().step({EVIL: np.zeros(3, np.float32)})
    assert is_safe(str(raised.value))
    with pytest.raises(streamgru.ModelError) as raised:
        streamgru.compile(evil_model("Det").SerializeToString())
    assert is_safe(str(raised.value))


@pytest.mark.parametrize("command", [["info"], ["parity", "--steps", "3"], ["compile"]])
def test_on_the_command_line(command, tmp_path, capsys):
    path = tmp_path / "evil.onnx"
    onnx.save(evil_model(), path)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        main([command[0], str(path), *command[1:]])
    assert all(is_safe(str(warning.message)) for warning in told)
    shown = capsys.readouterr()
    assert is_safe(shown.out)
    assert is_safe(shown.err)


def test_in_a_certificate(tmp_path):
    path = tmp_path / "evil.onnx"
    onnx.save(evil_model(), path)
    report = streamgru.parity(path, steps=5)
    assert report.warnings  # they name the node
    assert is_safe(report.text())
    assert is_safe(report.line)
    assert "\n" not in report.line
    report.save(tmp_path)
    page = (tmp_path / "parity.html").read_text(encoding="utf-8")
    assert not {"\x1b", "\u202e", "\x9b"} & set(page)
