"""Pools: many streams of one model moved on together, with the bits of single streams."""

import numpy as np
import pytest

import streamgru
from export.graphs import gru_weights, model
from runtime import graphs_of_sequences as graphs
from runtime.models import gru_model
from streamgru.errors import NonFiniteError, ShapeError, SlotError, StateError
from streamgru_export.compiler.compile import compile as compile_onnx


def recurrent(kind, **attributes):
    gates = {"GRU": 3, "LSTM": 4, "RNN": 1}[kind]
    node = graphs.node(kind, ["X", "W", "R", "B"], ["Y"], hidden_size=24, **attributes)
    weights = gru_weights(np.random.default_rng(3), 5, 24, gates=gates)
    return streamgru.Model(compile_onnx(model([node], {"X": ["time", 1, 5]}, ["Y"], weights)).image)


def stacked():
    """A causal convolution over time, two layers, a Linear with Relu."""
    r = np.random.default_rng(4)
    nodes = [
        graphs.node("Pad", ["X", "pads"], ["p"]),
        graphs.node("Conv", ["p", "k"], ["c"], kernel_shape=[3]),
        graphs.node("Transpose", ["c"], ["x"], perm=[2, 0, 1]),
        graphs.node("GRU", ["x", "W", "R", "B"], ["a"], hidden_size=16, linear_before_reset=1),
        graphs.node("Squeeze", ["a", "one"], ["b"]),
        graphs.node("LSTM", ["b", "W2", "R2", "B2"], ["d"], hidden_size=7),
        graphs.node("MatMul", ["d", "m"], ["e"]),
        graphs.node("Relu", ["e"], ["Y"]),
    ]
    second = {f"{name}2": value for name, value in gru_weights(r, 16, 7, gates=4).items()}
    constants = {
        **gru_weights(r, 6, 16),
        **second,
        "k": r.standard_normal((6, 5, 3)).astype(np.float32),
        "m": r.standard_normal((7, 33)).astype(np.float32),
        "pads": np.array([0, 0, 2, 0, 0, 0]),
        "one": np.array([1]),
    }
    return streamgru.Model(compile_onnx(model(nodes, {"X": [1, 5, "time"]}, ["Y"], constants)).image)


def several(name, **options):
    return streamgru.Model(compile_onnx(getattr(graphs, name)(), **options).image)


MODELS = {
    "gru": lambda: recurrent("GRU", linear_before_reset=1),
    "gru, reset before": lambda: recurrent("GRU", linear_before_reset=0),
    "gru, clipped, other functions": lambda: recurrent("GRU", clip=0.4, activations=["HardSigmoid", "Softsign"]),
    "lstm": lambda: recurrent("LSTM"),
    "lstm, input forget": lambda: recurrent("LSTM", input_forget=1, clip=0.7),
    "rnn": lambda: recurrent("RNN"),
    "large": lambda: gru_model(64, 80),
    "batch": lambda: gru_model(batch=3),
    "stacked": stacked,
    "explicit state": lambda: several("step", batch=1),
    "tokens": lambda: several("tokens", batch=1),
    "two inputs": lambda: several("conditioned", batch=1),
}


@pytest.fixture(name="pooled", params=MODELS, scope="module")
def fixture_pooled(request):
    return MODELS[request.param]()


def frames(pooled, n, r):
    """Random frames for n slots, by input."""
    return {
        t.name: r.integers(0, 20, (n, *t.shape)) if t.dtype.kind == "i" else r.standard_normal((n, *t.shape), t.dtype)
        for t in pooled.inputs
    }


def given(tensors, value):
    return value if isinstance(value, dict) else {tensors[0].name: value}


def taken(value):
    return value if len(value) > 1 else next(iter(value.values()))


def row(value, i):
    return {name: array[i] for name, array in value.items()}


def assert_moves_as_streams(pool, streams, slots, x):
    y = given(pool.model.outputs, pool.step(slots, taken(x)))
    for i, slot in enumerate(slots):
        expected = given(pool.model.outputs, streams[slot].step(taken(row(x, i))))
        for name, array in expected.items():
            np.testing.assert_array_equal(y[name][i], array, strict=True)
        assert pool.save(slot) == streams[slot].save()


@pytest.mark.parametrize("lanes", [1, 3, None])
def test_bits_are_those_of_single_streams_whatever_the_company(pooled, lanes):
    print("seed 11")
    r = np.random.default_rng(11)
    pool = pooled.pool(9, lanes=lanes)
    streams = {pool.open(): pooled.stream() for _ in range(7)}
    for turn in range(25):
        slots = list(r.permutation(list(streams))[: r.integers(0, len(streams) + 1)])
        assert_moves_as_streams(pool, streams, slots, frames(pooled, len(slots), r))
        if turn % 6 == 5:
            slot = int(r.choice(list(streams)))
            pool.reset(slot)
            streams[slot].reset()
        if turn % 8 == 7:
            pool.close(streams.popitem()[0])
            streams[pool.open()] = pooled.stream()


def test_every_isa_gives_the_same_bits(pooled):
    results = []
    isa = streamgru.isa()
    for name in streamgru.available_isas():
        streamgru.set_isa(name)
        try:
            pool = pooled.pool(5)
        finally:
            streamgru.set_isa(isa)
        slots = [pool.open() for _ in range(5)]
        r = np.random.default_rng(2)
        results.append([given(pooled.outputs, pool.step(slots, taken(frames(pooled, 5, r)))) for _ in range(4)])
    for other in results[1:]:
        for a, b in zip(results[0], other, strict=True):
            for name in a:
                np.testing.assert_array_equal(a[name], b[name], strict=True)


def test_states_go_between_pools_and_streams(pooled):
    r = np.random.default_rng(5)
    pool, stream = pooled.pool(2), pooled.stream()
    slot = pool.open()
    pool.step([slot], taken(frames(pooled, 1, r)))
    stream.restore(pool.save(slot))
    x = frames(pooled, 1, r)
    assert_moves_as_streams(pool, {slot: stream}, [slot], x)
    other = pool.open()
    pool.restore(other, stream.save())
    assert_moves_as_streams(pool, {other: stream}, [other], x)


@pytest.mark.parametrize("kind", ["NaN", "infinity"])
def test_one_slots_nan_touches_nobody(pooled, kind):
    if pooled.inputs[0].dtype.kind != "f":
        pytest.skip("integers have no NaN")
    r = np.random.default_rng(6)
    pool = pooled.pool(6, lanes=2)
    slots = [pool.open() for _ in range(6)]
    pool.step(slots, taken(frames(pooled, 6, r)))
    before = [pool.save(slot) for slot in slots]
    x = frames(pooled, 6, r)
    x[pooled.inputs[0].name][4].reshape(-1)[-1] = np.nan if kind == "NaN" else np.inf
    with pytest.raises(NonFiniteError, match=f"slot {slots[4]} .number 4.*{pooled.inputs[0].name}"):
        pool.step(slots, taken(x))
    assert [pool.save(slot) for slot in slots] == before


def test_where_nan_may_pass_it_stays_in_its_slot(pooled):
    if pooled.inputs[0].dtype.kind != "f":
        pytest.skip("integers have no NaN")
    r = np.random.default_rng(7)
    pool = pooled.pool(3, nonfinite="pass")
    slots = [pool.open() for _ in range(3)]
    streams = {slot: pooled.stream(nonfinite="pass") for slot in slots}
    for _ in range(3):
        x = frames(pooled, 3, r)
        x[pooled.inputs[0].name][1].reshape(-1)[0] = np.nan
        assert_moves_as_streams(pool, streams, slots, x)


def test_a_state_that_overflows_names_its_slot():
    weights = {
        "W": np.full((1, 8, 5), 1e30, np.float32),
        "R": np.zeros((1, 8, 8), np.float32),
        "B": np.zeros((1, 16), np.float32),
    }
    node = graphs.node("RNN", ["X", "W", "R", "B"], ["Y"], hidden_size=8, activations=["Affine"])
    pooled = streamgru.Model(compile_onnx(model([node], {"X": ["time", 1, 5]}, ["Y"], weights)).image)
    pool = pooled.pool(3)
    slots = [pool.open() for _ in range(3)]
    x = np.ones((3, 1, 5), np.float32)
    x[2] = 3e38
    before = [pool.save(slot) for slot in slots]
    with pytest.raises(NonFiniteError, match=f"slot {slots[2]} .number 2.*state"):
        pool.step(slots, x)
    assert [pool.save(slot) for slot in slots] == before


def test_an_id_out_of_range_names_its_slot():
    pooled = several("tokens", batch=1)
    pool = pooled.pool(4)
    slots = [pool.open() for _ in range(4)]
    before = [pool.save(slot) for slot in slots]
    for at in range(4):
        ids = np.ones((4, 1), np.int64)
        ids[at] = 99
        with pytest.raises(ShapeError, match=f"slot {slots[at]} .number {at}"):
            pool.step(slots, ids.reshape(4, *pooled.inputs[0].shape))
    assert [pool.save(slot) for slot in slots] == before


def test_slots_that_are_none_are_refused_and_nothing_moves():
    pool, other = gru_model().pool(3), gru_model().pool(3)
    a, b, foreign = pool.open(), pool.open(), other.open()
    closed = pool.open()
    pool.close(closed)
    x = np.ones((2, 1, 5), np.float32)
    pool.step([a, b], x)
    before = pool.save(a), pool.save(b)
    for slots, why in [
        ([a, a], "twice"),
        ([a, closed], "no open slot"),
        ([a, foreign], "no open slot"),
        ([a, 0], "no open slot"),
        ([a, 1], "no open slot"),
        ([a, -1], "no open slot"),
        ([a, 2**62], "no open slot"),
    ]:
        with pytest.raises(SlotError, match=why):
            pool.step(slots, x)
        assert (pool.save(a), pool.save(b)) == before
    for call in (pool.reset, pool.save, pool.close, lambda slot: pool.restore(slot, before[0])):
        for slot in (closed, foreign, 0, "a"):
            with pytest.raises(SlotError):
                call(slot)
    with pytest.raises(SlotError, match="integers"):
        pool.step([0.5, 1.5], x)
    with pytest.raises(SlotError, match="integers"):
        pool.step([[a, b]], x)


def test_a_full_pool_and_ids_that_never_come_back():
    pool = gru_model().pool(3)
    seen = set()
    for _ in range(50):
        slots = [pool.open() for _ in range(3)]
        with pytest.raises(SlotError, match="all 3 slots"):
            pool.open()
        assert len(pool) == 3
        assert pool.slots == tuple(slots)
        assert seen.isdisjoint(slots)
        seen.update(slots)
        for slot in slots:
            pool.close(slot)
    assert len(pool) == 0


@pytest.mark.parametrize(
    "x",
    [
        np.ones((2, 1, 4), np.float32),
        np.ones((3, 1, 5), np.float32),
        np.ones((2, 1, 5)),
        np.ones((2, 1, 10), np.float32)[:, :, ::2],
        [[1.0]],
    ],
    ids=["shape", "count", "dtype", "layout", "list"],
)
def test_wrong_frames_are_refused(x):
    pool = gru_model().pool(3)
    slots = [pool.open(), pool.open()]
    before = pool.save(slots[0])
    with pytest.raises(ShapeError):
        pool.step(slots, x)
    assert pool.save(slots[0]) == before


def test_a_wrong_state_is_refused():
    pool = gru_model().pool(2)
    slot = pool.open()
    pool.step([slot], np.ones((1, 1, 5), np.float32))
    before = pool.save(slot)
    for state in (b"", before[:-1], bytes(len(before)), gru_model(5, 16).stream().save()):
        with pytest.raises(StateError):
            pool.restore(slot, state)
        assert pool.save(slot) == before


def test_a_closed_pool():
    with gru_model().pool(2) as pool:
        slot = pool.open()
    pool.close()
    for call in (pool.open, lambda: pool.step([slot], np.ones((1, 1, 5), np.float32)), lambda: pool.save(slot)):
        with pytest.raises(StateError, match="closed"):
            call()


def test_info_states_the_memory_of_a_slot(pooled):
    """A pool of a thousand more slots takes so much more, up to what is rounded for all of them."""
    larger, smaller = (pooled.pool(capacity, lanes=4).nbytes for capacity in (2000, 1000))
    assert abs((larger - smaller) / 1000 - pooled.sizes["slot"]) < 1


@pytest.mark.parametrize("options", [{"capacity": 0}, {"capacity": 2**24 + 1}, {"capacity": 2, "lanes": 0}])
def test_sizes_out_of_range(options):
    with pytest.raises(ValueError, match=r"capacity|lanes"):
        gru_model().pool(**options)
