"""Real models, made by others, streamed from .onnx and from .sgru: what onnxruntime and their authors' code gave.

They are in `../shared/models` from the project's root, or in $STREAMGRU_MODELS; without them these tests are skipped.
"""

import functools
import json
import os
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest

import streamgru

MODELS = Path(os.environ.get("STREAMGRU_MODELS") or Path(__file__).parents[2] / "shared" / "models")
pytestmark = pytest.mark.skipif(
    not MODELS.is_dir(), reason=f"the real models are not in {MODELS}; $STREAMGRU_MODELS says where they are"
)

# name -> (file, batch, largest difference allowed). onnxruntime, whose steps the golden files hold, is itself 3e-6 to
# 10e-6 from float64 on convolutions.
STEPPED = {
    "gtcrn": ("gtcrn/gtcrn_simple", 1, 2e-5),
    "nsnet2": ("nsnet2/nsnet2_state_ts_op17", 1, 5e-6),
    "rnnoise": ("rnnoise-2018/rnnoise_stream", 1, 5e-6),
    "nkf": ("nkf-aec/nkf_kgnet_step", 16, 5e-6),
}
SEED = 20261121


@functools.cache
def load(file, batch=1):
    return streamgru.load(MODELS / f"{file}.onnx", batch=batch)


@pytest.fixture(name="model", params=["onnx", "sgru"])
def fixture_model(request, name, tmp_path):
    """The model `name`, compiled, or saved and loaded again."""
    file, batch, _ = STEPPED[name]
    if request.param == "onnx":
        return streamgru.load(MODELS / f"{file}.onnx", batch=batch)
    load(file, batch).save(tmp_path / "model.sgru")
    return streamgru.load(tmp_path / "model.sgru")


@functools.cache
def golden(name):
    """Frames for `Stream.step`, the outputs, and the states after each step: lists of dicts by the graph's names."""
    file, batch, _ = STEPPED[name]
    with np.load(MODELS / f"{file}.golden.npz") as arrays:
        data = {key: arrays[key] for key in arrays.files}
    steps = 1 + max(int(key.split("_")[1]) for key in data)
    model = load(file, batch)
    frames = [{i.name: data[f"in_{t}_{i.name}"].reshape(i.shape) for i in model.inputs} for t in range(steps)]
    outputs = [{o.name: data[f"out_{t}_{o.name}"].reshape(o.shape) for o in model.outputs} for t in range(steps)]
    states = [{s.name: data[f"out_{t}_{s.source[1]}"].reshape(s.shape) for s in model.states} for t in range(steps)]
    return frames, outputs, states


def named(tensors, value):
    """Outputs by name, also where there is only one."""
    return value if isinstance(value, dict) else {tensors[0].name: value}


def plain(frame):
    """A frame as a stream takes it: the array alone where there is one input."""
    return frame if len(frame) > 1 else next(iter(frame.values()))


def stacked(frames):
    """Frames in the layout of `Stream.run`; the time axis of these models is axis 0 or 1 of a batch of one."""
    return {name: np.stack([f[name] for f in frames]) for name in frames[0]}


def stepped(stream, frames):
    """All outputs [T, *frame] by name."""
    return stacked([named(stream.model.outputs, stream.step(plain(f))) for f in frames])


def ran(stream, frames):
    """The same, in one call."""
    model = stream.model
    whole = {t.name: np.moveaxis(stacked(frames)[t.name], 0, t.time_axis or 0) for t in model.inputs}
    results = named(model.outputs, stream.run(plain({n: np.ascontiguousarray(x) for n, x in whole.items()})))
    return {t.name: np.moveaxis(results[t.name], t.time_axis or 0, 0) for t in model.outputs}


def assert_same_bits(a, b):
    assert a.keys() == b.keys()
    for name in a:
        assert np.array_equal(a[name], b[name]), name


# ---- the golden steps ----


@pytest.mark.parametrize("name", list(STEPPED))
def test_the_golden_steps(name, model):
    """Outputs, and the states that the graph hands out; those that reach beyond 1 are compared by their scale."""
    tolerance = STEPPED[name][2]
    frames, outputs, states = golden(name)
    stream, worst = model.stream(), 0.0
    for frame, want, state in zip(frames, outputs, states, strict=True):
        got = named(model.outputs, stream.step(plain(frame)))
        worst = max(worst, *(float(np.abs(got[n] - y).max()) for n, y in want.items()))
        for n, h in state.items():
            assert np.abs(stream.state[n] - h).max() <= tolerance * max(1, np.abs(h).max()), n
    print(f"{name}: {len(frames)} steps, largest error {worst:.2g}, allowed {tolerance}")
    assert worst <= tolerance


@pytest.mark.parametrize("name", list(STEPPED))
def test_every_isa_gives_the_same_bits_on_the_golden_steps(name):
    file, batch, _ = STEPPED[name]
    frames, _, _ = golden(name)
    found = {}
    for isa in streamgru.available_isas():
        streamgru.set_isa(isa)
        try:
            stream = load(file, batch).stream()
        finally:
            streamgru.set_isa()
        assert stream.isa == isa
        found[isa] = (stepped(stream, frames), stream.save())
    first = found.pop("ref")
    assert found or streamgru.available_isas() == ("ref",)
    for outputs, state in found.values():
        assert_same_bits(outputs, first[0])
        assert state == first[1]


@pytest.mark.parametrize("name", list(STEPPED))
@pytest.mark.parametrize("block", [1, 3, 16])
def test_blocks_have_the_bits_of_steps(name, block):
    file, batch, _ = STEPPED[name]
    frames = golden(name)[0][:24]
    stream, blocks = load(file, batch).stream(), load(file, batch).stream(block=block)
    want = stepped(stream, frames)
    parts = [ran(blocks, part) for part in (frames[:7], frames[7:8], frames[8:])]
    assert_same_bits({n: np.concatenate([p[n] for p in parts]) for n in want}, want)
    assert blocks.save() == stream.save()


@pytest.mark.parametrize("name", list(STEPPED))
def test_a_state_saved_in_the_middle_goes_on_elsewhere(name, model):
    frames = golden(name)[0][:20]
    file, batch, _ = STEPPED[name]
    here = load(file, batch).stream()
    want = stepped(here, frames)
    here.reset()
    stepped(here, frames[:9])
    elsewhere = model.stream()
    elsewhere.restore(here.save())
    assert_same_bits(stepped(elsewhere, frames[9:]), {n: y[9:] for n, y in want.items()})


def test_rnnoise_agrees_with_its_own_c_code():
    """200 frames of a float64 port of rnn.c, by the models' authors' weights."""
    with np.load(MODELS / "rnnoise-2018/golden.npz") as data:
        features, want = data["features"], {"gains": data["gains"], "vad": data["vad"]}
    got = load("rnnoise-2018/rnnoise_stream").run(features)
    for name, y in want.items():
        np.testing.assert_allclose(got[name], y, atol=5e-6, rtol=0)


# ---- any batch ----


@pytest.mark.parametrize("batch", [1, 7, 513])
def test_nkf_at_any_batch_against_onnxruntime(batch):
    """Random frames; onnxruntime is given back its own state."""
    print(f"seed {SEED}")
    r = np.random.default_rng([SEED, batch])
    session = ort.InferenceSession(MODELS / "nkf-aec/nkf_kgnet_step.onnx", providers=["CPUExecutionProvider"])
    stream = streamgru.load(MODELS / "nkf-aec/nkf_kgnet_step.onnx", batch=batch).stream()
    pairs = dict(s.source for s in stream.model.states)
    state = {name: np.zeros((1, batch, 18), np.float32) for name in pairs}
    worst = 0.0
    for _ in range(30):
        frame = {name: r.standard_normal((batch, 9)).astype(np.float32) for name in ("xr", "xi")}
        want = dict(zip([o.name for o in session.get_outputs()], session.run(None, {**frame, **state}), strict=True))
        state = {name: want[output] for name, output in pairs.items()}
        got = stream.step(frame)
        worst = max(worst, *(float(np.abs(got[n] - want[n]).max()) for n in ("kr", "ki")))
    print(f"batch {batch}: largest error {worst:.2g}")
    assert worst <= 5e-6


# ---- two graphs of one model ----


@pytest.mark.parametrize(
    "sequence, step",
    [("nsnet2/nsnet2_seq_ts_op17", "nsnet2"), ("rnnoise-2018/rnnoise_seq", "rnnoise")],
)
def test_a_sequence_graph_streamed_has_the_bits_of_the_graph_with_its_state(sequence, step):
    frames, _, _ = golden(step)
    by_sequence, by_state = load(sequence).stream(), load(STEPPED[step][0]).stream()
    assert_same_bits(stepped(by_sequence, frames), stepped(by_state, frames))


@pytest.mark.parametrize(
    "sequence, step", [("nsnet2/nsnet2_seq_ts_op17", "nsnet2"), ("rnnoise-2018/rnnoise_seq", "rnnoise")]
)
def test_a_sequence_graph_run_whole_has_the_bits_of_its_stream(sequence, step):
    """mode="whole" at the length of the golden file: the operators see all frames at once."""
    model, frames = load(sequence), golden(step)[0]
    (x,) = model.inputs
    whole = np.ascontiguousarray(np.moveaxis(stacked(frames)[x.name], 0, x.time_axis))
    got = named(model.outputs, streamgru.load(MODELS / f"{sequence}.onnx", mode="whole").run(whole))
    assert_same_bits(got, named(model.outputs, model.run(whole)))


# ---- g2p: an encoder and a decoder that write phonemes ----

# Kyubyong/g2p, g2p.py: the symbols of the two embeddings, and the greedy loop of G2p.predict.
GRAPHEMES = ["<pad>", "<unk>", "</s>", *"abcdefghijklmnopqrstuvwxyz"]
PHONEMES = """
    <pad> <unk> <s> </s> AA0 AA1 AA2 AE0 AE1 AE2 AH0 AH1 AH2 AO0 AO1 AO2 AW0 AW1 AW2 AY0 AY1 AY2 B CH D DH EH0 EH1 EH2
    ER0 ER1 ER2 EY0 EY1 EY2 F G HH IH0 IH1 IH2 IY0 IY1 IY2 JH K L M N NG OW0 OW1 OW2 OY0 OY1 OY2 P R S SH T TH UH0 UH1
    UH2 UW UW0 UW1 UW2 V W Y Z ZH
""".split()  # noqa: SIM905 - a table reads better without quotes
LONGEST = 20
WORDS = json.loads((MODELS / "g2p-en/expected_phonemes.json").read_text()) if MODELS.is_dir() else {}


@pytest.fixture(
    name="decoder", params=["decoder_gru.onnx", "decoder_gru.sgru", "decoder_grucell.onnx", "decoder_grucell.sgru"]
)
def fixture_decoder(request, tmp_path):
    file, kind = request.param.split(".")
    model = load(f"g2p-en/{file}")
    if kind == "onnx":
        return model
    model.save(tmp_path / request.param)
    return streamgru.load(tmp_path / request.param)


def encoded(word):
    """The encoder's last state."""
    ids = [GRAPHEMES.index(letter) for letter in word] + [GRAPHEMES.index("</s>")]
    return load("g2p-en/encoder").run(np.array([ids]))["h"]


def spoken(decoder, word):
    """The phonemes of a word, and the logits of each step."""
    stream = decoder.stream()
    (state,) = decoder.states
    stream.set_state({state.name: encoded(word)})
    symbol, symbols, logits = PHONEMES.index("<s>"), [], []
    for _ in range(LONGEST):
        y = stream.step(np.array([symbol]))
        logits.append(y["logits"])
        symbol = int(y["next"][0])
        if PHONEMES[symbol] == "</s>":
            break
        symbols.append(PHONEMES[symbol])
    return symbols, np.stack(logits)


@pytest.mark.parametrize("word", list(WORDS))
def test_the_expected_phonemes(decoder, word):
    symbols, _ = spoken(decoder, word)
    assert symbols == WORDS[word]


def test_the_encoder_from_an_image(tmp_path):
    load("g2p-en/encoder").save(tmp_path / "encoder.sgru")
    ids = np.array([[7, 14, 14, 17, 2]])
    got, want = streamgru.load(tmp_path / "encoder.sgru").run(ids), load("g2p-en/encoder").run(ids)
    assert_same_bits(got, want)
    session = ort.InferenceSession(MODELS / "g2p-en/encoder.onnx", providers=["CPUExecutionProvider"])
    for y, expected in zip((want["y"], want["h"]), session.run(["y", "h"], {"ids": ids}), strict=True):
        np.testing.assert_allclose(y, expected, atol=5e-6, rtol=0)


@pytest.mark.parametrize("word", list(WORDS))
def test_the_decoder_as_gru_and_as_its_pieces_gives_the_same_bits(word):
    _, as_gru = spoken(load("g2p-en/decoder_gru"), word)
    _, as_cell = spoken(load("g2p-en/decoder_grucell"), word)
    assert np.array_equal(as_gru, as_cell)


def test_both_decoders_stay_together_over_random_symbols():
    print(f"seed {SEED}")
    symbols = np.random.default_rng(SEED).integers(0, len(PHONEMES), (500, 1))
    one, other = (load(f"g2p-en/{file}").stream() for file in ("decoder_gru", "decoder_grucell"))
    assert_same_bits(one.run(symbols), other.run(symbols))
    (h,), (h_of_cell,) = one.state.values(), other.state.values()
    assert np.array_equal(h.ravel(), h_of_cell.ravel())


# ---- weights of fewer bits ----


@functools.cache
def load_as(file, weights, batch=1):
    return streamgru.load(MODELS / f"{file}.onnx", batch=batch, weights=weights)


@pytest.mark.parametrize("name", list(STEPPED))
@pytest.mark.parametrize("weights, most", [("f16", 1e-3), ("i8", 0.02)])
def test_weights_of_fewer_bits_stay_near_float32(name, weights, most):
    """On the golden frames, which are features of speech: RMSE over the RMS of each output. NKF's matrices are small,
    so they stay float32."""
    file, batch, _ = STEPPED[name]
    frames = golden(name)[0]
    want, got = (stepped(load_as(file, w, batch).stream(), frames) for w in ("f32", weights))
    for n, y in want.items():
        error = np.sqrt(np.mean((got[n] - y.astype(float)) ** 2) / np.mean(y.astype(float) ** 2))
        print(f"{name}, {weights}: {n} is off by {error:.3%} of its RMS")
        assert error <= most, n


@pytest.mark.parametrize("name", list(STEPPED))
@pytest.mark.parametrize("weights", ["f16", "i8"])
def test_weights_of_fewer_bits_have_the_same_bits_in_every_way(name, weights):
    file, batch, _ = STEPPED[name]
    frames = golden(name)[0][:24]
    model = load_as(file, weights, batch)
    want = stepped(model.stream(), frames)
    assert_same_bits(ran(model.stream(block=5), frames), want)
    for isa in streamgru.available_isas():
        streamgru.set_isa(isa)
        try:
            assert_same_bits(ran(model.stream(), frames), want)
        finally:
            streamgru.set_isa()


@pytest.mark.parametrize("weights", ["f16", "i8"])
def test_the_phonemes_stay_with_weights_of_fewer_bits(weights):
    decoder = load_as("g2p-en/decoder_gru", weights)
    same = [word for word in WORDS if spoken(decoder, word)[0] == WORDS[word]]
    print(f"{weights}: {len(same)} of {len(WORDS)}")
    assert len(same) >= 0.9 * len(WORDS)
