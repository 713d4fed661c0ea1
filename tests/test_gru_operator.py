"""The whole ONNX GRU through the C core: every attribute against float64, the same bits on every instruction set.

ONNX's own tests cover neither clip, nor activations, nor linear_before_reset, and onnxruntime has its own reading of
some of them; the oracle here is the float64 GRU, written from the operator's specification.
"""

import numpy as np
import pytest

import streamgru
from export.graphs import ACTIVATIONS, FLOAT, SEED, cell
from streamgru_export.compiler.compile import compile
from streamgru_export.oracle.model import Float64Model

DIRECTIONS = ("forward", "reverse", "bidirectional")
ALPHA = ("LeakyRelu", "Elu", "ThresholdedRelu", "HardSigmoid", "ScaledTanh", "Affine")
BETA = ("HardSigmoid", "ScaledTanh", "Affine")


def check(source, feeds):
    """Values against float64, bits between instruction sets. The largest error, relative for numbers above 1."""
    model = streamgru.Model(compile(source, mode="whole").image)
    want = Float64Model(source).run(feeds)
    first, worst = None, 0.0
    for isa in streamgru.available_isas():
        streamgru.set_isa(isa)
        try:
            got = model.run(feeds["x"])
        finally:
            streamgru.set_isa()
        first = first or got
        for name, y in want.items():
            assert got[name].shape == y.shape
            assert np.array_equal(got[name], first[name]), (isa, name)
            worst = max(worst, float((np.abs(got[name] - y) / np.maximum(1, np.abs(y))).max()))
    assert worst <= FLOAT
    return worst


def shape(r):
    return {
        "t": int(r.integers(1, 6)),
        "b": int(r.integers(1, 10)),
        "i": int(r.integers(1, 40)),
        "h": int(r.integers(1, 70)),
    }


def some(r):
    """Everything else, at random."""
    layout = int(r.integers(2))
    return {
        **shape(r), "direction": str(r.choice(DIRECTIONS)), "linear_before_reset": int(r.integers(2)),
        "bias": bool(r.integers(2)), "initial": bool(r.integers(2)), "lens": bool(r.integers(2)),
        **({"layout": 1} if layout else {}), "opset": int(r.choice([14, 22] if layout else [7, 14, 22])),
    }  # fmt: skip


def trials(count, *key):
    """Generators, each of a seed of its own, printed."""
    for k in range(count):
        print(f"seed {[SEED, *key, k]}", end=" ")
        yield np.random.default_rng([SEED, *key, k])


@pytest.mark.parametrize("group", range(4))
def test_random_grus(group):
    errors = []
    for r in trials(50, 1, group):
        options = some(r)
        print(options)
        errors.append(check(*cell("GRU", r, **options)))
    print(f"largest error {max(errors):.2g}")


@pytest.mark.parametrize("clip", [1e-3, 0.1, 0.5, 2.0])
def test_clip(clip):
    """It bounds what goes into every activation, on both sides."""
    for r in trials(15, 2, int(clip * 1000)):
        options = some(r)
        print(options)
        source, feeds = cell("GRU", r, clip=clip, **options)
        check(source, {"x": 3 * feeds["x"]})


def test_clip_makes_a_difference():
    """So the tests above do test it."""
    (r,) = trials(1, 3)
    state = r.bit_generator.state
    with_clip, feeds = cell("GRU", r, clip=0.1)
    r.bit_generator.state = state
    without, _ = cell("GRU", r)
    a, b = (streamgru.Model(compile(m, mode="whole").image).run(feeds["x"])["Y"] for m in (with_clip, without))
    assert np.abs(a - b).max() > 0.01


@pytest.mark.parametrize("place", [0, 1])
@pytest.mark.parametrize("name", list(ACTIVATIONS))
def test_each_activation_in_each_place(name, place):
    """f on the gates or g on the candidate, with its default numbers (ScaledTanh has none) and with others."""
    for k, r in enumerate(trials(6, 4, place, list(ACTIVATIONS).index(name))):
        names = ["Sigmoid", "Tanh"]
        names[place] = name
        numbers = {}
        given = k % 2 or name == "ScaledTanh"
        if given and name in ALPHA:
            numbers["activation_alpha"] = [float(np.float32(r.uniform(0.1, 0.9)))]
        if given and name in BETA:
            numbers["activation_beta"] = [float(np.float32(r.uniform(0.1, 0.9)))]
        options = {**some(r), "direction": "forward", "t": 3, "h": int(r.integers(1, 20))}
        print(names, numbers, options)
        check(*cell("GRU", r, activations=names, **numbers, **options))


@pytest.mark.parametrize("group", range(3))
def test_random_activations_for_each_direction(group):
    """The numbers are consumed in the order of the activations that take one."""
    for r in trials(25, 5, group):
        options = {**some(r), "t": 3, "h": int(r.integers(1, 20))}
        places = 4 if options["direction"] == "bidirectional" else 2
        names = [str(n) for n in r.choice(list(ACTIVATIONS), places)]
        numbers = {
            "activation_alpha": [float(np.float32(r.uniform(0.1, 0.9))) for n in names if n in ALPHA],
            "activation_beta": [float(np.float32(r.uniform(0.1, 0.9))) for n in names if n in BETA],
        }
        print(names, numbers, options)
        check(*cell("GRU", r, activations=names, **{k: v for k, v in numbers.items() if v}, **options))


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("lbr", [0, 1])
def test_sequence_lens(direction, lbr):
    """Y is zero beyond a length, Y_h is the state at it, a reverse GRU begins there."""
    for r in trials(12, 6, DIRECTIONS.index(direction), lbr):
        options = {**some(r), "direction": direction, "linear_before_reset": lbr, "lens": True}
        print(options)
        check(*cell("GRU", r, **options))


def test_sequence_lens_are_those_of_sequences_alone():
    """Bit for bit: a sequence in a padded batch, and alone at its own length."""
    for r in trials(10, 7):
        options = {
            **shape(r),
            "direction": str(r.choice(DIRECTIONS)),
            "lens": True,
            "linear_before_reset": int(r.integers(2)),
        }
        print(options)
        source, feeds = cell("GRU", r, **options)
        got = streamgru.Model(compile(source, mode="whole").image).run(feeds["x"])
        (lens,) = (np.frombuffer(t.raw_data, np.int32) for t in source.graph.initializer if t.name == "lens")
        source.graph.node[0].input[4] = ""
        for axis, name in ((0, "time"), (1, "batch")):
            source.graph.input[0].type.tensor_type.shape.dim[axis].dim_param = name
        for b, n in enumerate(lens):
            alone = streamgru.Model(compile(source, mode="whole", dims={"time": int(n), "batch": 1}).image)
            want = alone.run(np.ascontiguousarray(feeds["x"][:n, b : b + 1]))
            assert np.array_equal(got["Y"][:n, :, b], want["Y"][:, :, 0])
            assert np.array_equal(got["Y_h"][:, b], want["Y_h"][:, 0])
            assert not got["Y"][n:, :, b].any()


def test_a_stream_has_the_bits_of_the_whole():
    """Forward GRUs with any activations, clip and initial state: step by step, and in one run of the operator."""
    for r in trials(30, 8):
        names = [str(n) for n in r.choice([name for name in ACTIVATIONS if name != "ScaledTanh"], 2)]
        options = {**shape(r), "linear_before_reset": int(r.integers(2)), "clip": float(r.choice([0.0, 0.5])),
                   "initial": bool(r.integers(2)), "h": int(r.integers(1, 20))}  # fmt: skip
        print(names, options)
        source, feeds = cell("GRU", r, activations=names, **options)
        want = streamgru.Model(compile(source, mode="whole").image).run(feeds["x"])
        source.graph.input[0].type.tensor_type.shape.dim[0].dim_param = "time"
        model = streamgru.Model(compile(source).image)
        got = model.run(feeds["x"])
        assert np.array_equal(got["Y"], want["Y"])
        assert np.array_equal(got["Y_h"], want["Y_h"])
        steps = [model_step["Y"] for model_step in map(model.stream().step, feeds["x"])]
        assert np.array_equal(np.stack(steps).reshape(want["Y"].shape), want["Y"])
