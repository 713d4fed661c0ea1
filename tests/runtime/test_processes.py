"""Processes: forks, pickles, copies, and Ctrl-C. What could hang runs in a process of its own, for a bounded time."""

import copy
import multiprocessing
import pickle
import subprocess
import sys
import time

import numpy as np
import pytest

import streamgru
from runtime.models import gru_image, gru_model, sequence
from streamgru import _threads
from streamgru._parts import SECONDS, Parts
from streamgru.errors import StateError
from streamgru_export.whole import model as whole

HEAD = """
import gc, os, signal, sys, threading, time
import numpy as np
import streamgru
from streamgru import _threads
_threads.processors = lambda: 8
model = streamgru.load(sys.argv[1])
x = np.random.default_rng(1).standard_normal((int(sys.argv[2]), *model.inputs[0].shape)).astype(np.float32)

def waits_well(pid):
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
"""


@pytest.fixture(name="shared", scope="module")
def fixture_shared(tmp_path_factory):
    """An image large enough that threads share its steps."""
    path = tmp_path_factory.mktemp("processes") / "gru.sgru"
    gru_model(40, 160).save(path)
    return path


def run(program, image, frames=60):
    done = subprocess.run(
        [sys.executable, "-c", HEAD + program, str(image), str(frames)],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


# ---- fork ----


def test_a_child_uses_closes_drops_and_outlives_what_it_inherits(shared):
    """Each child in another way, each ends as Python does; the parent goes on."""
    program = """
expected = list(model.stream().run(x))
pools = [model.pool(4, threads=threads) for threads in (1, 2, 3)]
streams = [model.stream(threads=threads) for threads in (1, 2, 3)]
slots = [[pool.open() for _ in range(4)] for pool in pools]

def go_on(first, last):
    for t in range(first, last):
        for stream in streams:
            assert stream.step(x[t]).tobytes() == expected[t].tobytes()
        for pool, ids in zip(pools, slots):
            assert pool.step(ids, np.stack([x[t]] * 4)).tobytes() == expected[t].tobytes() * 4

def use(): go_on(3, 9)
def close(): [one.close() for one in streams + pools]
def use_and_close(): use(), close()
def drop(): streams.clear(), pools.clear(), gc.collect()
def use_and_drop(): use(), drop()
def use_clones(): assert streams[1].clone().run(x[3:]).tobytes() == b"".join(y.tobytes() for y in expected[3:])
def fork_again():
    go_on(3, 5)
    if os.fork() == 0:
        go_on(5, 9), sys.exit()
    assert os.waitstatus_to_exitcode(os.wait()[1]) == 0
    go_on(5, 9)
def leave_it(): pass

go_on(0, 3)
for work in (use, close, use_and_close, drop, use_and_drop, use_clones, fork_again, leave_it):
    child = os.fork()
    if child == 0:
        signal.alarm(60)
        work()
        sys.exit()
    assert waits_well(child), work
go_on(3, len(x))
for one in streams + pools:
    one.close()
print("done")
"""
    assert run(program, shared) == "done\n"


def test_a_stream_that_a_thread_was_in_at_the_fork_is_refused_and_closes(shared):
    program = """
streams = [model.stream(threads=threads) for threads in (1, 2)]
expected = [stream.clone().run(x) for stream in streams]
got = {}
workers = [threading.Thread(target=lambda s=s: got.update({s: s.run(x)})) for s in streams]
for worker in workers:
    worker.start()
while not all(stream._turn is None for stream in streams):
    pass
child = os.fork()
if child == 0:
    signal.alarm(60)
    for stream in streams:
        for call in (lambda: stream.step(x[0]), stream.save, stream.reset, stream.step_inplace, stream.clone):
            try:
                call()
            except streamgru.ConcurrencyError as error:
                assert "when the process was forked" in str(error)
            else:
                raise AssertionError
        stream.close()
    other = model.stream(threads=2)
    assert other.run(x[:50]).tobytes() == expected[0][:50].tobytes()
    os._exit(0)  # Python's own threading waits for no thread that is not there, but a handler of others may
assert waits_well(child)
for worker in workers:
    worker.join()
for stream, y in zip(streams, expected):
    assert got[stream].tobytes() == y.tobytes()
print("done")
"""
    assert run(program, shared, 4000) == "done\n"


def test_python_ends_while_a_daemon_thread_steps(shared):
    """Its threads end with Python's last things, and its step does without them."""
    program = """
def step():
    with model.stream(threads=2) as stream:
        while True:
            stream.run(x)
for _ in range(2):
    threading.Thread(target=step, daemon=True).start()
time.sleep(0.1)
print("done")
"""
    for frames in (1, 7, 50, 400):
        assert run(program, shared, frames) == "done\n"


def step_in_child(model, stream, x, queue):
    """What a process of multiprocessing does."""
    fresh = model.stream()
    queue.put((fresh.run(x).tobytes(), stream.run(x).tobytes(), stream.model is model))


@pytest.mark.parametrize("method", ["fork", "forkserver", "spawn"])
def test_a_model_and_a_stream_go_to_another_process(method, monkeypatch):
    monkeypatch.setattr(_threads, "processors", lambda: 8)
    model = gru_model(40, 160)
    x = sequence(30, 40)
    stream = model.stream(threads=2)
    stream.run(x[:10])
    context = multiprocessing.get_context(method)
    queue = context.Queue()
    process = context.Process(target=step_in_child, args=(model, stream, x[10:], queue))
    process.start()
    fresh, gone_on, same = queue.get(timeout=100)
    process.join(100)
    assert process.exitcode == 0
    assert same
    assert fresh == model.stream().run(x[10:]).tobytes()
    assert gone_on == stream.run(x[10:]).tobytes()


def test_a_lock_of_whole_models_that_a_thread_held_at_the_fork_is_free_in_the_child():
    images = whole.Images(None)
    with images._lock:
        whole._in_child()
        assert images._lock.acquire(timeout=1)


# ---- copies and pickles ----


@pytest.fixture(name="stream")
def fixture_stream():
    with gru_model().stream(block=4, nonfinite="pass") as stream:
        stream.run(sequence(10))
        yield stream


COPIES = {
    "clone": lambda s: s.clone(),
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
    "deepcopy in a list": lambda s: copy.deepcopy([s])[0],
    **{f"pickle {n}": lambda s, n=n: pickle.loads(pickle.dumps(s, n)) for n in range(pickle.HIGHEST_PROTOCOL + 1)},
}


@pytest.mark.parametrize("make", COPIES.values(), ids=COPIES)
def test_a_copy_of_a_stream_is_independent_and_in_its_state(stream, make):
    x = sequence(20, seed=4)
    other = make(stream)
    assert other._options == stream._options
    expected = stream.clone().run(x)
    other.run(x[:7])
    np.testing.assert_array_equal(stream.run(x), expected)
    other.restore(make(stream).save())
    np.testing.assert_array_equal(other.run(x), stream.run(x))


def test_streams_pickled_together_share_their_model(stream):
    model = stream.model
    a, b, again = pickle.loads(pickle.dumps((stream, stream.clone(), model)))
    assert a.model is b.model is again
    assert a is not b
    assert again.image == model.image
    assert copy.copy(model) is copy.deepcopy(model) is copy.deepcopy(stream).model is model


class Named(streamgru.Stream):
    """A user's own."""


def test_a_subclass_stays_one(stream):
    named = Named(stream.model, block=2)
    for make in COPIES.values():
        assert type(make(named)) is Named


def test_a_pickle_needs_no_more_threads_than_there_are(monkeypatch):
    monkeypatch.setattr(_threads, "processors", lambda: 8)
    model = streamgru.Model(gru_model().image, threads=5)
    pickled = pickle.dumps((model, model.stream()))
    monkeypatch.setattr(_threads, "processors", lambda: 2)
    again, stream = pickle.loads(pickled)
    assert again.threads == stream._threads.n == 2


@pytest.mark.parametrize("max_ops", [None, 10**12])
def test_a_pickle_may_take_as_many_operations_as_its_model(max_ops, monkeypatch):
    """Here more than an image may that nobody vouches for."""
    image = gru_image()
    monkeypatch.setattr("streamgru.image.MAX_OPS", 1)
    model = streamgru.Model(image, max_ops=max_ops)
    with pytest.raises(streamgru.ModelError, match="more than 1 operations"):
        streamgru.Model(image, max_ops=1)
    again = pickle.loads(pickle.dumps((model, model.stream())))[0]
    assert again.image == image


def test_a_pickle_is_limited_as_its_model_is():
    """A small limit does not become a large one on the way."""
    model = streamgru.Model(gru_image(), max_ops=gru_model().ops)
    rebuild, (kind, _, threads, most) = model.__reduce__()
    with pytest.raises(streamgru.ModelError, match="more than"):
        rebuild(kind, gru_image(hidden=16), threads, most)


def test_what_does_not_pickle_says_so(stream):
    pool = stream.model.pool(2)
    for make in (copy.copy, copy.deepcopy, pickle.dumps):
        with pytest.raises(StateError, match="neither copied nor pickled: save"):
            make(pool)
    closed = stream.clone()
    closed.close()
    for make in COPIES.values():
        with pytest.raises(StateError, match="this stream is closed"):
            make(closed)


def test_an_altered_pickle_is_refused(stream):
    cls, model, options, state = stream.__reduce__()[1]
    image = bytearray(model.image)
    image[-1] ^= 1
    rebuild, (kind, _, *limits) = model.__reduce__()
    with pytest.raises(streamgru.ImageError, match="the pickled model"):
        rebuild(kind, bytes(image), *limits)
    with pytest.raises(StateError):
        stream.__reduce__()[0](cls, model, options, state[:-1])


# ---- Ctrl-C ----

INTERRUPTED = """
signal.signal(signal.SIGINT, signal.default_int_handler)  # who starts jobs in the background leaves it ignored
stream = model.stream(threads=int(sys.argv[2]) % 2 + 1)
stream.run(x[:100])
before, sent = stream.save(), []
start = time.perf_counter()
expected = model.stream().run(x[:500])
whole = (time.perf_counter() - start) * len(x) / 500
def interrupt():
    time.sleep(0.2)
    sent.append(time.perf_counter())
    os.kill(os.getpid(), signal.SIGINT)
threading.Thread(target=interrupt).start()
try:
    stream.run(x)
except KeyboardInterrupt:
    late = time.perf_counter() - sent[0]
assert late < whole / 4, (late, whole)
assert stream.save() == before
stream.reset()
assert stream.run(x[:500]).tobytes() == expected.tobytes()
print("done")
"""


@pytest.mark.parametrize("frames", [60000, 60001], ids=["one thread", "two threads"])
def test_ctrl_c_ends_a_run_early_with_the_state_as_it_was(tmp_path, frames):
    """The whole run would take seconds, here some twenty times as long as until it ends."""
    gru_model(5, 512).save(tmp_path / "gru.sgru")
    assert run(INTERRUPTED, tmp_path / "gru.sgru", frames) == "done\n"


def test_a_handler_that_raises_nothing_is_called_in_the_middle_of_a_run_that_goes_on(shared):
    program = """
expected = np.concatenate([model.stream().run(x[:0])] + [y[None] for y in map(model.stream().step, x)])
calls = []
signal.signal(signal.SIGALRM, lambda *_: calls.append(stream._turn is None))
stream = model.stream()
signal.setitimer(signal.ITIMER_REAL, 0.02, 0.02)
y = stream.run(x)
signal.setitimer(signal.ITIMER_REAL, 0)
assert y.tobytes() == expected.tobytes()
assert sum(calls) > 1, calls
print("done")
"""
    assert run(program, shared, 20000) == "done\n"


@pytest.mark.parametrize("part", [1, 3, 17, 39, 40, 41])
def test_a_run_in_parts_has_the_bits_of_one_and_is_undone_whole(part):
    x = sequence(40)
    expected = gru_model().stream().run(x)
    for block in (1, 4):
        stream = gru_model().stream(block=block)
        stream._parts.fit = lambda frames, before: before  # they stay as long as they are
        stream._parts.frames = part
        np.testing.assert_array_equal(stream.run(x), expected)
        before = stream.save()
        bad = x.copy()
        bad[39, 0, 2] = np.nan
        with pytest.raises(streamgru.NonFiniteError, match=r"holds nan at \(39, 0, 2\)"):
            stream.run(bad)
        assert stream.save() == before
        stream._parts.fit = interrupted
        if part < 40:
            with pytest.raises(KeyboardInterrupt):
                stream.run(x)
            assert stream.save() == before


def interrupted(frames, before):
    """Ctrl-C between two parts."""
    raise KeyboardInterrupt


def test_parts_grow_to_what_their_time_allows_and_shrink():
    parts, seen = Parts(1), []
    for seconds in (SECONDS / 200, SECONDS / 100, SECONDS, 10 * SECONDS, 50.0):
        parts.fit(parts.frames, time.perf_counter() - seconds)
        seen.append(parts.frames)
    assert seen[:2] == [8, 64]
    assert 50 <= seen[2] <= 64
    assert 3 <= seen[3] <= 7
    assert seen[4] == 1
