"""Whole sequences: models that stream, models that cannot, and sequences of different lengths in one batch."""

import threading

import numpy as np
import pytest
from onnx import numpy_helper

import streamgru
from export.graphs import FLOAT, onnxruntime
from runtime import graphs_of_sequences as graphs
from runtime.graphs_of_sequences import F, H, normal
from streamgru import ModelError, NonFiniteError, ShapeError, WholeModel
from streamgru_export.oracle.model import Float64Model
from streamgru_export.whole import model as whole


@pytest.fixture(name="saved")
def fixture_saved(tmp_path):
    """Writes a model; its path."""

    def save(model):
        path = tmp_path / "model.onnx"
        path.write_bytes(model.SerializeToString())
        return path

    return save


def assert_close(got, expected):
    """By name, shape and, within the rounding of float32, number. The float64 values are at most 1."""
    assert got.keys() == expected.keys()
    for name, value in expected.items():
        assert got[name].shape == value.shape, name
        np.testing.assert_allclose(got[name], value, atol=FLOAT, rtol=0, err_msg=name)


# ---- a model that streams ----


@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("batch", [1, 3])
def test_a_streaming_model_runs_a_sequence_as_onnxruntime_does(saved, batch_first, batch):
    """Y in the graph's layout, and Y_h of the last frame in the graph's shape."""
    model = graphs.recurrent(batch_first=batch_first)
    x = normal(batch, 23, F) if batch_first else normal(23, batch, F)
    assert_close(streamgru.load(saved(model), batch=batch).run(x), onnxruntime(model, {"X": x}))


def test_a_run_has_the_bits_of_a_stream_and_leaves_no_state_behind(saved):
    model = streamgru.load(saved(graphs.recurrent()))
    x = normal(40, 1, F)
    first = model.run(x)
    steps = np.stack([y["Y"] for y in map(model.stream().step, x)])
    assert np.array_equal(first["Y"], steps)
    assert np.array_equal(model.run(x)["Y"], first["Y"])


def test_an_input_without_a_time_axis_is_given_once(saved):
    model = graphs.conditioned()
    feeds = {"X": normal(9, 2, F), "speaker": normal(2, F, seed=12)}
    got = streamgru.load(saved(model), batch=2).run(feeds)
    assert_close({"Y": got}, onnxruntime(model, feeds))


@pytest.mark.parametrize("options", [{}, {"mode": "whole"}])
def test_a_scalar_is_given_once(saved, options):
    model = graphs.scaled()
    feeds = {"X": normal(9, 1, F), "gain": np.array(0.5, np.float32)}
    loaded = streamgru.load(saved(model), **options)
    assert_close({"Y": loaded.run(feeds)}, onnxruntime(model, feeds))
    assert np.array_equal(loaded.run(feeds, [4])[:4], loaded.run(feeds)[:4])


def test_a_step_graph_takes_frames_on_a_new_first_axis(saved):
    model, x = graphs.step(), normal(12, 2, F)
    got = streamgru.load(saved(model), batch=2).run(x)
    state, frames = np.zeros((1, 2, H), np.float32), []
    for frame in x:
        result = onnxruntime(model, {"x": frame, "h_in": state})
        state = result["h_out"]
        frames.append(result["y"])
    assert_close({"y": got}, {"y": np.stack(frames)})


@pytest.mark.parametrize("batch_first", [False, True])
def test_lengths_of_a_streaming_model_give_what_each_sequence_gives_alone(saved, batch_first):
    model, lengths = graphs.recurrent(batch_first=batch_first), [7, 1, 12]
    x = normal(3, 12, F) if batch_first else normal(12, 3, F)
    image = tmp_image(saved(model), batch=3)
    got = image.run(x, lengths)
    one = streamgru.load(saved(model))
    for b, n in enumerate(lengths):
        part = x[b : b + 1, :n] if batch_first else x[:n, b : b + 1]
        want = one.run(np.ascontiguousarray(part))
        assert_close(want, onnxruntime(model, {"X": part}))
        y = got["Y"][b] if batch_first else got["Y"][:, 0, b]
        assert np.array_equal(y[:n].reshape(-1), want["Y"].reshape(-1))
        assert not y[n:].any()
        assert np.array_equal(got["Y_h"][:, b], want["Y_h"][:, 0])


def tmp_image(path, **options):
    """The model from its .onnx, saved as an image and loaded again."""
    image = path.with_suffix(".sgru")
    streamgru.load(path, **options).save(image)
    return streamgru.load(image)


def test_lengths_of_a_step_graph(saved):
    model, x = streamgru.load(saved(graphs.step()), batch=2), normal(6, 2, F)
    got, full = model.run(x, [6, 2]), model.run(x)
    assert np.array_equal(got[:, 0, 0], full[:, 0, 0])
    assert np.array_equal(got[:2, 0, 1], full[:2, 0, 1])
    assert not got[2:, 0, 1].any()


def test_what_stands_beyond_a_length_is_not_looked_at(saved):
    model, x = streamgru.load(saved(graphs.recurrent()), batch=2), normal(6, 2, F)
    want = model.run(x, [6, 2])
    x[2:, 1] = np.nan
    got = model.run(x, [6, 2])
    assert all(np.array_equal(got[name], want[name]) for name in want)
    with pytest.raises(NonFiniteError, match="holds nan"):
        model.run(x, [6, 3])
    assert np.isnan(model.run(x, [6, 3], nonfinite="pass")["Y"][2, 0, 1]).all()


# ---- a model that cannot stream ----


@pytest.mark.parametrize(
    "model, name",
    [(graphs.recurrent("bidirectional"), "the_gru_Y"), (graphs.attention(), "the_matmul_scores"),
     (graphs.recurrent("reverse"), "the_gru_Y")],
)  # fmt: skip
def test_a_model_that_looks_into_the_future_is_refused_by_node_and_told_the_way(saved, model, name):
    with pytest.raises(ModelError, match=rf"cannot stream.*'{name}'.*streamgru\.load\(path, mode='whole'\)\.run\(x\)"):
        streamgru.load(saved(model))


@pytest.mark.parametrize("direction", ["bidirectional", "reverse", "forward"])
def test_it_runs_whole_at_any_length_and_batch(saved, direction):
    model = graphs.recurrent(direction)
    loaded = streamgru.load(saved(model), mode="whole")
    assert isinstance(loaded, WholeModel)
    for frames, batch in ((1, 1), (9, 4), (30, 1), (9, 2), (9, 4)):
        x = normal(frames, batch, F)
        assert_close(loaded.run(x), onnxruntime(model, {"X": x}))


def test_attention_over_the_sequence_runs_whole(saved):
    model, x = graphs.attention(), normal(3, 17, F)
    assert_close({"Y": streamgru.load(saved(model), mode="whole").run(x)}, onnxruntime(model, {"X": x}))


def test_it_can_be_bound_to_one_length_and_saved(saved, tmp_path):
    model, x = graphs.recurrent("bidirectional"), normal(9, 2, F)
    bound = streamgru.load(saved(model), mode="whole", length=9, batch=2)
    bound.save(tmp_path / "nine.sgru")
    for loaded in (bound, streamgru.load(tmp_path / "nine.sgru")):
        assert_close(loaded.run(x), onnxruntime(model, {"X": x}))
        with pytest.raises(ShapeError, match=r"expected shape \[9, 2, 5\], got \[8, 2, 5\]"):
            loaded.run(normal(8, 2, F))
        with pytest.raises(ShapeError, match="bound to one length"):
            loaded.run(x, [9, 4])


@pytest.mark.parametrize("isa", streamgru.available_isas())
def test_every_isa_gives_the_same_bits(saved, isa):
    loaded, x = streamgru.load(saved(graphs.recurrent("bidirectional")), mode="whole"), normal(9, 2, F)
    want = loaded.run(x)
    streamgru.set_isa(isa)
    try:
        got = loaded.run(x)
    finally:
        streamgru.set_isa()
    assert all(np.array_equal(got[name], want[name]) for name in want)


def test_lengths_are_those_of_sequence_lens(saved):
    """The same as the ONNX operator with its own sequence_lens, by onnxruntime and by float64."""
    model, x, lengths = graphs.recurrent("bidirectional"), normal(12, 4, F), [5, 12, 1, 5]
    got = streamgru.load(saved(model), mode="whole").run(x, lengths)
    model.graph.node[0].input.append("lens")
    model.graph.initializer.append(numpy_helper.from_array(np.array(lengths, np.int32), "lens"))
    assert_close(got, onnxruntime(model, {"X": x}))
    assert_close(got, Float64Model(model).run({"X": x}))


def test_lengths_hold_where_there_is_no_sequence_lens(saved):
    """Attention cannot look at padding, NaN least of all."""
    model, x, lengths = graphs.attention(), normal(3, 12, F), [12, 4, 7]
    for b, n in enumerate(lengths):
        x[b, n:] = np.nan
    got = streamgru.load(saved(model), mode="whole").run(x, lengths)
    for b, n in enumerate(lengths):
        want = onnxruntime(model, {"X": x[b : b + 1, :n]})["Y"][0]
        np.testing.assert_allclose(got[b, :n], want, atol=FLOAT, rtol=0)
        assert not got[b, n:].any()


def test_an_input_of_each_sequence_goes_with_it(saved):
    model, lengths = graphs.conditioned(), [3, 8]
    feeds = {"X": normal(8, 2, F), "speaker": normal(2, F, seed=12)}
    got = streamgru.load(saved(model), mode="whole").run(feeds, lengths)
    for b, n in enumerate(lengths):
        one = {"X": feeds["X"][:n, b : b + 1], "speaker": feeds["speaker"][b : b + 1]}
        np.testing.assert_allclose(got[:n, 0, b], onnxruntime(model, one)["Y"][:, 0, 0], atol=FLOAT, rtol=0)
        assert not got[n:, 0, b].any()


BAD_LENGTHS = [[3], [3, 3, 3], [0, 3], [3, 10], [1.5, 2.0], 3, [[3, 3]], []]


@pytest.mark.parametrize("mode", ["stream", "whole"])
@pytest.mark.parametrize("lengths", BAD_LENGTHS, ids=str)
def test_bad_lengths_are_refused(saved, mode, lengths):
    path = saved(graphs.recurrent())
    model = streamgru.load(path, mode="whole") if mode == "whole" else streamgru.load(path, batch=2)
    with pytest.raises(ShapeError, match=r"expected 2 whole number\(s\) of 1 \.\. 9"):
        model.run(normal(9, 2, F), lengths)


def test_a_fixed_batch_has_one_length_for_all(saved):
    model, x = graphs.recurrent("bidirectional", batch=2), normal(9, 2, F)
    loaded = streamgru.load(saved(model), mode="whole")
    got, want = loaded.run(x, [4]), onnxruntime(model, {"X": x[:4]})
    np.testing.assert_allclose(got["Y"][:4], want["Y"], atol=FLOAT, rtol=0)
    assert not got["Y"][4:].any()
    with pytest.raises(ShapeError, match=r"expected 1 whole"):
        loaded.run(x, [4, 4])


@pytest.mark.parametrize(
    "x, message",
    [
        (normal(9, 2, 4), r"expected shape \[time=9, batch=2, 5\], got \[9, 2, 4\]"),
        (normal(9, F), r"got \[9, 5\]"),
        (normal(0, 2, F), r"got \[0, 2, 5\]"),
        (normal(9, 2, F).astype(np.float64), "expected float32, got float64"),
        ({"Z": normal(9, 2, F)}, r"the inputs are \['X'\], got \['Z'\]"),
    ],
)
def test_bad_sequences_are_refused(saved, x, message):
    with pytest.raises(ShapeError, match=message):
        streamgru.load(saved(graphs.recurrent("bidirectional")), mode="whole").run(x)


def test_dimensions_that_contradict_each_other_are_refused(saved):
    model = streamgru.load(saved(graphs.conditioned()), mode="whole")
    with pytest.raises(ShapeError, match=r"input 'speaker': expected shape \[batch=2, 5\], got \[3, 5\]"):
        model.run({"X": normal(9, 2, F), "speaker": normal(3, F)})


def test_an_empty_sequence_is_refused_by_a_streaming_model(saved):
    with pytest.raises(ShapeError, match="at least one frame"):
        streamgru.load(saved(graphs.recurrent())).run(normal(0, 1, F))


@pytest.mark.parametrize("mode", ["whole", "backwards"])
def test_a_mode_is_not_for_images(saved, mode, tmp_path):
    streamgru.load(saved(graphs.recurrent())).save(tmp_path / "m.sgru")
    with pytest.raises(ModelError, match="mode must be given to `streamgru compile`"):
        streamgru.load(tmp_path / "m.sgru", mode=mode)


def test_the_cache_is_bounded_in_number_and_in_bytes(saved, monkeypatch):
    loaded = streamgru.load(saved(graphs.recurrent("bidirectional")), mode="whole")
    cached, x = loaded._images._cached, normal(whole.CACHED_IMAGES + 5, 1, F)
    want = loaded.run(x[:1])
    for frames in range(1, len(x) + 1):
        loaded.run(x[:frames])
    assert len(cached) == whole.CACHED_IMAGES
    again = loaded.run(x[:1])  # compiled a second time
    assert all(np.array_equal(again[name], want[name]) for name in want)
    monkeypatch.setattr(whole, "CACHED_BYTES", 1)
    loaded.run(x[:2])
    loaded.run(x[:1])
    assert len(cached) == 1


def test_threads_may_share_it(saved):
    loaded = streamgru.load(saved(graphs.recurrent("bidirectional")), mode="whole")
    x = normal(20, 1, F)
    want = [loaded.run(x[:n])["Y"] for n in range(1, 21)]
    wrong = []

    def work():
        for n in [*range(1, 21)] * 5:
            if not np.array_equal(loaded.run(x[:n])["Y"], want[n - 1]):
                wrong.append(n)

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
