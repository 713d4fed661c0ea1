"""Our side: a model's steps, blocks and pools, timed in C or from Python, and the two limits of a core.

The C loops (loops.c) are compiled with -march=native for the limits' sake; what they call is the extension as it is.
"""

from __future__ import annotations

import functools
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from cffi import FFI
from numpy.typing import NDArray

import streamgru
from models import Array, Net
from streamgru._kernel import ffi as core_ffi
from streamgru._kernel import lib as core
from streamgru.model import Weights
from streamgru.profile import profile
from streamgru_export.bench import Subject

HERE = Path(__file__).parent
BUILD = HERE.parent / "build" / "bench"
FLAGS = ["-O3", "-march=native", "-shared", "-fPIC"]

ffi = FFI()
ffi.cdef("""
int64_t time_step(void *, void *, void *in, void *out, int64_t calls, int64_t *each);
int64_t time_run(void *, void *, size_t frames, void *in, void *out, int64_t calls, int64_t *each);
int64_t time_pool(void *, void *, size_t n, void *slots, void *in, void *out, int64_t calls, int64_t *each);
int64_t time_peer(void *, void *, void *x, void *y, int64_t calls, int64_t *each);
int64_t time_reading(void *, size_t bytes, int64_t calls, int64_t *each);
int64_t peak_count(void);
int64_t time_peak(int64_t calls, int64_t *each);
""")


def build(out: str, sources: list[Path], *options: str, compiler: str = os.environ.get("CC", "cc")) -> Path:
    """Compile a shared library. subprocess.CalledProcessError holds what the compiler said."""
    BUILD.mkdir(parents=True, exist_ok=True)
    path = BUILD / out
    command = [compiler, *FLAGS, *options, *map(str, sources), "-lm", "-o", str(path)]
    subprocess.run(command, check=True, capture_output=True, text=True)
    return path


@functools.cache
def loops() -> Any:
    return ffi.dlopen(str(build("loops.so", [HERE / "loops.c"], "-std=gnu11", f"-I{HERE.parent / 'c_src'}")))


class Native(Subject):
    """A subject whose loop runs in C: `timed` gets the number of calls and where the time of each goes (or NULL)."""

    def __init__(self, name: str, timed: Callable[[int, Any], int], frames: float = 1) -> None:
        super().__init__(name, lambda: timed(1, ffi.NULL), frames)
        self.timed = timed

    def loop(self, calls: int) -> float:
        return self.timed(calls, ffi.NULL) / calls

    def each(self, calls: int) -> NDArray[np.int64]:
        times = np.empty(calls, np.int64)
        self.timed(calls, ffi.from_buffer("int64_t[]", times))
        return times


class Ours:
    """A net with weights of one format."""

    def __init__(self, net: Net, weights: Weights) -> None:
        self.net = net
        self.weights = weights
        self.model = streamgru.load(net.path, weights=weights, batch=net.batch)
        feeds = net.feeds()
        self.frames: dict[str, Array] = {t.name: feeds[t.name].reshape(t.shape) for t in self.model.inputs}
        self.x: Any = self.frames if len(self.frames) > 1 else next(iter(self.frames.values()))
        self.bytes = sum(kind.weights for kind in profile(self.model) if kind.code != "GATHER")

    # ---- in C ----

    def step(self, threads: int = 1) -> Subject:
        stream = self.model.stream(threads=threads)
        inputs, outputs = self._arrays(1)
        pointers, function = (_pointers(inputs), _pointers(outputs)), _function("sgru_step")

        def timed(calls: int, each: Any, _held: Any = (inputs, outputs)) -> int:
            return int(loops().time_step(function, _address(stream._c), *pointers, calls, each))

        return Native(_name(f"C {self.weights}", threads), timed)

    def block(self, frames: int) -> Subject:
        stream = self.model.stream(block=frames)
        inputs, outputs = self._arrays(frames)
        pointers, function = (_pointers(inputs), _pointers(outputs)), _function("sgru_run")

        def timed(calls: int, each: Any, _held: Any = (inputs, outputs)) -> int:
            return int(loops().time_run(function, _address(stream._c), frames, *pointers, calls, each))

        return Native(f"C block {self.weights}", timed, frames)

    def pool(self, n: int, threads: int = 1, name: str = "") -> Subject:
        pool = self.model.pool(n, threads=threads)
        slots = np.array([pool.open() for _ in range(n)], np.uint64)
        inputs, outputs = self._arrays(n)
        pointers = (ffi.from_buffer(slots), _pointers(inputs), _pointers(outputs))
        function = _function("sgru_pool_step")

        def timed(calls: int, each: Any, _held: Any = (slots, inputs, outputs)) -> int:
            return int(loops().time_pool(function, _address(pool._c), n, *pointers, calls, each))

        return Native(name or _name(f"C pool {self.weights}", threads), timed, n)

    def _arrays(self, n: int) -> tuple[list[Array], list[Array]]:
        """Inputs and outputs of n frames, [n, *frame shape]."""
        inputs = [np.stack([self.frames[t.name]] * n) for t in self.model.inputs]
        return inputs, [np.empty((n, *t.shape), t.dtype) for t in self.model.outputs]

    # ---- from Python ----

    def python_step(self) -> Subject:
        stream, x = self.model.stream(), self.x
        return Subject(f"step {self.weights}", lambda: stream.step(x))

    def python_inplace(self) -> Subject:
        stream = self.model.stream()
        stream.step(self.x)  # leaves the frame where step_inplace reads it
        return Subject(f"step_inplace {self.weights}", stream.step_inplace)

    def python_pool(self, n: int) -> Subject:
        pool = self.model.pool(n)
        slots = [pool.open() for _ in range(n)]
        blocks = {name: np.stack([frame] * n) for name, frame in self.frames.items()}
        x: Any = blocks if len(blocks) > 1 else next(iter(blocks.values()))
        return Subject(f"pool.step {self.weights}", lambda: pool.step(slots, x), n)

    # ---- the limits ----

    def reading(self) -> Subject:
        """Reading all weights, which a step of one frame must."""
        image = self.model._image
        start = (len(image) - self.bytes) // 64 * 64
        pointer, size = ffi.from_buffer(image[start:]), self.bytes

        def timed(calls: int, each: Any, _held: Any = image) -> int:
            return int(loops().time_reading(pointer, size, calls, each))

        return Native(f"reading {self.weights}", timed)

    def peak(self) -> Subject | None:
        """A frame's multiply-adds of the weights at the core's peak; only of a GRU, where the bytes tell them."""
        if not self.net.layer or not loops().peak_count():
            return None
        layer = self.net.layer
        return Native("multiply-adds", loops().time_peak, loops().peak_count() / (layer.w.size + layer.r.size))


def _function(name: str) -> Any:
    return _address(core_ffi.addressof(core, name))


def _address(pointer: Any) -> Any:
    """A pointer of the extension's as one of ours."""
    return ffi.cast("void *", int(core_ffi.cast("uintptr_t", pointer)))


def _pointers(arrays: list[Array]) -> Any:
    return ffi.new("void *[]", [ffi.from_buffer(array) for array in arrays])


def _name(name: str, threads: int) -> str:
    return name if threads == 1 else f"{name}, {threads} threads"
