"""The comparison and the diagnosis: what they measure is what they say."""

import json

import numpy as np
import pytest
import torch

from streamgru_export import zoo
from streamgru_export.recipes import compare, diagnose, family
from streamgru_export.zoo import LanguageModel

SEED = 2


@pytest.fixture(autouse=True)
def _one_thread():
    print(f"seed {SEED}")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def test_every_net_of_the_comparison_has_as_many_parameters():
    for layer in compare.LAYERS:
        net = LanguageModel(59, 32, compare.hidden_size(layer, 59), layer=layer)
        assert sum(p.numel() for p in net.parameters()) == pytest.approx(compare.PARAMETERS, rel=0.02)


@pytest.mark.recipe
def test_the_comparison_is_one_table(tmp_path):
    rows = compare.compare(tmp_path, rounds=5)
    print(compare.table(rows))
    assert [row.layer for row in rows] == list(compare.LAYERS)
    assert all(row.parity for row in rows)
    assert all(row.bits_per_character < 3 for row in rows)
    saved = json.loads((tmp_path / "compare.json").read_text())
    assert [row["bits_per_character"] for row in saved["rows"]] == [row.bits_per_character for row in rows]
    assert (tmp_path / "compare.png").stat().st_size > 0


@pytest.mark.parametrize("name", ["rnn", "gru-residual", "lstm"])
def test_gradient_norms_are_those_of_finite_differences(name):
    net = diagnose.make_net(name, SEED).double()
    torch.manual_seed(SEED)
    x = torch.randn(1, 6, diagnose.INPUTS).double()
    norms = diagnose.gradient_norms(net, x)

    def last(step, delta):
        """y after the last step, where what the step after `step` reads of the lowest cell is moved by delta."""
        h = net.initial_state(1)
        with torch.no_grad():
            for t in range(6):
                y, h = net(x[:, t], h)
                if t == step:
                    h = (*(s + d for s, d in zip(h, delta, strict=False)), *h[len(delta) :])
        return float(y)

    states, size = (2 if name == "lstm" else 1), diagnose.HIDDEN_SIZE
    for k in (1, 4):
        gradient = np.zeros((states, size))
        for i in range(states):
            for j in range(size):
                delta = torch.zeros(states, 1, size).double()
                delta[i, 0, j] = 1e-6
                gradient[i, j] = (last(5 - k, delta) - last(5 - k, -delta)) / 2e-6
        assert norms[k - 1] == pytest.approx(np.linalg.norm(gradient), rel=1e-5)


def test_clipping_bounds_what_explodes():
    before, after = diagnose.clipped_norms(SEED, sequences=5)
    assert max(before) > 100 * diagnose.CLIP
    assert max(after) <= diagnose.CLIP * (1 + 1e-5)


def test_the_figure_and_its_numbers_are_left(tmp_path, monkeypatch):
    monkeypatch.setattr(diagnose, "STEPS", 52)  # the table tells of 50 steps back
    told = []
    data = diagnose.diagnose(tmp_path, told.append, seed=SEED)
    saved = json.loads((tmp_path / "diagnose.json").read_text())
    assert saved == data
    assert set(saved["norms"]) == {name for panel in diagnose.PANELS.values() for name in panel}
    assert all(len(values) == diagnose.STEPS - 1 for values in saved["norms"].values())
    assert (tmp_path / "diagnose.png").read_bytes().startswith(b"\x89PNG")
    assert len(told) == len(saved["norms"]) + 1


ROWS = {
    "gru": "GRU",
    "gru-layer-norm": "parts",
    "LSTMNet": "LSTM",
    "StackedGRU": "GRU",
    "BidirectionalClassifier": "GRU",
}


@pytest.mark.parametrize("name, runs_as", ROWS.items())
def test_a_row_of_the_family_says_what_was_measured(name, runs_as, tmp_path):
    row = family.measure(name, "legacy", tmp_path, steps=50, rounds=2)
    assert (row.cell, row.exporter, row.runs_as) == (name, "legacy", runs_as)
    assert row.holds
    assert 0 < row.error < 2e-6
    assert row.step_us > 0
    assert row.speed_up > 0
    assert family.line(row) in family.table([row])
    assert (tmp_path / f"{name}-legacy.html").stat().st_size > 0


def test_every_member_of_the_zoo_is_in_the_table():
    """But for the parts that others are made of, and Bahdanau's and Luong's common base."""
    nets = {name for name in zoo.__all__ if isinstance(getattr(zoo, name), type)}
    parts = {"Cell", "CellNet", "GateDropout", "Encoder", "EncoderStep", "EncoderDecoder"}
    cells = {type(make(2, 3)).__name__ for make in zoo.CELLS.values()}
    assert nets == {*family.NETS, *family.DECODERS} | parts | cells


@pytest.mark.parametrize("name", family.DECODERS)
def test_an_encoder_decoder_writes_what_torch_writes(name, tmp_path):
    row = family.write_sequences(name, "legacy", tmp_path, inputs=20)
    assert (row.decoder, row.inputs, row.identical) == (name, 20, 20)
    assert row.symbols > 60  # they write something
    assert family.line(row) in family.table([], [row])


def test_the_document_holds_both_tables(tmp_path):
    row = family.FamilyRow("gru", "legacy", "GRU", 2, 1.5e-7, True, 1.25, 9.75)
    written = family.Written("Decoder", "legacy", 500, 499, 7000)
    family.save(tmp_path, [row], [written], 10_000)
    text = (tmp_path / "family.md").read_text()
    assert "| gru | legacy | GRU | 2 | 1.5e-07 | holds | 1.25 | 9.8× |" in text
    assert "| Decoder | legacy | 499 of 500 | 7000 |" in text
    assert "10,000 random frames" in text
    assert json.loads((tmp_path / "family.json").read_text())["rows"][0]["error"] == 1.5e-7
