"""Two ways to serve many streams from one Python process, and what they take.

    python benchmarks/serving.py

An asyncio server: frames come from many clients, each at its own time; the loop takes what has come and moves those
streams on in one `pool.step`. A thread pool: whole recordings, a stream each; `run` releases the interpreter lock, so
two threads do twice the work. Both are examples as well: `Server` is all that an application needs.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

import streamgru
from models import Array, write_stack
from streamgru._threads import processors

SIZE = (64, 128)  # input, hidden
CLIENTS = 200
PERIOD = 0.01  # seconds between the frames of a client
RECORDINGS, FRAMES = 16, 2000


class Server:
    """Gathers frames as they come and answers them together; `batches` tells how many at a time."""

    def __init__(self, pool: streamgru.Pool) -> None:
        self.pool = pool
        self.waiting: dict[int, tuple[Array, asyncio.Future[Array]]] = {}
        self.batches: list[int] = []

    async def step(self, slot: int, frame: Array) -> Array:
        """One frame of one client; its next may come when this one is answered."""
        loop = asyncio.get_running_loop()
        if not self.waiting:
            loop.call_soon(self._answer)  # after all that has arrived by now
        future: asyncio.Future[Array] = loop.create_future()
        self.waiting[slot] = (frame, future)
        return await future

    def _answer(self) -> None:
        waiting, self.waiting = self.waiting, {}
        frames, futures = zip(*waiting.values(), strict=True)
        for future, y in zip(futures, self.pool.step(list(waiting), np.stack(frames)), strict=True):
            future.set_result(y)
        self.batches.append(len(futures))


async def serve(pool: streamgru.Pool, seconds: float) -> dict[str, float]:
    """Clients with a frame every 10 ms, in no step with each other. Latency: from a frame's arrival to its answer."""
    server, random = Server(pool), np.random.default_rng(0)
    latencies: list[float] = []
    start, busy = time.perf_counter(), time.process_time()

    async def client(slot: int, due: float, frame: Array) -> None:
        while due < start + seconds:
            await asyncio.sleep(due - time.perf_counter())
            arrived = time.perf_counter()
            await server.step(slot, frame)
            latencies.append(time.perf_counter() - arrived)
            due += PERIOD

    starts = start + PERIOD * random.random(CLIENTS)
    frames = random.standard_normal((CLIENTS, *pool.model.inputs[0].shape)).astype(np.float32)
    await asyncio.gather(*(client(pool.open(), *each) for each in zip(starts, frames, strict=True)))
    took, busy = time.perf_counter() - start, time.process_time() - busy
    p50, p99, most = np.percentile(latencies, [50, 99, 100]) * 1e6
    return {
        "clients": CLIENTS,
        "frames_per_second": len(latencies) / took,
        "mean_batch": float(np.mean(server.batches)),
        "latency_p50_us": float(p50),
        "latency_p99_us": float(p99),
        "latency_max_us": float(most),
        "core_percent": busy / took * 100,
    }


def threads(model: streamgru.Model, seconds: float) -> dict[str, Any]:
    """Frames per second of recordings run by a pool of one and of two threads, in turns; medians."""
    recording = np.random.default_rng(0).standard_normal((FRAMES, 1, SIZE[0])).astype(np.float32)
    streams = [model.stream() for _ in range(RECORDINGS)]

    def run(stream: streamgru.Stream) -> Array:
        stream.reset()
        result: Array = stream.run(recording)
        return result

    speeds: dict[int, list[float]] = {n: [] for n in range(1, min(2, processors()) + 1)}
    executors = {n: ThreadPoolExecutor(n) for n in speeds}
    end = time.monotonic() + seconds
    while len(speeds[1]) < 3 or time.monotonic() < end:
        for n, executor in executors.items():
            start = time.perf_counter()
            list(executor.map(run, streams))
            speeds[n].append(RECORDINGS * FRAMES / (time.perf_counter() - start))
    for executor in executors.values():
        executor.shutdown()
    return {f"frames_per_second_{n}": float(np.median(values)) for n, values in speeds.items()}


def measure(folder: Path, seconds: float) -> dict[str, Any]:
    """Both, of a GRU."""
    path = folder / "serving.onnx"
    write_stack(path, [SIZE])
    model = streamgru.load(path)
    with model.pool(CLIENTS) as pool:
        asked = asyncio.run(serve(pool, max(1.0, seconds)))
    return {"net": list(SIZE), "asyncio": asked, "threads": threads(model, seconds)}


def text(found: dict[str, Any]) -> str:
    a, t = found["asyncio"], found["threads"]
    each = ", ".join(f"{n[-1]} thread(s) {v / 1e6:.3f} million frames/s" for n, v in t.items())
    lines = [
        f"asyncio, {a['clients']} clients, each with a frame every {PERIOD * 1e3:.0f} ms: "
        f"{a['frames_per_second']:.0f} frames/s, {a['mean_batch']:.1f} in a pool.step; "
        f"answered after {a['latency_p50_us']:.0f} µs (p99 {a['latency_p99_us']:.0f}, max {a['latency_max_us']:.0f}); "
        f"{a['core_percent']:.0f} % of a core, asyncio's own work included",
        f"run() in a thread pool: {each}",
    ]
    if "frames_per_second_2" in t:
        lines[-1] += f", {t['frames_per_second_2'] / t['frames_per_second_1']:.2f} times as much"
    return "\n".join(lines)


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        print(text(measure(Path(folder), 5.0)))


if __name__ == "__main__":
    main()
