"""Several threads in one stream or pool: each call gives the right bits, or a ConcurrencyError and has done nothing."""

import copy
import gc
import sys
import threading
import time

import numpy as np
import pytest

from runtime.models import gru_model
from streamgru import _threads
from streamgru.decode import SequenceWriter
from streamgru.denoise import Denoiser
from streamgru.errors import ConcurrencyError, StateError, StreamgruError

SECONDS = 0.4  # of a stress, at most
CALLERS = 4
ATTEMPTS = 4000
TRIES = 6  # for a machine whose other work comes between


@pytest.fixture(autouse=True)
def many_processors(monkeypatch):
    monkeypatch.setattr(_threads, "processors", lambda: 8)


@pytest.fixture(autouse=True)
def hasty_switches():
    """Threads take turns as often as they can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


@pytest.fixture(name="small", scope="module")
def fixture_small():
    """Its steps keep the interpreter lock."""
    return gru_model()


@pytest.fixture(name="large", scope="module")
def fixture_large():
    """Its steps take a while, and release the lock: more than a megabyte."""
    return gru_model(40, 320)


def side_by_side(works):
    """All at once, each in a thread; what they raise is raised here."""
    errors = []

    def guarded(work):
        try:
            work()
        except Exception as error:  # noqa: BLE001 - raised again below
            errors.append(error)

    threads = [threading.Thread(target=guarded, args=(work,), daemon=True) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive(), "a thread hangs"
    if errors:
        raise errors[0]


def frames(model, n, seed):
    return np.random.default_rng(seed).standard_normal((n, *model.inputs[0].shape)).astype(np.float32)


# ---- streams ----


def stress(stream, seconds, most):
    """Steps, runs and saves by several threads: what got through, thread by thread, and how often a call was refused.

    No frame is ever given twice, so that no state comes back.
    """
    end, done, refused = time.monotonic() + seconds, [[] for _ in range(CALLERS)], [0] * CALLERS

    def work(i):
        x = frames(stream.model, 6 * ATTEMPTS, i)
        for t in range(0, 6 * ATTEMPTS, 6):
            if time.monotonic() > end or len(done[i]) == most:
                break
            try:
                if t % 30 == 24:
                    done[i].append((None, stream.save()))
                elif t % 30 == 18:
                    done[i].append((x[t : t + 6], stream.run(x[t : t + 6])))
                else:
                    done[i].append((x[t : t + 1], stream.step(x[t])[None].copy()))
            except ConcurrencyError:
                refused[i] += 1

    side_by_side([lambda i=i: work(i) for i in range(CALLERS)])
    return done, sum(refused)


def is_no_save(calls):
    """Saves come first: what follows moves the state that they saw."""
    return calls[-1][0] is not None


def assert_one_order_explains(done, stream):
    """There is an order of the calls that got through in which a stream alone gives every one of their bits."""
    alone, state = stream.model.stream(), stream.model.stream().save()
    ahead = [list(reversed(calls)) for calls in done]
    while any(ahead):
        for calls in sorted(filter(None, ahead), key=is_no_save):
            alone.restore(state)
            x, result = calls[-1]
            if (state == result) if x is None else np.array_equal(alone.run(x), result):
                state = alone.save()
                calls.pop()
                break
        else:
            raise AssertionError(f"no order explains the rest: {list(map(len, ahead))}")
    assert stream.save() == state


KINDS = {"small": ("small", 1), "large": ("large", 1), "two threads": ("large", 2)}


@pytest.mark.parametrize("seconds, most", [(SECONDS, 150), pytest.param(10, 2000, marks=pytest.mark.slow)])
@pytest.mark.parametrize("kind", KINDS)
def test_every_call_gives_the_right_bits_or_is_refused(kind, seconds, most, request):
    name, threads = KINDS[kind]
    for _ in range(TRIES):
        with request.getfixturevalue(name).stream(threads=threads) as stream:
            done, refused = stress(stream, seconds, most)
            assert_one_order_explains(done, stream)
        print(f"{sum(map(len, done))} got through, {refused} refused")
        assert any(done)
        if refused:
            return
    raise AssertionError("no call ever met another")


def used_meanwhile(one, call, uses):
    """What `call` gives, and what the uses of `one` raise meanwhile; None where it was over too early."""
    results, raised = [], []
    thread = threading.Thread(target=lambda: results.append(call()), daemon=True)
    thread.start()
    while one._turn is not None and thread.is_alive():
        pass
    for use in uses:
        try:
            use(one)
            raised.append(None)
        except StreamgruError as error:
            raised.append(error)
        if one._turn is not None:
            thread.join(60)
            return None
    thread.join(60)
    return results[0], raised


def assert_all_refused(raised, kind):
    for error in raised:
        assert type(error) is ConcurrencyError
        assert f"another call is in progress on this {kind}" in str(error)


def entered(stream):
    with stream:
        pass


USES = {
    "step": lambda s: s.step(np.zeros((1, 40), np.float32)),
    "step, squeezed": lambda s: s.step(np.zeros(40, np.float32)),
    "step_inplace": lambda s: s.step_inplace(),
    "run": lambda s: s.run(np.zeros((2, 1, 40), np.float32)),
    "reset": lambda s: s.reset(),
    "save": lambda s: s.save(),
    "restore": lambda s: s.restore(b""),
    "state": lambda s: s.state,
    "set_state": lambda s: s.set_state({}),
    "clone": lambda s: s.clone(),
    "pickle": lambda s: s.__reduce__(),
    "close": lambda s: s.close(),
    "with": entered,
}


@pytest.mark.parametrize("threads", [1, 2])
def test_a_stream_in_use_refuses_every_other_call_and_loses_nothing(large, threads):
    for t in range(TRIES):
        x = frames(large, 2000 << t, 1)
        stream, other = large.stream(threads=threads), large.stream()
        if seen := used_meanwhile(stream, lambda stream=stream, x=x: stream.run(x), USES.values()):
            break
    y, raised = seen
    assert_all_refused(raised, "Stream")
    np.testing.assert_array_equal(y, other.run(x))
    assert stream.save() == other.save()
    stream.close()


def test_a_refused_frame_never_reaches_the_step_that_is_running(large):
    """It would lie where the running step reads."""
    x = frames(large, 1, 2)[0]
    stream, other = large.stream(threads=2), large.stream()
    for _ in range(150):
        results = []

        def step(frame, results=results):
            try:
                results.append((frame, stream.step(frame)))
            except ConcurrencyError:
                results.append(None)

        before = stream.save()
        side_by_side([lambda: step(x), lambda: step(100 * x)])
        got_through = [result for result in results if result]

        def explains(order, before=before):
            other.restore(before)
            return all(np.array_equal(other.step(frame), y) for frame, y in order) and other.save() == stream.save()

        assert len(results) == 2
        assert got_through
        assert explains(got_through) or explains(got_through[::-1])


def test_a_model_may_go_while_its_streams_are_in_use(large):
    model = type(large)(large.image)
    x = frames(large, 400, 3)
    streams, results = [model.stream(threads=2), model.stream()], []
    threads = [threading.Thread(target=lambda s=s: results.append(s.run(x))) for s in streams]
    for thread in threads:
        thread.start()
    del model, streams
    for _ in range(3):
        gc.collect()
    for thread in threads:
        thread.join(60)
    for y in results:
        np.testing.assert_array_equal(y, large.stream().run(x))
    assert len(results) == 2


# ---- pools ----

POOL_USES = {
    "step": lambda p, slot: p.step([slot], np.zeros((1, 1, 40), np.float32)),
    "open": lambda p, _: p.open(),
    "close a slot": lambda p, slot: p.close(slot),
    "close": lambda p, _: p.close(),
    "reset": lambda p, slot: p.reset(slot),
    "save": lambda p, slot: p.save(slot),
    "restore": lambda p, slot: p.restore(slot, b""),
    "with": lambda p, _: entered(p),
}


@pytest.mark.parametrize("threads", [1, 2])
def test_a_pool_in_use_refuses_every_other_call_and_loses_nothing(large, threads):
    for t in range(TRIES):
        n = 1000 << t
        pool, x = large.pool(n + 1, threads=threads), frames(large, n, 4)
        slots = [pool.open() for _ in range(n)]
        uses = [lambda pool, use=use, slot=slots[0]: use(pool, slot) for use in POOL_USES.values()]
        if seen := used_meanwhile(pool, lambda pool=pool, slots=slots, x=x: pool.step(slots, x), uses):
            break
    y, raised = seen
    assert_all_refused(raised, "Pool")
    for at in range(7, n, 100):
        np.testing.assert_array_equal(y[at], large.stream().step(x[at]))
    assert pool.slots == tuple(slots)
    pool.close()


@pytest.mark.parametrize("threads", [1, 2])
def test_slots_come_step_and_go_under_many_threads(large, threads):
    """Each thread has slots of its own; what a slot gives is what a stream alone gives."""
    pool = large.pool(12, threads=threads)
    end, counts = time.monotonic() + SECONDS, []

    def insist(call, *arguments):
        while True:
            try:
                return call(*arguments)
            except ConcurrencyError:
                counts[-1][1] += 1

    def work(i):
        x = frames(large, 6, i)
        expected = large.stream().run(x)
        while time.monotonic() < end:
            slots = [insist(pool.open) for _ in range(3)]
            for t in range(len(x)):
                y = insist(pool.step, slots, np.stack([x[t]] * 3))
                np.testing.assert_array_equal(y, np.stack([expected[t]] * 3))
            for slot in slots:
                insist(pool.close, slot)
            counts.append([1, 0])

    counts.append([0, 0])
    side_by_side([lambda i=i: work(i) for i in range(CALLERS)])
    assert len(pool) == 0
    print(f"{sum(a for a, _ in counts)} rounds, {sum(b for _, b in counts)} refused")
    assert len(counts) > 1


def test_a_pool_that_closes_under_its_callers(large):
    """Whoever steps gets the bits of some step, a ConcurrencyError, or hears that it is closed."""
    x = frames(large, 1, 5)
    alone = large.stream()
    steps = {alone.step(x[0]).tobytes() for _ in range(400)}
    for _ in range(6):
        pool, got, is_closed = large.pool(8, threads=2), [], threading.Event()
        slots = [pool.open() for _ in range(8)]

        def step(pool=pool, slots=slots, got=got):
            for _ in range(200):
                try:
                    got.extend(pool.step(slots, np.stack([x[0]] * 8)))
                except ConcurrencyError:
                    continue
                except StateError:
                    return

        def close(pool=pool, is_closed=is_closed):
            while not is_closed.is_set():
                try:
                    pool.close()
                    is_closed.set()
                except ConcurrencyError:
                    continue

        side_by_side([step, step, close])
        assert {y.tobytes() for y in got} <= steps
        with pytest.raises(StateError, match="closed"):
            pool.save(slots[0])


# ---- what holds streams ----


def test_the_writer_of_sequences_and_the_denoiser_are_guarded_too():
    """Between their streams' calls there is more that must not be interleaved."""
    writer = SequenceWriter.__new__(SequenceWriter)  # as they are while a call is in progress
    denoiser = Denoiser.__new__(Denoiser)
    for call in (
        *(lambda method=method: method([1]) for method in (writer.greedy, writer.sample, writer.beam)),
        *(lambda method=method: method(np.zeros(4)) for method in (denoiser.step, denoiser.denoise)),
        *(writer.close, denoiser.reset),
        *(lambda busy=busy: copy.copy(busy) for busy in (writer, denoiser)),
    ):
        with pytest.raises(ConcurrencyError, match=r"in progress on this (SequenceWriter|Denoiser)"):
            call()
