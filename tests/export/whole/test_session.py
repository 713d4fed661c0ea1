"""onnxruntime's calls: the same names, shapes, types and, within the rounding of float32, numbers."""

import os
import subprocess
import sys
import threading

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import helper

import streamgru
from export.graphs import FLOAT, model
from runtime import graphs_of_sequences as graphs
from runtime.graphs_of_sequences import F, H, normal
from streamgru import ModelError, ShapeError

IDS = np.random.default_rng(3).integers(0, 20, (2, 9))
CASES = {
    "forward": (graphs.recurrent(), {"X": normal(7, 2, F)}),
    "bidirectional": (graphs.recurrent("bidirectional"), {"X": normal(7, 2, F)}),
    "batch first": (graphs.recurrent("reverse", batch_first=True), {"X": normal(2, 7, F)}),
    "a dimension without a name": (graphs.recurrent(batch=None), {"X": normal(7, 2, F)}),
    "a batch that is a number": (graphs.recurrent(batch=2), {"X": normal(7, 2, F)}),
    "attention": (graphs.attention(), {"X": normal(2, 7, F)}),
    "two inputs": (graphs.conditioned(), {"X": normal(7, 2, F), "speaker": normal(2, F)}),
    "a scalar": (graphs.scaled(), {"X": normal(7, 2, F), "gain": np.array(0.5, np.float32)}),
    "a step with its state": (graphs.step(), {"x": normal(3, F), "h_in": normal(1, 3, H)}),
    "ids": (graphs.tokens(), {"ids": IDS}),
    "sequence_lens": (graphs.with_lengths(), {"X": normal(7, 2, F), "lens": np.array([7, 3], np.int32)}),
}


def both(case):
    data = CASES[case][0].SerializeToString()
    return streamgru.InferenceSession(data), ort.InferenceSession(data, providers=["CPUExecutionProvider"])


def described(ports):
    return [(p.name, p.shape, p.type) for p in ports]


@pytest.mark.parametrize("case", list(CASES))
def test_inputs_and_outputs_are_described_as_onnxruntime_does(case):
    ours, theirs = both(case)
    assert described(ours.get_inputs()) == described(theirs.get_inputs())
    assert described(ours.get_outputs()) == described(theirs.get_outputs())


@pytest.mark.parametrize("case", list(CASES))
def test_a_run_gives_what_onnxruntime_gives(case):
    ours, theirs = both(case)
    feeds = CASES[case][1]
    for got, expected in zip(ours.run(None, feeds), theirs.run(None, feeds), strict=True):
        assert (got.shape, got.dtype) == (expected.shape, expected.dtype)
        np.testing.assert_allclose(got, expected, atol=FLOAT, rtol=0)


def test_it_has_no_state_and_takes_every_shape():
    ours, theirs = both("bidirectional")
    for shape in ((3, 1, F), (3, 4, F), (11, 1, F), (3, 1, F)):
        x = normal(*shape)
        first, again, expected = (s.run(["Y"], {"X": x})[0] for s in (ours, ours, theirs))
        assert np.array_equal(first, again)
        np.testing.assert_allclose(first, expected, atol=FLOAT, rtol=0)


def test_outputs_come_in_the_order_they_are_asked_for():
    ours, theirs = both("forward")
    feeds = CASES["forward"][1]
    for names in (["Y_h", "Y"], ["Y_h"], ["Y", "Y"], [], None):
        got, expected = ours.run(names, feeds), theirs.run(names, feeds)
        assert [y.shape for y in got] == [y.shape for y in expected]


@pytest.mark.parametrize("dtype, type_name", [(np.float64, "tensor(double)"), (np.float16, "tensor(float16)")])
def test_wide_and_narrow_floats_keep_their_dtype_outside(dtype, type_name):
    code = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    w = normal(F, H).astype(dtype)
    source = model([helper.make_node("MatMul", ["x", "w"], ["y"])], {"x": ["n", F]}, ["y"], {"w": w},
                   dtypes={"x": code, "y": code})  # fmt: skip
    session = streamgru.InferenceSession(source.SerializeToString())
    x = normal(3, F).astype(dtype)
    (y,) = session.run(None, {"x": x})
    assert session.get_inputs()[0].type == session.get_outputs()[0].type == type_name
    assert y.dtype == dtype
    exact = x.astype(np.float64) @ w.astype(np.float64)
    np.testing.assert_allclose(y, exact, atol=1e-2 if dtype == np.float16 else 2e-6)  # half: 11 bits of numbers up to 8


def test_a_path_and_the_arguments_of_onnxruntime_are_taken(tmp_path):
    source, feeds = CASES["forward"]
    onnx.save(source, tmp_path / "m.onnx")
    session = streamgru.InferenceSession(tmp_path / "m.onnx", ort.SessionOptions(), providers=["CPUExecutionProvider"])
    assert np.array_equal(session.run(["Y"], feeds, None)[0], both("forward")[0].run(["Y"], feeds)[0])


def test_an_array_need_not_be_contiguous():
    ours, _ = both("forward")
    x = normal(7, 2, 2 * F)[:, :, ::2]
    assert np.array_equal(ours.run(["Y"], {"X": x})[0], ours.run(["Y"], {"X": np.ascontiguousarray(x)})[0])


def test_nan_passes_into_its_own_sequence_and_no_other():
    """As in torch. (onnxruntime's sigmoid makes a number of it.)"""
    ours, _ = both("forward")
    x = normal(7, 2, F)
    clean = ours.run(["Y"], {"X": x})[0]
    x[3, 1] = np.nan
    y = ours.run(["Y"], {"X": x})[0]
    assert np.isnan(y[3:, 0, 1]).all()
    assert np.array_equal(y[:3], clean[:3])
    assert np.array_equal(y[:, 0, 0], clean[:, 0, 0])


BAD = [
    ({}, r"the inputs are \['X'\], got \[\]"),
    ({"X": normal(7, 2, F), "Z": normal(1)}, r"got \['X', 'Z'\]"),
    ({"X": normal(7, 2, F).astype(np.float64)}, "input 'X': expected float32, got float64"),
    ({"X": normal(7, 2, 4)}, r"input 'X': expected shape \[time=7, batch=2, 5\], got \[7, 2, 4\]"),
    ({"X": normal(7, F)}, r"got \[7, 5\]"),
    ({"X": normal(0, 2, F)}, r"got \[0, 2, 5\]"),
]


@pytest.mark.parametrize("feeds, message", BAD)
def test_bad_feeds_are_refused(feeds, message):
    with pytest.raises(ShapeError, match=message):
        both("forward")[0].run(None, feeds)


def test_an_unknown_output_is_refused():
    with pytest.raises(ShapeError, match=r"no output 'Z'; there are \['Y', 'Y_h'\]"):
        both("forward")[0].run(["Z"], CASES["forward"][1])


def test_lengths_out_of_range_are_refused():
    ours, _ = both("sequence_lens")
    with pytest.raises(ShapeError, match="out of range"):
        ours.run(None, {"X": normal(7, 2, F), "lens": np.array([7, 8], np.int32)})


def test_a_graph_that_cannot_be_compiled_is_refused_at_once_where_its_shapes_are_known():
    source = model([helper.make_node("Det", ["x"], ["y"], name="d")], {"x": [2, 2]}, ["y"])
    with pytest.raises(ModelError, match=r"'d'.*Det is not supported"):
        streamgru.InferenceSession(source.SerializeToString())


@pytest.mark.parametrize("data", [b"", b"not a model"])
def test_what_is_no_model_is_refused(data):
    with pytest.raises(ModelError, match="not an ONNX model"):
        streamgru.InferenceSession(data)


def test_a_file_that_is_not_there():
    with pytest.raises(ModelError, match=r"gone\.onnx: cannot be read: No such file"):
        streamgru.InferenceSession("gone.onnx")


def test_threads_may_share_it():
    ours, _ = both("bidirectional")
    feeds = [{"X": normal(n, 1, F)} for n in range(1, 9)]
    want = [ours.run(["Y"], f)[0] for f in feeds]
    wrong = []

    def work():
        for _ in range(20):
            wrong.extend(f for f, y in zip(feeds, want, strict=True) if not np.array_equal(ours.run(["Y"], f)[0], y))

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


@pytest.mark.parametrize("call", ["InferenceSession('m.onnx')", "load('m.onnx')", "load('m.onnx', mode='whole')"])
def test_without_onnx_the_message_says_what_to_install(tmp_path, call):
    onnx.save(CASES["forward"][0], tmp_path / "m.onnx")
    code = f"""
import sys
sys.modules["onnx"] = None  # import raises ModuleNotFoundError
import streamgru
try:
    streamgru.{call}
except streamgru.ModelError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, env=os.environ)
    where = "m.onnx" if call.startswith("load") else "streamgru.InferenceSession"
    assert f"{where}: reading ONNX needs the package 'onnx': pip install 'streamgru[onnx]'" in done.stdout, done.stderr
