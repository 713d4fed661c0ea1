"""A stream: right values, one state that the user owns, and errors that change nothing."""

import threading
from types import MappingProxyType

import numpy as np
import pytest
from onnx import helper

import streamgru
from export.graphs import gru_weights
from export.graphs import model as onnx_model
from runtime.models import expected, gru_model, sequence
from streamgru import NonFiniteError, OptionError, ShapeError, StateError
from streamgru_export.compiler.compile import compile as compile_onnx

FLOAT = 2e-6  # float32 against float64, states within [-1, 1]


@pytest.fixture(name="model", scope="module")
def fixture_model():
    return gru_model()


@pytest.fixture(name="stream")
def fixture_stream(model):
    with model.stream() as stream:
        yield stream


def test_steps_give_what_float64_gives(stream):
    x = sequence(50)
    y = np.stack([stream.step(frame) for frame in x])
    np.testing.assert_allclose(y, expected(x).reshape(y.shape), atol=FLOAT, rtol=0)


@pytest.mark.parametrize("isa", streamgru.available_isas())
@pytest.mark.parametrize("block", [1, 2, 7, 16])
def test_a_run_has_the_bits_of_single_steps(model, isa, block):
    x = sequence(50)
    stream = model.stream()
    steps = np.stack([stream.step(frame) for frame in x])
    streamgru.set_isa(isa)
    try:
        other = model.stream(block=block)
    finally:
        streamgru.set_isa()
    assert other.isa == isa
    halves = np.concatenate([other.run(x[:23]), other.run(x[23:])])
    assert np.array_equal(halves.reshape(steps.shape), steps)


def test_step_inplace_has_the_bits_of_step(model, stream):
    zero_copy = model.stream()
    x, y = zero_copy.x, zero_copy.y
    for frame in sequence(20):
        x[:] = frame
        zero_copy.step_inplace()
        assert np.array_equal(stream.step(frame), y)


def test_step_returns_arrays_of_its_own(stream):
    x = sequence(2)
    first = stream.step(x[0])
    kept = first.copy()
    stream.step(x[1])
    assert np.array_equal(first, kept)


def test_axes_of_length_one_may_be_left_out(model, stream):
    x = sequence(3)
    other = model.stream()
    for frame in x:
        assert np.array_equal(stream.step(frame[0]), other.step(frame))


def test_reset_is_a_new_beginning(model, stream):
    x = sequence(10)
    first = stream.run(x)
    stream.reset()
    assert np.array_equal(stream.run(x), first)


def test_a_saved_state_goes_on_elsewhere(model, stream):
    x = sequence(20)
    stream.run(x[:10])
    saved = stream.save()
    here = stream.run(x[10:])
    for isa in streamgru.available_isas():
        streamgru.set_isa(isa)
        elsewhere = model.stream()
        streamgru.set_isa()
        elsewhere.restore(saved)
        assert np.array_equal(elsewhere.run(x[10:]), here)


def test_a_clone_is_independent(stream):
    x = sequence(20)
    stream.run(x[:10])
    clone = stream.clone()
    stream.run(sequence(5, seed=9))
    stream.reset()
    stream.run(x[:10])
    assert np.array_equal(clone.run(x[10:]), stream.run(x[10:]))


def test_the_state_can_be_looked_at(model, stream):
    y = stream.step(sequence(1)[0])
    (state,) = stream.state.values()
    assert np.array_equal(state.ravel(), y.ravel())


def test_a_state_can_be_taken_over_by_name(model, stream):
    x = sequence(20)
    stream.run(x[:10])
    other = model.stream()
    other.set_state(stream.state)
    assert np.array_equal(other.run(x[10:]), stream.run(x[10:]))
    other.set_state({})
    assert other.save() == stream.save()


@pytest.mark.parametrize(
    "name, value, error, message",
    [
        ("h", np.zeros((1, 8), np.float32), ShapeError, r"there is no state 'h'; there are \['the_gru.h'\]"),
        ("the_gru.h", np.zeros((1, 9), np.float32), ShapeError, r"expected shape \[1, 1, 8\], got \[1, 9\]"),
        ("the_gru.h", np.zeros((1, 8)), ShapeError, "expected float32, got float64"),
        ("the_gru.h", np.full((1, 8), np.inf, np.float32), NonFiniteError, "state 'the_gru.h': NaN or infinity"),
    ],
)
def test_a_state_that_does_not_fit_is_refused(stream, name, value, error, message):
    stream.run(sequence(5))
    before = stream.save()
    with pytest.raises(error, match=message):
        stream.set_state({name: value})
    assert stream.save() == before


def test_many_threads_share_one_model(model):
    x = sequence(400)
    want = model.stream().run(x)
    got = [None] * 8

    def work(i):
        stream = model.stream()
        got[i] = np.concatenate([stream.run(x[t : t + 10]) for t in range(0, 400, 10)])

    threads = [threading.Thread(target=work, args=(i,)) for i in range(len(got))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(np.array_equal(want, y) for y in got)


# ---- bad input: a clear error, and the state is what it was ----


@pytest.fixture(name="unchanged")
def fixture_unchanged(stream):
    stream.run(sequence(5))
    before = stream.save()
    yield stream
    assert stream.save() == before


BAD = [
    (np.zeros((1, 6), np.float32), ShapeError, r"expected shape \[1, 5\], got \[1, 6\]"),
    (np.zeros((5, 2), np.float32), ShapeError, r"expected shape \[1, 5\], got \[5, 2\]"),
    (np.zeros((1, 5)), ShapeError, r"expected float32, got float64; convert it with x.astype\(numpy.float32\)"),
    (np.zeros((1, 5), ">f4"), ShapeError, "expected float32, got >f4"),
    (np.zeros((1, 10), np.float32)[:, ::2], ShapeError, "not C-contiguous; pass numpy.ascontiguousarray"),
    ([0.0] * 5, ShapeError, "expected a numpy array of float32.*got list"),
    (np.array([[0, 1, np.nan, 3, 4]], np.float32), NonFiniteError, r"input 'X' holds nan at \(0, 2\)"),
    (np.array([[0, 1, 2, 3, -np.inf]], np.float32), NonFiniteError, r"input 'X' holds -inf at \(0, 4\)"),
    ({"X": np.zeros((1, 5), np.float32), "Z": None}, ShapeError, r"the inputs are \['X'\], got \['X', 'Z'\]"),
]


@pytest.mark.parametrize("frame, error, message", BAD)
def test_a_bad_frame_is_refused(unchanged, frame, error, message):
    with pytest.raises(error, match=message):
        unchanged.step(frame)


@pytest.mark.parametrize("bad_at", [0, 17, 39])
def test_a_run_with_one_bad_frame_is_undone_whole(model, bad_at):
    stream = model.stream(block=4)
    stream.run(sequence(5))
    before = stream.save()
    x = sequence(40)
    x[bad_at, 0, 3] = np.nan
    with pytest.raises(NonFiniteError, match=rf"holds nan at \({bad_at}, 0, 3\)"):
        stream.run(x)
    assert stream.save() == before


@pytest.mark.parametrize("x", [np.zeros((4, 1, 6), np.float32), np.zeros((4, 1, 5)), np.zeros((), np.float32)])
def test_a_run_of_a_wrong_shape_is_refused(unchanged, x):
    with pytest.raises(ShapeError, match="expected"):
        unchanged.run(x)


def test_a_run_of_no_frames_is_nothing(unchanged):
    assert unchanged.run(np.zeros((0, 1, 5), np.float32)).shape[0] == 0


def test_nan_passes_where_it_may(model):
    stream = model.stream(nonfinite="pass")
    frame = np.zeros((1, 5), np.float32)
    frame[0, 0] = np.nan
    y = stream.step(frame)
    assert np.isnan(y).all()
    assert set(y.view(np.uint32).ravel()) == {0x7FC00000}
    stream.reset()
    assert np.isfinite(stream.step(np.zeros((1, 5), np.float32))).all()


def test_an_overflow_inside_leaves_the_state_alone():
    model = gru_model(activations=["Sigmoid", "Affine"], activation_alpha=[3e38], activation_beta=[0.0])
    stream = model.stream()
    before = stream.save()
    with pytest.raises(NonFiniteError, match="arising in a state"):
        stream.run(sequence(50) * 100)
    stream.reset()
    assert stream.save() == before


def test_subnormal_frames_count_as_zero(model, stream):
    tiny = np.full((1, 5), 1e-40, np.float32)
    zero = model.stream()
    assert np.array_equal(stream.step(tiny), zero.step(np.zeros((1, 5), np.float32)))


def test_a_silent_stream_decays_to_zero_and_not_to_subnormals():
    weights_only = gru_model(batch=1)
    stream = weights_only.stream()
    for frame in sequence(5):
        stream.step(frame)
    (state,) = stream.state.values()
    assert not np.any((state != 0) & (np.abs(state) < 2.0**-64))


@pytest.mark.parametrize(
    "call",
    [
        lambda s: s.step(np.zeros((1, 5), np.float32)),
        lambda s: s.step_inplace(),
        lambda s: s.run(np.zeros((3, 1, 5), np.float32)),
        lambda s: s.save(),
        lambda s: s.restore(b""),
        lambda s: s.reset(),
        lambda s: s.set_state({}),
        lambda s: s.state,
        lambda s: s.clone(),
    ],
)
def test_a_closed_stream_says_so(model, call):
    stream = model.stream()
    stream.close()
    stream.close()
    with pytest.raises(StateError, match="this stream is closed"):
        call(stream)


@pytest.mark.parametrize("damage", ["truncated", "altered", "foreign", "empty", "not finite"])
def test_a_bad_saved_state_is_refused(unchanged, damage):
    blob = bytearray(unchanged.save())
    if damage == "truncated":
        blob = blob[:-1]
    elif damage == "altered":
        blob[-5] ^= 1
    elif damage == "foreign":
        blob = bytearray(gru_model(hidden=9).stream().save())
    elif damage == "empty":
        blob = bytearray()
    else:
        other = unchanged.model.stream(nonfinite="pass")
        other.step(np.full((1, 5), np.nan, np.float32))
        blob = bytearray(other.save())
    with pytest.raises(StateError, match="a saved state of another model, truncated or altered"):
        unchanged.restore(bytes(blob))


@pytest.mark.parametrize("options", [{"block": 0}, {"block": -3}, {"block": 2**62}, {"nonfinite": "ignore"}])
def test_bad_stream_options_are_refused(model, options):
    with pytest.raises(OptionError, match=r"block is 1 to |does not fit in memory|one of 'refuse', 'pass'"):
        model.stream(**options)


def test_results_that_somebody_holds_never_change():
    """Those that nobody holds are filled again; views, and what lives on in another array's base, count as held."""
    x = sequence(200)
    expected = gru_model().stream().run(x)
    stream = gru_model().stream()
    every, views, some = [], [], []
    for t, frame in enumerate(x):
        y = stream.step(frame)
        if t % 3 == 0:
            some.append(y)
        elif t % 3 == 1:
            views.append(memoryview(y) if t % 2 else y[..., ::2])
        every.append(y.copy())
    np.testing.assert_array_equal(every, expected)
    np.testing.assert_array_equal(some, expected[::3])
    for view, y in zip(views, expected[1::3], strict=False):
        array = np.asarray(view)
        np.testing.assert_array_equal(array, y if array.shape == y.shape else y[..., ::2])


def test_results_of_two_streams_are_apart():
    model, x = gru_model(), sequence(9)
    a, b = model.stream(), model.stream()
    kept = [(a.step(frame), b.step(2 * frame)) for frame in x]
    again, other = model.stream(), model.stream()
    for frame, (one, two) in zip(x, kept, strict=True):
        np.testing.assert_array_equal(one, again.step(frame))
        np.testing.assert_array_equal(two, other.step(2 * frame))


@pytest.fixture(name="several", scope="module")
def fixture_several():
    """Two inputs [1, 5] and [1, 3] beside each other into a GRU of a step; its output and its double."""
    weights = gru_weights(np.random.default_rng(4), 8, 6)
    nodes = [
        helper.make_node("Concat", ["a", "b"], ["x"], axis=1),
        helper.make_node("Unsqueeze", ["x", "zero"], ["X"]),
        helper.make_node("GRU", ["X", "W", "R", "B", "", "h"], ["Y", "h_out"], hidden_size=6),
        helper.make_node("Add", ["Y", "Y"], ["Z"]),
    ]
    inputs = {"a": [1, 5], "b": [1, 3], "h": [1, 1, 6]}
    source = onnx_model(nodes, inputs, ["Y", "Z", "h_out"], {**weights, "zero": np.array([0])})
    return streamgru.Model(compile_onnx(source).image)


def test_several_inputs_and_outputs_go_by_name(several):
    """However a frame is spelt, and each result is the caller's own."""
    r = np.random.default_rng(8)
    frames = [{"a": r.standard_normal((1, 5), np.float32), "b": r.standard_normal((1, 3), np.float32)} for _ in "1234"]
    exact, squeezed = several.stream(), several.stream()
    first = [exact.step(frame) for frame in frames]
    for frame, want in zip(frames, first, strict=True):
        got = squeezed.step(MappingProxyType({name: frame[name][0] for name in ("b", "a")}))
        assert got.keys() == want.keys() == {"Y", "Z"}
        assert all(np.array_equal(got[n], want[n]) for n in want)
        assert np.array_equal(want["Z"], 2 * want["Y"])
    assert exact.save() == squeezed.save()


def test_results_of_several_outputs_that_somebody_holds_never_change(several):
    """The dict, one of its arrays or a view of one: each is enough."""
    x = np.random.default_rng(9).standard_normal((120, 8)).astype(np.float32)
    expected = several.stream().run({"a": x[:, None, :5].copy(), "b": x[:, None, 5:].copy()})
    stream, held = several.stream(), []
    for t, frame in enumerate(x):
        y = stream.step(
            {"a": frame[None, :5], "b": frame[5:]} if t % 2 else {"a": frame[None, :5], "b": frame[None, 5:]}
        )
        held += [(t, n, y[n][..., ::2] if t % 5 == 0 else y[n]) for n in ((), ("Y",), ("Z",), ("Y", "Z"))[t % 4]]
        for name in ("Y", "Z"):
            np.testing.assert_array_equal(y[name], expected[name][t])
    for t, name, y in held:
        np.testing.assert_array_equal(y, expected[name][t][..., ::2] if t % 5 == 0 else expected[name][t])


@pytest.mark.parametrize(
    "frame, message",
    [
        ({"a": np.zeros((1, 10), np.float32)[:, ::2], "b": np.zeros((1, 3), np.float32)}, "C-contiguous"),
        ({"a": np.zeros((1, 5), np.float32), "b": np.zeros((1, 3))}, "'b': expected float32"),
        ({"a": np.zeros((1, 5), np.float32), "c": np.zeros((1, 3), np.float32)}, r"\['a', 'b'\]"),
        ({"a": np.zeros((1, 5), np.float32)}, r"\['a', 'b'\]"),
        (np.zeros((1, 5), np.float32), "2 inputs"),
    ],
)
def test_frames_of_several_inputs_that_do_not_fit_are_refused(several, frame, message):
    stream = several.stream()
    stream.step({"a": np.ones((1, 5), np.float32), "b": np.ones((1, 3), np.float32)})
    before = stream.save()
    with pytest.raises(streamgru.ShapeError, match=message):
        stream.step(frame)
    assert stream.save() == before
