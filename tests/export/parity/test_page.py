"""The page of a parity report: whole, self-contained, and about this report."""

from __future__ import annotations

import base64
import re
import sys
from dataclasses import replace
from html.parser import HTMLParser
from xml.etree import ElementTree

import numpy as np
import pytest
import torch

import streamgru
from streamgru_export import export
from streamgru_export.parity.page import render
from streamgru_export.parity.plots import POINTS, thinned
from streamgru_export.zoo import GRUNet

SEED = 5
VOID = {"meta", "img"}


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    torch.manual_seed(SEED)
    net = GRUNet(3, 12, 2).eval()
    path = tmp_path_factory.mktemp("report") / "net.onnx"
    export(net, (torch.zeros(1, 1, 3), net.initial_state()), path, stream="step", exporter="legacy")
    return streamgru.parity(path, net, steps=50)


class Page(HTMLParser):
    """Collects tags, attributes and text; fails on tags that do not nest."""

    def __init__(self, html):
        super().__init__()
        self.open, self.tags, self.attributes, self.text = [], [], [], ""
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, name, value) for name, value in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] != "style":
            self.text += data


def test_the_page_needs_nothing_else(report):
    html = render(report)
    page = Page(html)
    assert {"script", "link", "iframe", "object"}.isdisjoint(page.tags)
    sources = [value for _, name, value in page.attributes if name in ("src", "href")]
    assert sources
    assert all(source.startswith("data:") for source in sources)
    assert not re.search(r"url\(|@import|https?://", html)


def test_the_page_has_three_plots_that_are_svg(report):
    images = [value for tag, name, value in Page(render(report)).attributes if (tag, name) == ("img", "src")]
    assert len(images) == 3
    for image in images:
        prefix, _, data = image.partition(",")
        assert prefix == "data:image/svg+xml;base64"
        assert ElementTree.fromstring(base64.b64decode(data)).tag.endswith("svg")


def test_the_page_tells_what_the_report_holds(report):
    text = Page(render(report)).text
    assert "Parity holds" in text
    assert "net.onnx" in text
    for difference in report.differences:
        assert difference.candidate in text
        assert f"{difference.max_abs:.2e}" in text
    for value in (*report.hashes.values(), *report.environment.values(), *report.not_compared.values()):
        assert value in text
    for timing in report.latency:
        assert f"{timing.median_us:.2f}" in text


def test_a_failure_says_why(report):
    failed = replace(report, verdict="does not hold", reasons=("float64 oracle: off by 0.27",), warnings=("a GRU",))
    page = Page(render(failed))
    assert "Parity does not hold" in page.text
    assert "float64 oracle: off by 0.27" in page.text
    assert "Warning. a GRU" in page.text


def test_a_page_says_how_far_each_was_compared(report):
    subjects = tuple(
        replace(s, reached=7, compared=7, ended="its time limit of 3 s") if s.name == "float64 oracle" else s
        for s in report.subjects
    )
    partial = replace(
        report, verdict="partial", reasons=("it ended",), caveats=("time was not tried",), subjects=subjects
    )
    text = Page(render(partial)).text
    assert "Parity is partial" in text
    assert "7 of 50" in text
    assert "ended: its time limit of 3 s" in text
    assert "Time was not tried." in text
    assert " (" not in text.partition("All pairs")[2].partition("Error over time")[0].partition("asked for.")[2]


def test_pairs_of_fewer_steps_say_how_many(report):
    (pair, *others) = report.pairs
    short = replace(pair, outputs=tuple(replace(output, steps=min(output.steps, 7)) for output in pair.outputs))
    text = Page(render(replace(report, pairs=(short, *others)))).text
    assert f"{pair.max_abs:.1e} (7)" in text


def test_the_page_has_the_whole_in_one_call(report):
    (check,) = (check for check in report.axes if check.taken_for == "time")
    text = Page(render(report)).text
    assert "The whole in one call" in text
    assert check.axes in text
    assert f"{check.scaled:.2e}" in text


def test_names_from_a_model_cannot_become_markup(report):
    evil = '<script>alert("1")</script>'
    page = Page(
        render(
            replace(report, model=evil, warnings=(evil,), notes=(evil,), not_compared={evil: evil}, hashes={evil: evil})
        )
    )
    assert "script" not in page.tags
    assert page.text.count(evil) >= 5


def test_a_report_without_a_reference_still_makes_a_page(report):
    alone = {name: trace for name, trace in report.traces.items() if name.startswith("streamgru")}
    bare = replace(report, reference=None, differences=(), checks=(), latency=(), traces=alone)
    assert "nothing" in Page(render(bare)).text


@pytest.mark.parametrize("value", [np.nan, np.inf, 0.0], ids=str)
def test_a_run_that_is_all_one_value_still_makes_a_page(value, report):
    steps, error = report.differences[0].per_step
    difference = replace(report.differences[0], per_step=(steps, np.full_like(error, value)))
    traces = {
        name: replace(trace, values={n: np.full_like(v, value) for n, v in trace.values.items()})
        for name, trace in report.traces.items()
    }
    Page(render(replace(report, differences=(difference,), traces=traces)))


def test_the_page_is_saved_as_utf_8(report, tmp_path):
    report.save_html(tmp_path / "report.html")
    assert (tmp_path / "report.html").read_bytes().decode("utf-8") == render(report)


def test_without_matplotlib_the_page_is_refused_kindly(report, tmp_path, monkeypatch):
    for name in ("streamgru_export.parity.page", "streamgru_export.parity.plots"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(streamgru.ParityError, match=r"matplotlib.*pip install"):
        report.save_html(tmp_path / "report.html")
    assert not (tmp_path / "report.html").exists()


def test_a_long_curve_keeps_its_peaks():
    y = np.zeros(100_000)
    y[[0, 12_345, 99_999]] = 1, 2, 3
    x, kept = thinned(np.arange(len(y)), y)
    assert len(x) == len(kept) == POINTS
    assert sorted(kept)[-3:] == [1, 2, 3]
    peaks = x[kept > 0]
    assert np.all(np.abs(peaks - [0, 12_345, 99_999]) <= len(y) / POINTS)
