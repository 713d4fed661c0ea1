"""The denoiser gives back what a model lets through, at the right time, from and to files; and refuses the rest."""

import json
import wave

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

import streamgru
from streamgru.cli import main
from streamgru.denoise import Bands, Denoiser, read_wav, write_wav
from streamgru.errors import ModelError, NonFiniteError, ShapeError
from streamgru_export import compile
from streamgru_export.properties import of_person

SEED = 8
RATE, HOP, CENTRES = 8000, 64, [0, 1, 2, 4, 8, 16, 32, 60]
ABOUT = {
    "sample_rate": RATE,
    "normalisation": {"mean": [-3.0] * len(CENTRES), "deviation": [2.0] * len(CENTRES)},
    "hop": HOP,
    "centres": CENTRES,
}


def model(gains, **about):
    """A model that gives these gains whatever it hears."""
    x, y = (helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, [1, 1, len(CENTRES)]) for n in "xy")
    nodes = [helper.make_node("Mul", ["x", "zero"], ["nothing"]), helper.make_node("Add", ["nothing", "g"], ["y"])]
    constants = {"zero": np.float32([0]), "g": np.float32(gains)}
    graph = helper.make_graph(nodes, "g", [x], [y], [numpy_helper.from_array(v, k) for k, v in constants.items()])
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    for key, value in of_person({k: v for k, v in {**ABOUT, **about}.items() if v is not None}).items():
        proto.metadata_props.add(key=key, value=value)
    return streamgru.Model(compile(proto).image)


def noise(samples):
    print(f"seed {SEED}")
    return np.random.default_rng(SEED).uniform(-0.5, 0.5, samples)


@pytest.mark.parametrize("samples", [0, 1, HOP, 10 * HOP + 7])
def test_gains_of_one_change_nothing(samples):
    x = noise(samples)
    np.testing.assert_allclose(Denoiser(model(np.ones(8))).denoise(x), x, atol=1e-6)  # float32 at the end


def test_a_step_is_one_hop_late():
    denoiser, x = Denoiser(model(np.ones(8))), noise(5 * HOP)
    y = np.concatenate([denoiser.step(hop) for hop in x.reshape(5, HOP)])
    np.testing.assert_allclose(y[HOP:], x[:-HOP], atol=1e-6)


def test_a_gain_acts_on_its_band():
    t = np.arange(40 * HOP)
    low, high = (np.sin(2 * np.pi * k / (2 * HOP) * t) for k in (1, 32))
    y = Denoiser(model([1, 1, 1, 1, 1, 0, 0, 0])).denoise(low + high)
    inside = slice(2 * HOP, -2 * HOP)
    np.testing.assert_allclose(y[inside], low[inside], atol=2e-3)  # the window leaks from bin 1 past bin 8


def test_the_bands_share_every_bin():
    np.testing.assert_allclose(Bands(HOP, CENTRES).weights.sum(0), 1)


def test_a_denoiser_starts_afresh_for_every_recording():
    denoiser, x = Denoiser(model(np.full(8, 0.3))), noise(900)
    np.testing.assert_array_equal(denoiser.denoise(x), denoiser.denoise(x))


def test_a_hop_that_does_not_fit_leaves_the_state():
    one, other, x = (*(Denoiser(model(np.ones(8))) for _ in range(2)), noise(2 * HOP).reshape(2, HOP))
    for denoiser in (one, other):
        denoiser.step(x[0])
    with pytest.raises(ShapeError, match="64 samples"):
        one.step(x[0][1:])
    with pytest.raises(NonFiniteError):
        one.step(np.full(HOP, np.nan))
    np.testing.assert_array_equal(one.step(x[1]), other.step(x[1]))


@pytest.mark.parametrize(
    "about",
    [
        {"sample_rate": None},
        {"normalisation": None},
        {"normalisation": {"mean": [0] * 8}},
        {"normalisation": {"mean": 0, "deviation": 1}},
        {"normalisation": {"mean": [0] * 8, "deviation": [0] * 8}},
        {"hop": "x"},
        {"hop": 10**9},
        {"hop": -1},
        {"centres": 3},
        {"centres": [0, 1]},
        {"centres": [7, 6, 5, 4, 3, 2, 1, 0]},
        {"centres": [0, 1, 2, 3, 4, 5, 6, 65]},
        {"centres": [-1, 1, 2, 3, 4, 5, 6, 7]},
    ],
)
def test_a_model_that_does_not_say_how_is_refused(about):
    with pytest.raises(ModelError, match="no denoiser"):
        Denoiser(model(np.ones(8), **about))


@pytest.mark.parametrize("width", [1, 2, 3, 4])
def test_files_of_every_width_are_read(width, tmp_path):
    values = np.array([[0, -1], [0.5, -0.25]])  # frames of two channels
    whole = np.int64(np.round(values * 2 ** (8 * width - 1)))
    data = (whole + 128).astype(np.uint8) if width == 1 else whole.astype("<i8").view(np.uint8).reshape(4, 8)[:, :width]
    with wave.open(str(tmp_path / "a.wav"), "wb") as file:
        file.setnchannels(2)
        file.setsampwidth(width)
        file.setframerate(RATE)
        file.writeframes(data.tobytes())
    rate, samples = read_wav(tmp_path / "a.wav")
    assert rate == RATE
    np.testing.assert_array_equal(samples, values)


def test_what_is_written_is_read_again_and_what_is_too_loud_is_cut(tmp_path):
    write_wav(tmp_path / "a.wav", RATE, np.array([0, 0.5, 3, -3]))
    np.testing.assert_array_equal(read_wav(tmp_path / "a.wav")[1][:, 0], np.float32([0, 0.5, 32767 / 32768, -1]))


@pytest.mark.parametrize("data", [b"", b"RIFF", b"no sound at all" * 10])
def test_what_is_no_wav_is_refused(data, tmp_path):
    (tmp_path / "a.wav").write_bytes(data)
    with pytest.raises(ValueError, match="no WAV"):
        read_wav(tmp_path / "a.wav")


def test_the_command_takes_and_gives_files(tmp_path, capsys):
    model(np.ones(8)).save(tmp_path / "m.sgru")
    x = np.stack([noise(3000), -noise(3000)], 1)
    write_wav(tmp_path / "in.wav", RATE, x)
    argv = ["denoise", *(str(tmp_path / name) for name in ("m.sgru", "in.wav")), "-o", str(tmp_path / "out.wav")]
    capsys.readouterr()
    assert main([*argv, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["channels"] == 2
    np.testing.assert_allclose(read_wav(tmp_path / "out.wav")[1], x, atol=2 / 32768)  # rounded twice
    write_wav(tmp_path / "in.wav", 2 * RATE, x)
    assert main(argv) == 1
    assert "16000 samples a second, the model hears 8000" in capsys.readouterr().err
