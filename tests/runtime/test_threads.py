"""Threads that share a step: the same bits for any number, errors, an orderly end."""

import gc
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

import streamgru
from export.graphs import gru_weights, model
from runtime import graphs_of_sequences as graphs
from streamgru import _threads
from streamgru.errors import NonFiniteError
from streamgru_export.compiler.compile import compile as compile_onnx


@pytest.fixture(autouse=True)
def many_processors(monkeypatch):
    monkeypatch.setattr(_threads, "processors", lambda: 8)


def layered(kind, hidden, **attributes):
    """A recurrent layer large enough to be shared, then a Linear likewise."""
    r = np.random.default_rng(5)
    gates = {"GRU": 3, "LSTM": 4, "RNN": 1}[kind]
    nodes = [
        graphs.node(kind, ["X", "W", "R", "B"], ["h"], hidden_size=hidden, **attributes),
        graphs.node("MatMul", ["h", "m"], ["Y"]),
    ]
    constants = {
        **gru_weights(r, 40, hidden, gates=gates),
        "m": (r.standard_normal((hidden, 530)) / hidden).astype(np.float32),
    }
    return streamgru.Model(compile_onnx(model(nodes, {"X": ["time", 1, 40]}, ["Y"], constants)).image)


MODELS = {
    "gru": lambda: layered("GRU", 160, linear_before_reset=1),
    "gru of odd size": lambda: layered("GRU", 149, linear_before_reset=1),
    "gru, reset before": lambda: layered("GRU", 160),
    "lstm": lambda: layered("LSTM", 135),
    "rnn": lambda: layered("RNN", 300),
    "small": lambda: layered("GRU", 8),
}


@pytest.fixture(name="shared", params=MODELS, scope="module")
def fixture_shared(request):
    return MODELS[request.param]()


def sequence(shared, frames):
    return np.random.default_rng(9).standard_normal((frames, *shared.inputs[0].shape)).astype(np.float32)


def test_bits_do_not_depend_on_their_number(shared):
    x = sequence(shared, 37)
    single = shared.stream(threads=1)
    expected = np.array([single.step(frame) for frame in x])
    for threads in (2, 3, 5):
        with shared.stream(threads=threads) as stream:
            np.testing.assert_array_equal([stream.step(frame) for frame in x], expected)
            assert stream.save() == single.save()
        with shared.stream(threads=threads, block=7) as stream:
            np.testing.assert_array_equal(stream.run(x), expected)


def test_every_isa(shared):
    x = sequence(shared, 5)
    expected = shared.stream().run(x)
    isa = streamgru.isa()
    for name in streamgru.available_isas():
        streamgru.set_isa(name)
        try:
            stream = shared.stream(threads=3)
        finally:
            streamgru.set_isa(isa)
        np.testing.assert_array_equal(stream.run(x), expected)


def test_pools_share_their_slots(shared):
    results = []
    for threads in (1, 2, 3):
        with shared.pool(11, lanes=2, threads=threads) as pool:
            slots = [pool.open() for _ in range(11)]
            x = np.random.default_rng(8).standard_normal((6, 11, *shared.inputs[0].shape)).astype(np.float32)
            results.append([pool.step(slots, frames) for frames in x] + [[pool.save(slot) for slot in slots]])
            bad = x[0].copy()
            bad[[3, 9]] = np.nan
            with pytest.raises(NonFiniteError, match="number 3"):
                pool.step(slots, bad)
            assert [pool.save(slot) for slot in slots] == results[-1][-1]
    for other in results[1:]:
        for a, b in zip(results[0][:-1], other[:-1], strict=True):
            np.testing.assert_array_equal(a, b)
        assert other[-1] == results[0][-1]


def test_they_sleep_and_wake(shared):
    """Longer pauses than the threads look out for."""
    x = sequence(shared, 6)
    expected = shared.stream().run(x)
    pause = threading.Event()
    with shared.stream(threads=3) as stream:
        for frame, y in zip(x, expected, strict=True):
            np.testing.assert_array_equal(stream.step(frame), y)
            pause.wait(0.02)


def test_they_end_with_their_stream(shared):
    def count():
        status = Path("/proc/self/status").read_text()
        return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("Threads"))

    before = count()
    while before != (before := count()):  # the system takes a moment to forget one that has ended
        threading.Event().wait(0.01)
    stream = shared.stream(threads=4)
    pool = shared.pool(4, threads=3)
    assert count() == before + 5
    stream.close()
    assert count() == before + 2
    stream.close()
    del pool
    gc.collect()
    assert count() == before


@pytest.mark.parametrize("threads", [-1, 0, 9, 1000])
def test_more_than_the_machine_has_are_refused(shared, threads):
    for make in (shared.stream, lambda **options: shared.pool(3, **options)):
        with pytest.raises(ValueError, match="1 to 8"):
            make(threads=threads)


def test_load_tells_streams_and_pools(tmp_path):
    path = tmp_path / "model.sgru"
    layered("GRU", 160).save(path)
    loaded = streamgru.load(path, threads=2)
    assert loaded.stream()._threads.n == 2
    assert loaded.pool(2)._threads.n == 2
    assert loaded.stream(threads=1)._threads.n == 1


def test_many_streams_in_many_threads(shared):
    x = sequence(shared, 9)
    expected = shared.stream().run(x)
    results = {}

    def work(i):
        with shared.stream(threads=2) as stream:
            results[i] = [stream.step(frame) for frame in x]

    workers = [threading.Thread(target=work, args=(i,)) for i in range(5)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    for i in range(5):
        np.testing.assert_array_equal(results[i], expected)


def test_a_system_that_gives_no_threads_is_an_error_and_the_stream_alone_works(tmp_path):
    """Where no address space is left for a thread's stack."""
    layered("GRU", 8).save(tmp_path / "gru.sgru")
    program = """
import resource, sys
import numpy as np
import streamgru
from streamgru import _threads
_threads.processors = lambda: 8
model = streamgru.load(sys.argv[1])
x = np.zeros(model.inputs[0].shape, np.float32)
alone = model.stream()
pages = int(open("/proc/self/statm").read().split()[0])
resource.setrlimit(resource.RLIMIT_AS, ((pages + 1024) * resource.getpagesize(),) * 2)
for make in (lambda: model.stream(threads=2), lambda: model.pool(4, threads=3)):
    try:
        make()
    except streamgru.StreamgruError as error:
        print(error)
alone.step(x)
"""
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "gru.sgru")], capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines() == [
        f"the system refused to start {n} more threads: use fewer, or threads=1" for n in (1, 2)
    ]
