"""Models in several threads and processes."""

from __future__ import annotations

import multiprocessing
import pickle
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import streamgru
from runtime.models import gru_model
from streamgru import _threads

I = 40  # noqa: E741 - the field's name


def frames(count: int, scale: float = 1.0):
    print("seed 11")
    return (np.random.default_rng(11).standard_normal((count, 1, I)) * scale).astype(np.float32)


@pytest.fixture(name="shared", scope="module")
def fixture_shared():
    """A model large enough that two threads share its steps."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_threads, "processors", lambda: 8)
        yield gru_model(I, 160)


def in_a_process(program: str, path, timeout: int = 60) -> str:
    """What may hang runs in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-c", HEAD + program, str(path)], capture_output=True, text=True, check=False, timeout=timeout
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


HEAD = """
import multiprocessing, os, sys, threading
import numpy as np
import streamgru
from streamgru import _threads
processors = _threads.processors
_threads.processors = lambda: 8
model = streamgru.load(sys.argv[1])
x = np.random.default_rng(1).standard_normal((40, *model.inputs[0].shape)).astype(np.float32)
expected = model.stream().run(x).tobytes()
"""


@pytest.fixture(name="image", scope="module")
def fixture_image(tmp_path_factory, shared):
    path = tmp_path_factory.mktemp("threads") / "gru.sgru"
    shared.save(path)
    return path


def test_a_model_is_pickled(shared):
    """microsoft/onnxruntime#643: can't pickle InferenceSession objects."""
    x = frames(20)
    again = pickle.loads(pickle.dumps(shared))
    assert again.run(x).tobytes() == shared.run(x).tobytes()


def test_a_model_goes_to_a_process_that_is_spawned(shared):
    """microsoft/onnxruntime#7846: a session handed to a process; here also a stream, with its state."""
    x = frames(20)
    stream = shared.stream()
    stream.run(x[:5])
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.apply(shared.run, (x,)).tobytes() == shared.run(x).tobytes()
        assert pool.apply(stream.run, (x[5:],)).tobytes() == stream.run(x[5:]).tobytes()


def test_a_pool_of_processes_after_the_model_was_used(image):
    """microsoft/onnxruntime#5093: ProcessPoolExecutor hangs once the parent has run the model."""
    program = """
from concurrent.futures import ProcessPoolExecutor
stream = model.stream(threads=2)
stream.run(x)
def work(_):
    stream.reset()
    return stream.run(x).tobytes(), model.stream(threads=2).run(x).tobytes()
with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("fork")) as pool:
    for results in pool.map(work, range(4)):
        assert results == (expected, expected)
print("done")
"""
    assert in_a_process(program, image) == "done\n"


def test_a_fork_after_a_model_was_loaded_and_run(image):
    """pytorch/pytorch#123828: an LSTM of 128 runs, then Pool(5) of the same: none comes back."""
    program = """
model.stream(threads=2).run(x)
def work(_):
    return streamgru.load(sys.argv[1], threads=2).stream().run(x).tobytes()
with multiprocessing.get_context("fork").Pool(5) as pool:
    assert pool.map(work, range(5)) == [expected] * 5
print("done")
"""
    assert in_a_process(program, image) == "done\n"


def test_threads_are_no_more_than_the_processors_that_are_given(image):
    """microsoft/onnxruntime#10736: SLURM gives fewer processors than the machine has; the session froze."""
    program = """
os.sched_setaffinity(0, {next(iter(os.sched_getaffinity(0)))})
_threads.processors = processors
try:
    stream = model.stream(threads=2)
except streamgru.OptionError as error:
    assert "1" in str(error), error
    stream = model.stream(threads=1)
assert stream.run(x).tobytes() == expected
print("done")
"""
    assert in_a_process(program, image) == "done\n"


def test_one_model_in_many_threads(shared):
    """microsoft/onnxruntime#13571: one session in several threads, right in some and wrong in others."""
    inputs = [frames(60, scale) for scale in range(1, 9)]
    expected = [shared.run(x).tobytes() for x in inputs]
    with ThreadPoolExecutor(8) as pool:
        for _ in range(3):
            assert list(pool.map(lambda x: shared.run(x).tobytes(), inputs)) == expected


@pytest.mark.parametrize("threads", [1, 2])
def test_one_stream_in_two_threads(shared, threads):
    """clab/dynet#1335: threads that share an RNN builder share its state."""
    x = frames(400)
    stream = shared.stream(threads=threads)
    results: list[object] = []

    def run() -> None:
        try:
            results.append(stream.run(x).tobytes())
        except streamgru.StreamgruError as error:
            results.append(error)

    workers = [threading.Thread(target=run) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(20)
        assert not worker.is_alive()
    one = shared.stream()
    allowed = [one.run(x).tobytes() for _ in workers]  # those that found the stream free, one after the other
    ran = [y for y in results if isinstance(y, bytes)]
    assert ran == allowed[: len(ran)]
    errors = [y for y in results if not isinstance(y, bytes)]
    assert all(type(error).__name__ == "ConcurrencyError" for error in errors), errors


def test_requests_at_once_each_with_its_own_stream(shared):
    """snakers4/silero-vad#337: requests at the same time to one model that keeps a state."""
    x = frames(180).reshape(30, 6, 1, I)
    expected = [shared.run(np.ascontiguousarray(x[:, k])) for k in range(6)]
    with shared.pool(6, threads=2) as pool:
        slots = [pool.open() for _ in range(6)]
        y = np.stack([pool.step(slots, x[t]) for t in range(30)])
        for k in range(6):
            assert y[:, k].tobytes() == expected[k].tobytes()
        pool.close(slots[2])
        again = pool.open()  # the next request finds no state of the last
        assert pool.step([again], x[0, :1]).tobytes() == expected[0][:1].tobytes()


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_the_same_bits_at_every_run(shared, threads):
    """tensorflow/tensorflow#59281: lstm and gru give other numbers from run to run."""
    x = frames(50)
    expected = shared.run(x).tobytes()
    assert {shared.stream(threads=threads).run(x).tobytes() for _ in range(5)} == {expected}


def test_a_model_is_replaced_while_the_old_one_runs(image):
    """djshaji/amp-rack#48: the audio thread crashes where the interface loads another model."""
    program = """
import time
current, errors, runs, stop = [model.stream(threads=2)], [], [], threading.Event()
def audio():
    while not stop.is_set():
        stream = current[0]
        try:
            y = stream.run(x)
            runs.append(1)
        except streamgru.StreamgruError as error:
            errors.append(type(error).__name__)
worker = threading.Thread(target=audio)
worker.start()
refused = 0
for _ in range(60):
    old, current[0] = current[0], streamgru.load(sys.argv[1]).stream(threads=2)
    try:
        old.close()
    except streamgru.StreamgruError as error:
        refused += type(error).__name__ == "ConcurrencyError"
    time.sleep(0.002)
stop.set()
worker.join(30)
assert not worker.is_alive() and runs
assert set(errors) <= {"StateError", "ConcurrencyError"}, set(errors)
current[0].reset()
assert current[0].run(x).tobytes() == expected
print("done")
"""
    assert in_a_process(program, image) == "done\n"
