"""GRU cells as people write them in PyTorch, and the road from a module to numbers: for the tests of what recognises
them."""

from __future__ import annotations

import io
import warnings

import numpy as np
import onnx
import torch
from torch import nn

import streamgru
from export.graphs import onnxruntime
from streamgru.codes import Code
from streamgru_export.compiler.compile import Compiled
from streamgru_export.oracle.model import Float64Model

I, H = 5, 7  # noqa: E741 - the field's names
TOLERANCE = 2e-6  # float32 rounding of gates of ~12 products, over a few steps; onnxruntime rounds too

BLENDS = {
    "(h-n)*z+n": lambda z, n, h: (h - n) * z + n,
    "n+z*(h-n)": lambda z, n, h: n + z * (h - n),
    "h+z*(n-h)": lambda z, n, h: h + z * (n - h),
    "(1-z)*n+z*h": lambda z, n, h: (1 - z) * n + z * h,
    "(1-z)*h+z*n": lambda z, n, h: (1 - z) * h + z * n,
    "n-n*z+z*h": lambda z, n, h: n - n * z + z * h,
    "lerp(n,h,z)": lambda z, n, h: torch.lerp(n, h, z),
    "lerp(h,n,z)": lambda z, n, h: torch.lerp(h, n, z),
    "(-z+1)*n+z*h": lambda z, n, h: (-z + 1) * n + z * h,
    "-((n-h)*z-n)": lambda z, n, h: -((n - h) * z - n) + 0.0,
}
SIGMA, TANH = torch.sigmoid, torch.tanh


class Fused(nn.Module):
    """Two Linears of 3H, chunked: r, z, n. Reset after the product."""

    def __init__(self, blend="(1-z)*n+z*h", sigma=SIGMA, tanh=TANH, bias=True, early=False):
        super().__init__()
        self.x, self.h = nn.Linear(I, 3 * H, bias), nn.Linear(H, 3 * H, bias)
        self.blend, self.sigma, self.tanh, self.early = BLENDS[blend], sigma, tanh, early

    def forward(self, x, h):
        a, b = self.x(x), self.h(h)
        if self.early:  # both gates at once, before they are split
            r, z = self.sigma(a[:, : 2 * H] + b[:, : 2 * H]).chunk(2, 1)
        else:
            (ar, az, _), (br, bz, _) = a.chunk(3, 1), b.chunk(3, 1)
            r, z = self.sigma(ar + br), self.sigma(az + bz)
        n = self.tanh(a[:, 2 * H :] + r * b[:, 2 * H :])
        return self.blend(z, n, h)


class Separate(nn.Module):
    """Six Linears."""

    def __init__(self, blend="(1-z)*n+z*h", before=False):
        super().__init__()
        self.xz, self.xr, self.xn = (nn.Linear(I, H) for _ in range(3))
        self.hz, self.hr, self.hn = (nn.Linear(H, H, bias) for bias in (False, True, True))
        self.blend, self.before = BLENDS[blend], before

    def forward(self, x, h):
        z, r = SIGMA(self.xz(x) + self.hz(h)), SIGMA(self.hr(h) + self.xr(x))
        n = TANH(self.xn(x) + (self.hn(r * h) if self.before else r * self.hn(h)))
        return self.blend(z, n, h)


class Joined(nn.Module):
    """Linears on [h, x] or [x, h]; one for both gates, or one for each. Reset before the product."""

    def __init__(self, h_first=True, both=True, blend="h+z*(n-h)"):
        super().__init__()
        self.h_first, self.blend = h_first, BLENDS[blend]
        self.gates = nn.ModuleList([nn.Linear(I + H, 2 * H)] if both else [nn.Linear(I + H, H) for _ in range(2)])
        self.n = nn.Linear(I + H, H)

    def join(self, x, h):
        return torch.cat([h, x] if self.h_first else [x, h], 1)

    def forward(self, x, h):
        both = torch.cat([g(self.join(x, h)) for g in self.gates], 1)
        z, r = SIGMA(both).chunk(2, 1)
        return self.blend(z, TANH(self.n(self.join(x, r * h))), h)


class Raw(nn.Module):
    """x @ W + h @ U + b."""

    def __init__(self, before=False, blend="(1-z)*h+z*n", tanh=TANH):
        super().__init__()
        self.tanh = tanh
        self.W, self.U = nn.Parameter(torch.randn(3, I, H) / 3), nn.Parameter(torch.randn(3, H, H) / 3)
        self.b, self.before, self.blend = nn.Parameter(torch.randn(4, H) / 3), before, BLENDS[blend]

    def forward(self, x, h):
        W, U, b = self.W, self.U, self.b
        z, r = SIGMA(x @ W[0] + h @ U[0] + b[0]), SIGMA(b[1] + x @ W[1] + h @ U[1])
        inner = (r * h) @ U[2] if self.before else r * (h @ U[2] + b[3])
        return self.blend(z, self.tanh(x @ W[2] + inner + b[2]), h)


class Net(nn.Module):
    """A cell between a layer and a layer."""

    def __init__(self, cell):
        super().__init__()
        self.cell, self.head = cell, nn.Linear(H, 2)

    def forward(self, x, h):
        h = self.cell(x, h)
        return self.head(h), h


def exported(module, args, names, dynamo, axes=None):
    """The module as ONNX, by either exporter."""
    file = io.BytesIO()
    options = {} if axes is None else {"dynamic_axes": axes}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(module.eval(), args, file, dynamo=dynamo, input_names=names[0], output_names=names[1],
                          verbose=False, **options)  # fmt: skip
    return onnx.load_from_string(file.getvalue())


def step_graph(cell, dynamo, batch=1, seed=3):
    """One step of a cell with a layer behind it: x, h -> y, hn."""
    print(f"seed {seed}")
    torch.manual_seed(seed)
    return exported(Net(cell()), (torch.randn(batch, I), torch.randn(batch, H)), (["x", "h"], ["y", "hn"]), dynamo)


def grus(compiled: Compiled) -> list[dict[str, int]]:
    """Steps, batch, sizes and linear_before_reset of every GRU operator of an image."""
    found = [op.params for op in compiled.program.operators if op.code == Code.GRU]
    return [{"T": p[0], "B": p[1], "I": p[2], "H": p[3], "lbr": p[16]} for p in found]


def assert_steps(source, compiled, states=(("h", "hn"),), steps=6, tolerance=TOLERANCE, seed=4):
    """A stream from zero states gives what onnxruntime and float64 give when their states are fed back."""
    print(f"seed {seed}")
    rng = np.random.default_rng(seed)
    stream, oracle = streamgru.Model(compiled.image).stream(), Float64Model(source)
    shapes = {i.name: [d.dim_value for d in i.type.tensor_type.shape.dim] for i in source.graph.input}
    ours = {i: np.zeros(shapes[i], np.float32) for i, _ in states}
    exact = {i: np.zeros(shapes[i]) for i, _ in states}
    for _ in range(steps):
        x = {n: rng.normal(size=s).astype(np.float32) for n, s in shapes.items() if n not in ours}
        other, best = onnxruntime(source, {**x, **ours}), oracle.run({**x, **exact})
        got = stream.step(x)
        got = got if isinstance(got, dict) else {next(iter(compiled.outputs)): got}
        assert set(got) == set(other) - {o for _, o in states}
        for name, value in got.items():
            np.testing.assert_allclose(value, other[name], rtol=tolerance, atol=tolerance)
            np.testing.assert_allclose(value, best[name], rtol=tolerance, atol=tolerance)
        ours, exact = {i: other[o] for i, o in states}, {i: best[o] for i, o in states}
