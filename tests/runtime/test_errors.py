"""Whatever a caller can cause is an error of ours, and says what would be right."""

from __future__ import annotations

import io

import numpy as np
import onnx
import pytest

import streamgru
from runtime.models import gru_model, gru_onnx
from streamgru.decode import SequenceWriter, draw
from streamgru.denoise import Denoiser, read_wav, write_wav
from streamgru.files import read_frames

LOADS = {
    "load": streamgru.load,
    "whole": lambda path: streamgru.load(path, mode="whole"),
    "compile": lambda path: streamgru.compile(path),
    "parity": lambda path: streamgru.parity(path),
    "session": lambda path: streamgru.InferenceSession(path),
}


@pytest.fixture(scope="module")
def model():
    return gru_model()


@pytest.mark.parametrize("call", LOADS)
@pytest.mark.parametrize(
    "path",
    ["absent.onnx", "x" * 300, "x" * 5000, "loop", "file/inside", "", ".", "a\0b", "\udcff.onnx"],
    ids=["absent", "long name", "long path", "loop of links", "inside of a file", "empty", "folder", "NUL", "no UTF-8"],
)
def test_a_path_that_leads_nowhere(call, path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(streamgru.StreamgruError):
        LOADS[call](path)


@pytest.mark.parametrize("call", ["load", "whole", "parity"])
@pytest.mark.parametrize("path", [None, 5, [], b"abc", object()])
def test_what_is_no_path(call, path):
    with pytest.raises(streamgru.StreamgruError):
        LOADS[call](path)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"block": 0}, "block is 1 to"),
        ({"block": -1}, "block is 1 to"),
        ({"block": 1.5}, "block is a whole number of 1 to"),
        ({"block": "2"}, "block is a whole number of 1 to"),
        ({"block": 2**62}, "block is 1 to"),
        ({"threads": 0}, "threads is 1 to"),
        ({"threads": 10_000}, "the processors that this process may use"),
        ({"threads": "2"}, "threads is a whole number"),
        ({"nonfinite": "refusing"}, "did you mean 'refuse'?"),
        ({"nonfinite": None}, "one of 'refuse', 'pass' was expected"),
        ({"thread": 2}, "has no option 'thread'; did you mean 'threads'?"),
        ({"zzz": 2}, "has no option 'zzz'"),
    ],
)
def test_options_of_a_stream(model, options, message):
    with pytest.raises(streamgru.OptionError) as raised:
        model.stream(**options)
    assert message in str(raised.value)


@pytest.mark.parametrize(
    "capacity, options, message",
    [
        (0, {}, "capacity is 1 to"),
        (2**40, {}, "capacity is 1 to"),
        ("many", {}, "capacity is a whole number"),
        (4, {"lanes": 0}, "lanes is 1 to"),
        (4, {"lanes": 2.5}, "lanes is a whole number"),
        (4, {"threads": 10_000}, "threads is 1 to"),
        (4, {"nonfinite": "no"}, "one of 'refuse', 'pass'"),
        (4, {"lane": 1}, "did you mean 'lanes'?"),
    ],
)
def test_options_of_a_pool(model, capacity, options, message):
    with pytest.raises(streamgru.OptionError) as raised:
        model.pool(capacity, **options)
    assert message in str(raised.value)


def test_options_of_load(tmp_path):
    path = tmp_path / "gru.onnx"
    onnx.save(gru_onnx()[0], path)
    with pytest.raises(streamgru.OptionError, match=r"load has no option 'weigths'; did you mean 'weights'?"):
        streamgru.load(path, weigths="i8")
    with pytest.raises(
        streamgru.OptionError, match=r"mode='hole': one of 'stream', 'whole' was expected; did you mean"
    ):
        streamgru.load(path, mode="hole")
    with pytest.raises(streamgru.OptionError, match="takes no 'batch'"):
        streamgru.load(path, mode="whole", batch=3)
    with pytest.raises(streamgru.StreamgruError, match="'f32', 'f16'"):
        streamgru.load(path, weights="int8")


ARRAY = np.zeros((3, 3))
OPTIONS_OF_LOAD = [
    ({"mode": ARRAY}, "mode=array"),
    ({"weights": ARRAY}, "weights=array"),
    ({"batch": ARRAY}, "batch is a whole number"),
    ({"state": 5}, "state takes a list of pairs"),
    ({"state": [5]}, "state takes pairs"),
    ({"samples": ARRAY}, "samples are frames for tolerance: give both"),
    ({"tolerance": 10**400}, "tolerance is a share of an output's RMS"),
    ({"threads": 10_000}, "the processors that this process may use"),
    ({"mode": "whole", "dims": 5}, "dims gives a number for each name"),
    ({"mode": "whole", "dims": b"x"}, "dims gives a number for each name"),
    ({"mode": "whole", "dims": ARRAY}, "dims gives a number for each name"),
    ({"mode": "whole", "time_axis": 2.5}, "time_axis gives a number for each name"),
    ({"mode": "whole", "weights": 2.5}, "weights=2.5: one of 'f32'"),
    ({"mode": "whole", "batch": ARRAY}, "takes no 'batch'"),
]


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    path = tmp_path_factory.mktemp("models") / "gru.onnx"
    onnx.save(gru_onnx()[0], path)
    return path


@pytest.mark.parametrize("options, message", OPTIONS_OF_LOAD)
def test_values_that_an_option_of_load_cannot_have(path, options, message):
    with pytest.raises(streamgru.OptionError) as raised:
        streamgru.load(path, **options)
    assert message in str(raised.value)


def test_threads_of_an_image_are_refused_at_load(model, tmp_path):
    model.save(tmp_path / "gru.sgru")
    with pytest.raises(streamgru.OptionError, match="threads is 1 to"):
        streamgru.load(tmp_path / "gru.sgru", threads=10_000)
    with pytest.raises(streamgru.OptionError, match="threads is a whole number"):
        streamgru.Model(model.image, threads="2")


@pytest.mark.parametrize("where", [None, 5, [], b"x", "", "a\0b", ARRAY])
def test_where_nothing_can_be_written(model, path, where):
    with pytest.raises(streamgru.OptionError, match="path is a path"):
        model.save(where)
    if where is not None:
        with pytest.raises(streamgru.OptionError, match="path is a path"):
            streamgru.compile(path, where)


@pytest.mark.parametrize("image", [None, 5, "", "x", [], object()])
def test_what_is_no_image(image):
    with pytest.raises(streamgru.ImageError, match="the bytes of an image were expected"):
        streamgru.Model(image)


@pytest.mark.parametrize("state", [None, 5, "", "x", [], {}, ARRAY, ARRAY.T[:, :2]])
def test_what_is_no_saved_state(model, state):
    with model.stream() as stream, model.pool(1) as pool:
        slot = pool.open()
        before = stream.save(), pool.save(slot)
        with pytest.raises(streamgru.StateError):
            stream.restore(state)
        with pytest.raises(streamgru.StateError):
            pool.restore(slot, state)
        assert (stream.save(), pool.save(slot)) == before


@pytest.mark.parametrize("values", [None, 5, "", b"x", [], [("h", 1)], ARRAY])
def test_what_is_no_state_by_name(model, values):
    with model.stream() as stream, pytest.raises(streamgru.ShapeError, match="states are given by name"):
        stream.set_state(values)


@pytest.mark.parametrize("slot", [[], {}, ARRAY, ([],), "x", 2.5, object()])
def test_what_is_no_slot(model, slot):
    with model.pool(1) as pool:
        pool.open()
        assert slot not in pool
        for call in (pool.close, pool.reset, pool.save):
            with pytest.raises(streamgru.SlotError, match="is no open slot"):
                call(slot)
        with pytest.raises(streamgru.SlotError, match="a sequence of the integers"):
            pool.step([slot, [1]], np.zeros((1, *model.inputs[0].shape), np.float32))
        assert len(pool) == 1


@pytest.mark.parametrize("name", [5, b"ref", [], {}, ARRAY, True])
def test_what_is_no_instruction_set(name):
    with pytest.raises(streamgru.OptionError, match="name is one of"):
        streamgru.set_isa(name)


@pytest.mark.parametrize("value", [ARRAY, [], {}, b"refuse", np.float64("nan")])
def test_a_choice_that_is_no_text(model, value):
    with pytest.raises(streamgru.OptionError, match="one of 'refuse', 'pass' was expected"):
        model.stream(nonfinite=value)


def test_what_is_no_model_of_a_writer_or_a_denoiser(model):
    for encoder, decoder, which in ((5, model, "encoder"), (model, None, "decoder")):
        with pytest.raises(streamgru.ModelError, match=f"the {which} is a model"):
            SequenceWriter(encoder, decoder, start=0, end=1, max_length=3)
    with pytest.raises(streamgru.ModelError, match="a denoiser is made of a model"):
        Denoiser(5)


@pytest.mark.parametrize("temperature", ["x", None, 0, -1, float("nan"), float("inf"), [], ARRAY])
def test_what_is_no_temperature(temperature):
    with pytest.raises(streamgru.OptionError, match="temperature is a positive number"):
        draw(np.zeros(3), temperature, np.random.default_rng(0))


@pytest.mark.parametrize(
    "logits, error",
    [
        ([], streamgru.ShapeError),
        ([np.nan, 1], streamgru.NonFiniteError),
        ([np.inf, 1], streamgru.NonFiniteError),
        ([-np.inf, -np.inf], streamgru.NonFiniteError),
    ],
)
def test_what_nothing_can_be_drawn_from(logits, error):
    with pytest.raises(error):
        draw(np.array(logits), 1.0, np.random.default_rng(0))


def test_a_tiny_temperature_draws_the_most_probable():
    rng = np.random.default_rng(0)
    assert {draw(np.array([1.0, 2.0, -np.inf]), 1e-320, rng) for _ in range(20)} == {1}


@pytest.mark.parametrize(
    "rate, samples, error",
    [
        (0, np.zeros(3), streamgru.OptionError),
        ("x", np.zeros(3), streamgru.OptionError),
        (8000, np.array([np.nan]), streamgru.DataError),
        (8000, "x", streamgru.DataError),
        (8000, np.zeros((3, 0)), streamgru.DataError),
        (8000, np.zeros((1, 2, 3)), streamgru.DataError),
    ],
)
def test_no_file_is_left_of_what_is_no_sound(tmp_path, rate, samples, error):
    with pytest.raises(error):
        write_wav(tmp_path / "no.wav", rate, samples)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("where", [None, 5, [], ""])
def test_a_path_of_sound(where):
    for call in (read_wav, lambda path: write_wav(path, 8000, np.zeros(3))):
        with pytest.raises(streamgru.OptionError, match="path is a path"):
            call(where)


def test_a_wav_that_ends_early(tmp_path):
    (tmp_path / "early.wav").write_bytes(b"RIFF")
    with pytest.raises(streamgru.DataError, match=r"early\.wav is no WAV of PCM: it ends early"):
        read_wav(tmp_path / "early.wav")


def npy_with(old, new):
    file = io.BytesIO()
    np.save(file, np.zeros((5, 1, 1, 8), np.float32))
    return file.getvalue().replace(old, new)


FILES = {
    "other encoding.csv": b"\xff\xfe1,2\n",
    "huge cell.csv": b"9" * 200_000 + b"\n",
    "ragged.csv": b"1,2\n3\n",
    "open bracket.npy": npy_with(b"{'descr'", b"{{{{{{{{"),
    "too many.npy": npy_with(b"(5, 1, 1, 8)", b"(9" + b"9" * 8 + b",8)"),
    "no.npz": b"PK\x03\x04",
}


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_holds_no_frames(model, name, tmp_path):
    (tmp_path / name).write_bytes(FILES[name])
    with pytest.raises(streamgru.DataError, match=name):
        read_frames(tmp_path / name, model.inputs)


def test_numpys_numbers_are_numbers(model):
    with model.stream(block=np.int64(2), threads=np.int32(1)) as stream, model.pool(np.uint8(3)) as pool:
        assert (stream.clone().isa, pool.capacity) == (stream.isa, 3)


def test_an_error_of_an_option_is_what_python_would_raise():
    assert issubclass(streamgru.OptionError, ValueError)
    assert issubclass(streamgru.OptionError, TypeError)
    assert issubclass(streamgru.DataError, ValueError)
