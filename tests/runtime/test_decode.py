"""Decoding: the loops write what the equations say. Expected sequences come from the torch module, asked one symbol
at a time, and from trying all sequences."""

import itertools

import numpy as np
import pytest
import torch

import streamgru
import streamgru_export
from streamgru.decode import Hypothesis, SequenceWriter, draw, log_softmax
from streamgru_export.zoo import (
    AdditiveAttentionDecoder,
    Decoder,
    DotAttentionDecoder,
    Encoder,
    EncoderDecoder,
    EncoderStep,
)

SEED = 5
SOURCES, TARGETS = 9, 6  # symbols
START, END = 0, 1
LONGEST_SOURCE, MAX_LENGTH = 8, 7
DECODERS = [Decoder, AdditiveAttentionDecoder, DotAttentionDecoder]


def make_net(kind):
    print(f"torch seed {SEED}")
    torch.manual_seed(SEED)
    net = EncoderDecoder(Encoder(SOURCES, 4, 12), kind(TARGETS, 4, 12)).eval()
    for weight in net.parameters():
        weight.data *= 3  # decided opinions: untrained nets find all symbols about as probable
    return net


def make_writer(net, folder, exporter="legacy"):
    encoder = EncoderStep(net.encoder)
    options = {"stream": "step", "exporter": exporter}
    streamgru_export.export(
        encoder, encoder.example(), folder / "encoder.onnx", output_names=encoder.OUTPUTS, **options
    )
    streamgru_export.export(
        net.decoder,
        net.decoder.example(LONGEST_SOURCE),
        folder / "decoder.onnx",
        output_names=["logits", "h_out"],
        **options,
    )
    models = streamgru.load(folder / "encoder.onnx"), streamgru.load(folder / "decoder.onnx", mode="whole", length=1)
    return SequenceWriter(*models, start=START, end=END, max_length=MAX_LENGTH)


@pytest.fixture(scope="module", params=DECODERS, ids=lambda kind: kind.__name__)
def both(request, tmp_path_factory):
    net = make_net(request.param)
    return net, make_writer(net, tmp_path_factory.mktemp("models"))


def sources(count):
    rng = np.random.default_rng(SEED)
    return [rng.integers(0, SOURCES, rng.integers(1, LONGEST_SOURCE + 1)).tolist() for _ in range(count)]


def log_probabilities(net, source, symbols):
    """log p of each symbol of a sequence given those before it, by the module: [len(symbols)]."""
    with torch.no_grad():
        u = torch.tensor([[START, *symbols[:-1]]])
        logits = net(torch.tensor([source]), torch.tensor([len(source)]), u)[0]
    return torch.log_softmax(logits.double(), -1)[torch.arange(len(symbols)), torch.tensor(symbols)]


def greedy(net, source):
    symbols = []
    while len(symbols) < MAX_LENGTH:
        with torch.no_grad():
            u = torch.tensor([[START, *symbols]])
            logits = net(torch.tensor([source]), torch.tensor([len(source)]), u)[0, -1]
        symbol = int(logits.argmax())
        if symbol == END:
            break
        symbols.append(symbol)
    return tuple(symbols)


def full(hypothesis):
    return [*hypothesis.symbols, END] if hypothesis.complete else list(hypothesis.symbols)


def test_greedy_writes_what_the_module_would(both):
    net, writer = both
    expected = [greedy(net, source) for source in sources(60)]
    assert [writer.greedy(source).symbols for source in sources(60)] == expected
    assert len(set(expected)) > 3  # not the same answer to everything


@pytest.mark.slow
@pytest.mark.parametrize("kind", DECODERS)
def test_greedy_writes_what_the_module_would_500_times(kind, tmp_path):
    net = make_net(kind)
    writer = make_writer(net, tmp_path, exporter="dynamo")
    for source in sources(500):
        assert writer.greedy(source).symbols == greedy(net, source)


def test_log_probabilities_are_the_modules(both):
    net, writer = both
    for source in sources(10):
        for found in (writer.greedy(source), writer.sample(source, seed=3), *writer.beam(source, width=3)):
            expected = float(log_probabilities(net, source, full(found)).sum())
            assert found.log_probability == pytest.approx(expected, abs=1e-4)  # float32, weights of 3


def test_a_beam_of_one_is_greedy(both):
    _, writer = both
    for source in sources(20):
        assert writer.beam(source, width=1) == [writer.greedy(source)]


def test_a_wide_beam_finds_the_best_of_all_sequences(both):
    net, _ = both
    writer = SequenceWriter(both[1]._encoder.model, both[1]._decoder.model, start=START, end=END, max_length=3)
    for source in sources(3):
        complete = [[*s, END] for n in range(3) for s in itertools.product(set(range(TARGETS)) - {END}, repeat=n)]
        unfinished = [list(s) for s in itertools.product(set(range(TARGETS)) - {END}, repeat=3)]
        best = max(complete + unfinished, key=lambda s: float(log_probabilities(net, source, s).sum()))
        assert full(writer.beam(source, width=TARGETS**3)[0]) == best


def test_samples_are_as_frequent_as_they_are_probable(both):
    _, writer = both
    source = sources(1)[0]
    best = writer.beam(source, width=1)[0]
    p = np.exp(best.log_probability)
    drawn = np.mean([writer.sample(source, seed=seed) == best for seed in range(400)])
    assert abs(drawn - p) < 5 * np.sqrt(p * (1 - p) / 400) + 1e-3


def test_the_seed_decides_a_sample(both):
    _, writer = both
    source = sources(1)[0]
    assert writer.sample(source, seed=1, temperature=5.0) == writer.sample(source, seed=1, temperature=5.0)
    assert len({writer.sample(source, seed=seed, temperature=5.0).symbols for seed in range(20)}) > 5


def test_a_low_temperature_is_greedy(both):
    _, writer = both
    for source in sources(5):
        assert writer.sample(source, temperature=1e-4).symbols == writer.greedy(source).symbols


def test_the_penalty_divides_by_a_power_of_the_length():
    assert Hypothesis((3, 4), -6.0, complete=False).score(1.0) == -3
    assert Hypothesis((3, 4), -6.0, complete=True).score(1.0) == -2  # the end symbol counts
    assert Hypothesis((3, 4), -6.0, complete=True).score(0.0) == -6


def test_a_beam_is_sorted_by_its_scores(both):
    _, writer = both
    for penalty in (0.0, 1.0):
        scores = [found.score(penalty) for found in writer.beam(sources(1)[0], width=5, penalty=penalty)]
        assert len(scores) == 5
        assert scores == sorted(scores, reverse=True)


def test_one_source_leaves_nothing_for_the_next(both):
    _, writer = both
    first, second = sources(2)
    alone = writer.greedy(second)
    writer.beam(first, width=3)
    assert writer.greedy(second) == alone


def test_what_cannot_be_read_is_refused(both):
    net, writer = both
    with pytest.raises(streamgru.ShapeError, match="nothing to read"):
        writer.greedy([])
    if not isinstance(net.decoder, Decoder):
        with pytest.raises(streamgru.ShapeError, match=f"at most {LONGEST_SOURCE}"):
            writer.greedy([2] * (LONGEST_SOURCE + 1))
    with pytest.raises(ValueError, match="width"):
        writer.beam([2], width=0)
    with pytest.raises(ValueError, match="temperature"):
        writer.sample([2], temperature=0)


def test_models_that_are_no_encoder_and_decoder_are_refused(both):
    encoder, decoder = both[1]._encoder.model, both[1]._decoder.model
    with pytest.raises(streamgru.ModelError, match="encoder's outputs"):
        SequenceWriter(decoder, encoder, start=START, end=END, max_length=3)


def test_log_softmax_neither_overflows_nor_loses_small_probabilities():
    np.testing.assert_allclose(np.exp(log_softmax(np.array([1000.0, 1000.0]))), [0.5, 0.5])
    assert log_softmax(np.array([0.0, 800.0]))[0] == pytest.approx(-800)


def test_draws_follow_the_logits():
    print("seed 0")
    rng = np.random.default_rng(0)
    p = np.array([0.5, 0.3, 0.2])
    count = np.bincount([draw(np.log(p), 1.0, rng) for _ in range(4000)], minlength=3) / 4000
    np.testing.assert_allclose(count, p, atol=0.04)  # five σ
