"""The peers that are given as source folders: compiled into build/bench, called from C."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from models import Array, Layer
from ours import Native, build, ffi, loops
from streamgru._status import aligned
from streamgru_export.bench import Subject

HERE = Path(__file__).parent
ffi.cdef("""
void *peer_open(int input, int hidden, void *w, void *r, void *bias_w, void *bias_r);
void peer_step(void *peer, void *x, void *y);
""")


def nnet(folder: Path) -> Iterator[tuple[str, Path]]:
    """xiph's nnet.c as RNNoise has it, with weights of floats and of 8 bits. (name, library)"""
    src = folder / "src"
    sources = [HERE / "nnet.c", src / "nnet.c", src / "nnet_default.c"]
    for name, option in (("nnet f32", "-DFLOAT"), ("nnet i8", "-DINT8")):
        yield name, build(f"{name.replace(' ', '_')}.so", sources, option, f"-I{src}", f"-I{folder / 'include'}")


def rtneural(folder: Path) -> Iterator[tuple[str, Path]]:
    """RTNeural with each backend that its modules/ folder holds. (name, library)"""
    eigen, xsimd = folder / "modules" / "Eigen", folder / "modules" / "xsimd" / "include"
    backends = {  # name -> a folder that must be there, and options
        "Eigen": (
            eigen,
            ["-DRTNEURAL_USE_EIGEN=1", "-DRTNEURAL_DEFAULT_ALIGNMENT=32", "-DEIGEN_STACK_ALLOCATION_LIMIT=0"],
        ),
        "xsimd": (xsimd, ["-DRTNEURAL_USE_XSIMD=1", "-DRTNEURAL_DEFAULT_ALIGNMENT=64"]),
        "plain": (folder, ["-DRTNEURAL_DEFAULT_ALIGNMENT=16"]),
    }
    compiler = os.environ.get("CXX", "c++")
    for name, (include, options) in backends.items():
        if include.exists():
            options = ["-std=c++17", *options, f"-I{folder}", f"-I{include}"]
            yield f"RTNeural {name}", build(f"rtneural_{name}.so", [HERE / "rtneural.cpp"], *options, compiler=compiler)


def subject(name: str, library: Path, layer: Layer, x: Array) -> tuple[Subject, Array] | None:
    """One step of a layer, and where its output goes; None where the library has none of that size."""
    lib = ffi.dlopen(str(library))
    weights = [ffi.from_buffer(a) for a in (layer.w, layer.r, layer.bias_w, layer.bias_r)]
    peer = lib.peer_open(layer.inputs, layer.hidden, *weights)
    if peer == ffi.NULL:
        return None
    frame, y = aligned(x.nbytes).view(np.float32), np.empty(layer.hidden, np.float32)
    frame[:] = x.ravel()  # RTNeural's vectors are read from there as they lie
    step, pointers = ffi.cast("void *", lib.peer_step), (ffi.from_buffer(frame), ffi.from_buffer(y))

    def timed(calls: int, each: object, _held: object = (lib, layer, frame, y)) -> int:
        return int(loops().time_peer(step, peer, *pointers, calls, each))

    return Native(name, timed), y
