"""An executor of images in NumPy: docs/format.md read once more, slowly, as an oracle for the compiler's
tests.

Every operator computes in float64 and rounds its result to float32. It checks nothing and streams one frame
at a time.
"""

from __future__ import annotations

import itertools
import math
import struct
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import as_strided

from streamgru_export.compiler.program.image import dump

DTYPES = {1: np.float32, 2: np.int64, 3: np.int32, 4: np.bool_}
NONE = 0xFFFFFFFF
_erf = np.vectorize(math.erf, otypes=[np.float64])


def _f(word: int) -> float:
    return float(struct.unpack("<f", struct.pack("<I", word))[0])


def _i(word: int) -> int:
    return word - (1 << 32) if word >= 1 << 31 else word


def _sigmoid(x: Any) -> Any:
    return 1.0 / (1.0 + np.exp(-x))


UNARY = {
    0: lambda x, a, b: x,
    1: lambda x, a, b: _sigmoid(x),
    2: lambda x, a, b: np.tanh(x),
    3: lambda x, a, b: np.maximum(x, 0),
    4: lambda x, a, b: np.where(x >= 0, x, a * x),
    5: lambda x, a, b: np.where(x >= 0, x, a * np.expm1(x)),
    6: lambda x, a, b: np.clip(a * x + b, 0, 1),
    7: lambda x, a, b: x / (1 + np.abs(x)),
    8: lambda x, a, b: np.logaddexp(0, x),
    9: lambda x, a, b: np.where(x > a, x, 0),
    10: lambda x, a, b: a * np.tanh(b * x),
    11: lambda x, a, b: a * x + b,
    12: lambda x, a, b: np.minimum(np.maximum(x, a), b),
    13: lambda x, a, b: np.exp(x),
    14: lambda x, a, b: np.log(x),
    15: lambda x, a, b: np.sqrt(x),
    16: lambda x, a, b: 1 / x,
    17: lambda x, a, b: -x,
    18: lambda x, a, b: np.abs(x),
    19: lambda x, a, b: np.floor(x),
    20: lambda x, a, b: np.ceil(x),
    21: lambda x, a, b: np.sign(x),
    22: lambda x, a, b: _erf(x),
    23: lambda x, a, b: b * np.where(x > 0, x, a * np.expm1(x)),
    24: lambda x, a, b: 0.5 * x * (1 + _erf(x / math.sqrt(2))),
    25: lambda x, a, b: 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))),
    26: lambda x, a, b: x * np.clip(x / 6 + 0.5, 0, 1),
    27: lambda x, a, b: x * _sigmoid(x),
    28: lambda x, a, b: np.round(x),
    29: lambda x, a, b: np.maximum(0, x) + np.minimum(0, a * np.expm1(x / a)),
    30: lambda x, a, b: ~x,
    31: lambda x, a, b: x * np.tanh(np.logaddexp(0, x)),
    32: lambda x, a, b: np.sin(x),
    33: lambda x, a, b: np.cos(x),
    34: lambda x, a, b: np.where(x >= a, x, 0),
}
BINARY = {
    0: np.add, 1: np.subtract, 2: np.multiply, 4: np.power, 5: np.minimum, 6: np.maximum,
    7: lambda a, b: np.where(a >= 0, a, a * b), 8: np.mod, 9: np.fmod,
    16: np.equal, 17: np.less, 18: np.less_equal, 19: np.greater, 20: np.greater_equal,
    24: np.logical_and, 25: np.logical_or, 26: np.logical_xor,
}  # fmt: skip


def _divide(a: Any, b: Any) -> Any:
    return np.trunc(a / b).astype(a.dtype) if a.dtype.kind == "i" else a / b


BINARY[3] = _divide
REDUCE = {
    0: np.sum, 1: np.mean, 2: np.max, 3: np.min, 4: np.prod,
    5: lambda x, axis: np.abs(x).sum(axis),
    6: lambda x, axis: np.sqrt((x * x).sum(axis)),
    7: lambda x, axis: (x * x).sum(axis),
    8: lambda x, axis: np.log(np.exp(x).sum(axis)),
}  # fmt: skip


class ImageVM:
    """An image, its arena and its state."""

    def __init__(self, image: bytes) -> None:
        self.image = image
        self.d = dump(image)
        self.tensors = self.d["tensors"]
        sizes = {1: 0, 2: 0}
        for t in self.tensors:
            if t["kind"] != 0:
                end = t["offset"] + self._count(t) * np.dtype(DTYPES[t["dtype"]]).itemsize
                sizes[int(t["kind"])] = max(sizes[int(t["kind"])], end)
        start = self.d["header"]["data_offset"]
        data = np.frombuffer(image, np.uint8)[start : start + self.d["header"]["data_size"]]
        self.memory = {0: data, 1: np.zeros(sizes[1], np.uint8), 2: np.zeros(sizes[2], np.uint8)}
        self.reset()

    def reset(self) -> None:
        self.memory[2][:] = 0
        for i in self.d["states"]:
            if self.tensors[i]["reset"] != NONE:
                self.flat(i)[:] = self.flat(self.tensors[i]["reset"])

    @staticmethod
    def _count(t: dict[str, Any]) -> int:
        if t["layout"] == 1:
            m, k = t["shape"]
            return int(m // 16 * 16 * (k | 1) + -(-(m % 16) // 4) * 4 * k)
        return int(np.prod(t["shape"], dtype=np.int64))

    def flat(self, i: int) -> Any:
        """The stored elements of tensor `i`, writable in arena and state."""
        t = self.tensors[i]
        dtype = np.dtype(DTYPES[t["dtype"]])
        part = self.memory[int(t["kind"])][t["offset"] : t["offset"] + self._count(t) * dtype.itemsize]
        return part.view(dtype)

    def get(self, i: int) -> Any:
        """Tensor `i` with its shape; packed rows unpacked; None where absent."""
        if i == NONE:
            return None
        t = self.tensors[i]
        if t["layout"] == 0:
            return self.flat(i).reshape(t["shape"])
        m, k = t["shape"]
        stored, out = self.flat(i), np.zeros((m, k), np.float32)
        for b in range(0, m, 16):
            width, start = min(16, -(-(m - b) // 4) * 4), b * (k | 1)
            out[b : b + 16] = stored[start : start + width * k].reshape(k, width).T[: m - b]
        return out

    def name(self, i: int) -> str:
        return str(self.tensors[i]["name"])

    def step(self, inputs: dict[str, Any]) -> dict[str, Any]:
        """One frame."""
        assert set(inputs) == {self.name(i) for i in self.d["inputs"]}
        self.memory[1][:] = 0xA5  # what no operator has written must not matter
        for i in self.d["inputs"]:
            value = np.asarray(inputs[self.name(i)])
            assert value.shape == self.tensors[i]["shape"], (value.shape, self.tensors[i])
            self.flat(i)[:] = value.reshape(-1)
        with np.errstate(all="ignore"):
            for op in self.d["operators"]:
                OPS[op["code"]](self, op["inputs"], op["outputs"], op["params"])
        return {self.name(i): self.get(i).copy() for i in self.d["outputs"]}

    def set(self, i: int, value: Any) -> None:
        if i != NONE:
            self.flat(i)[:] = np.asarray(value).reshape(-1)

    def walk(self, i: int, offset: int, dims: list[int], strides: list[int]) -> Any:
        """A strided look at tensor `i`; it must stay inside."""
        flat = self.flat(i)
        reach = [(d - 1) * s for d, s in zip(dims, strides, strict=True)]
        assert offset + sum(min(r, 0) for r in reach) >= 0
        assert offset + sum(max(r, 0) for r in reach) < flat.size
        return as_strided(flat[offset:], dims, [s * flat.itemsize for s in strides])


def _copy(vm: ImageVM, i: Any, o: Any, p: Any) -> None:
    r = p[0]
    dims, ss, ds = p[3 : 3 + r], [_i(w) for w in p[3 + r : 3 + 2 * r]], [_i(w) for w in p[3 + 2 * r :]]
    vm.walk(o[0], p[2], dims, ds)[...] = vm.walk(i[0], p[1], dims, ss).copy()


def _fill(vm: ImageVM, i: Any, o: Any, p: Any) -> None:
    flat = vm.flat(o[0])
    flat[:] = np.frombuffer(struct.pack("<II", *p), flat.dtype)[0]


def _gather(vm: ImageVM, i: Any, o: Any, p: Any) -> None:
    data = vm.get(i[0]).reshape(p[:3])
    vm.set(o[0], np.take(data, vm.get(i[1]).reshape(-1), 1))


def _scatter_elements(vm: ImageVM, i: Any, o: Any, p: Any) -> None:
    data, index, updates = (vm.get(k).copy() for k in i)
    for at in np.ndindex(*index.shape):
        to = list(at)
        to[p[0]] = index[at]
        _reduce_into(data, tuple(to), updates[at], p[1])
    vm.set(o[0], data)


def _scatter_nd(vm: ImageVM, i: Any, o: Any, p: Any) -> None:
    data, index, updates = (vm.get(k).copy() for k in i)
    for at in np.ndindex(*index.shape[:-1]):
        _reduce_into(data, tuple(index[at]), updates[at], p[0])
    vm.set(o[0], data)


def _reduce_into(data: Any, at: Any, value: Any, how: int) -> None:
    data[at] = (
        value,
        data[at] + value,
        data[at] * value,
        np.maximum(data[at], value),
        np.minimum(data[at], value),
    )[how]


def _unary(vm: ImageVM, i: Any, o: Any, p: Any) -> None:
    x = vm.get(i[0])
    x = x.astype(np.float64) if x.dtype == np.float32 else x
    vm.set(o[0], UNARY[p[0]](x, _f(p[1]), _f(p[2])))


def _wide(x: Any) -> Any:
    return x.astype(np.float64) if x.dtype == np.float32 else x


def _binary(vm: ImageVM, i: Any, o: Any, p: Any) -> None:
    r = p[1]
    dims = p[2 : 2 + r]
    a = vm.walk(i[0], 0, dims, [_i(w) for w in p[2 + r : 2 + 2 * r]])
    b = vm.walk(i[1], 0, dims, [_i(w) for w in p[2 + 2 * r :]])
    vm.set(o[0], BINARY[p[0]](_wide(a), _wide(b)))


def _where(vm: ImageVM, i: Any, o: Any, p: Any) -> None:
    r = p[0]
    dims = p[1 : 1 + r]
    c, a, b = (vm.walk(i[k], 0, dims, [_i(w) for w in p[1 + (k + 1) * r : 1 + (k + 2) * r]]) for k in range(3))
    vm.set(o[0], np.where(c, a, b))


def _affine(vm: ImageVM, i: Any, o: Any, p: Any) -> None:
    n, m, k = p[:3]
    y = vm.get(i[0]).reshape(n, k).astype(np.float64) @ vm.get(i[1]).astype(np.float64).T
    if i[2] != NONE:
        y = y + vm.get(i[2]).reshape(m)
    vm.set(o[0], UNARY[p[3]](y.astype(np.float32).astype(np.float64), _f(p[4]), _f(p[5])))


def _matmul(vm: ImageVM, i: Any, o: Any, p: Any) -> None:
    r, m, n, k, ar, br = p[:6]
    batch, sa, sb = p[6 : 6 + r], p[6 + r : 6 + 2 * r], p[6 + 2 * r :]
    a = vm.walk(i[0], 0, [*batch, m, k], [*map(_i, sa), ar, 1])
    b = vm.walk(i[1], 0, [*batch, k, n], [*map(_i, sb), br, 1])
    vm.set(o[0], a.astype(np.float64) @ b.astype(np.float64))


def _act(p: list[int]) -> Any:
    return lambda x: UNARY[p[0]](x, _f(p[1]), _f(p[2]))


def _cell(vm: ImageVM, i: Any, o: Any, p: Any, step: Any, lens: Any, states: list[tuple[Any, int, int]]) -> Any:
    """The loop over batch and time that GRU, LSTM and RNN share. `step(x, states) -> states`."""
    T, B, n_in, H, reverse = p[:5]
    x = vm.walk(i[0], p[5], [T, B, n_in], [_i(p[6]), _i(p[7]), 1]).astype(np.float64)
    y = None if o[0] == NONE else vm.walk(o[0], p[8], [T, B, H], [_i(p[9]), _i(p[10]), 1])
    start = [
        np.zeros((B, H)) if t == NONE else vm.walk(t, off, [B, H], [sb, 1]).astype(np.float64) for t, off, sb in states
    ]
    end = [s.copy() for s in start]
    if y is not None:
        y[...] = 0
    for b in range(B):
        n = T if lens is None else int(lens[b])
        s = [v[b] for v in start]
        for t in range(n)[:: -1 if reverse else 1]:
            s = step(x[t, b], s)
            if y is not None:
                y[t, b] = s[0]
        for v, e in zip(s, end, strict=True):
            e[b] = v
    return end


def _clip(p: list[int]) -> Any:
    c = _f(p[15])
    return (lambda v: np.clip(v, -c, c)) if c > 0 else (lambda v: v)


def _vec(vm: ImageVM, i: int, n: int) -> Any:
    return np.zeros(n) if i == NONE else vm.get(i).reshape(-1).astype(np.float64)


def _gru(vm: ImageVM, i: Any, o: Any, p: Any) -> None:
    H = p[3]
    lbr, f, g, clip = p[16], _act(p[17:20]), _act(p[20:23]), _clip(p)
    w, r = vm.get(i[1]).astype(np.float64), vm.get(i[2]).astype(np.float64)
    bx, bh = _vec(vm, i[4], 3 * H), _vec(vm, i[5], H)
    assert (i[3] == NONE) == bool(lbr)
    rn = r[2 * H :] if lbr else vm.get(i[3]).astype(np.float64)

    def step(x: Any, s: Any) -> Any:
        h = s[0]
        a = w @ x + bx
        zr = f(clip(a[: 2 * H] + r[: 2 * H] @ h))
        z, reset = zr[:H], zr[H:]
        inner = reset * (rn @ h + bh) if lbr else rn @ (reset * h)
        n = g(clip(a[2 * H :] + inner))
        return [(1 - z) * n + z * h]

    lens = vm.get(i[6])
    (h,) = _cell(vm, i, o, p, step, lens, [(i[7], p[11], p[12])])
    if o[1] != NONE:
        vm.walk(o[1], p[13], list(h.shape), [p[14], 1])[...] = h


def _lstm(vm: ImageVM, i: Any, o: Any, p: Any) -> None:
    H, clip = p[3], _clip(p)
    c0, c0b, yc, ycb, input_forget = p[16:21]
    f, g, hh = _act(p[21:24]), _act(p[24:27]), _act(p[27:30])
    w, r = vm.get(i[1]).astype(np.float64), vm.get(i[2]).astype(np.float64)
    b, peep = _vec(vm, i[3], 4 * H), _vec(vm, i[4], 3 * H)

    def step(x: Any, s: Any) -> Any:
        h, c = s
        a = w @ x + r @ h + b
        it = f(clip(a[:H] + peep[:H] * c))
        ft = 1 - it if input_forget else f(clip(a[2 * H : 3 * H] + peep[2 * H :] * c))
        c = ft * c + it * g(clip(a[3 * H :]))
        ot = f(clip(a[H : 2 * H] + peep[H : 2 * H] * c))
        return [ot * hh(c), c]

    h, c = _cell(vm, i, o, p, step, vm.get(i[5]), [(i[6], p[11], p[12]), (i[7], c0, c0b)])
    for t, off, stride, value in ((o[1], p[13], p[14], h), (o[2], yc, ycb, c)):
        if t != NONE:
            vm.walk(t, off, list(value.shape), [stride, 1])[...] = value


def _rnn(vm: ImageVM, i: Any, o: Any, p: Any) -> None:
    f, clip = _act(p[16:19]), _clip(p)
    w, r, b = vm.get(i[1]).astype(np.float64), vm.get(i[2]).astype(np.float64), _vec(vm, i[3], p[3])
    (h,) = _cell(vm, i, o, p, lambda x, s: [f(clip(w @ x + r @ s[0] + b))], vm.get(i[4]), [(i[5], p[11], p[12])])
    if o[1] != NONE:
        vm.walk(o[1], p[13], list(h.shape), [p[14], 1])[...] = h


def _reduce(vm: ImageVM, i: Any, o: Any, p: Any) -> None:
    vm.set(o[0], REDUCE[p[0]](_wide(vm.get(i[0])).reshape(p[1:4]), axis=1))


def _softmax(vm: ImageVM, i: Any, o: Any, p: Any) -> None:
    x = vm.get(i[0]).reshape(p[:3]).astype(np.float64)
    e = x - x.max(1, keepdims=True)
    s = np.exp(e).sum(1, keepdims=True)
    vm.set(o[0], e - np.log(s) if p[3] else np.exp(e) / s)


def _normalize(vm: ImageVM, i: Any, o: Any, p: Any) -> None:
    x = vm.get(i[0]).reshape(p[:2]).astype(np.float64)
    y = (x - x.mean(1, keepdims=True)) / np.sqrt(x.var(1, keepdims=True) + _f(p[2]))
    scale, shift = vm.get(i[1]), vm.get(i[2])
    y = y if scale is None else y * scale.reshape(-1)
    vm.set(o[0], y if shift is None else y + shift.reshape(-1))


def _arg(vm: ImageVM, i: Any, o: Any, p: Any) -> None:
    x = vm.get(i[0]).reshape(p[1:4])
    pick = np.argmin if p[0] else np.argmax
    vm.set(o[0], p[2] - 1 - pick(x[:, ::-1], 1) if p[4] else pick(x, 1))


def _topk(vm: ImageVM, i: Any, o: Any, p: Any) -> None:
    outer, n, inner, k, largest, _ = p
    x = vm.get(i[0]).reshape(outer, n, inner)
    order = np.argsort(-x if largest else x, 1, kind="stable")[:, :k]
    vm.set(o[0], np.take_along_axis(x, order, 1))
    vm.set(o[1], order)


def _cumsum(vm: ImageVM, i: Any, o: Any, p: Any) -> None:
    x = vm.get(i[0]).reshape(p[:3])
    x = x[:, ::-1] if p[4] else x
    y = np.cumsum(_wide(x), 1) - (x if p[3] else 0)
    vm.set(o[0], y[:, ::-1] if p[4] else y)


def _conv_params(p: list[int]) -> Any:
    return p[0], p[1], p[2], p[3], p[4], p[5], p[6], p[7], *p[8:16]


def _conv(vm: ImageVM, i: Any, o: Any, p: Any) -> None:
    n, c, hh, ww, m, oh, ow, g, kh, kw, sh, sw, ph, pw, dh, dw = _conv_params(p)
    x = vm.get(i[0]).reshape(n, c, hh, ww).astype(np.float64)
    w = vm.get(i[1]).reshape(g, m // g, c // g, kh, kw).astype(np.float64)
    padded = np.zeros((n, c, ph + hh + (kh + oh) * dh * sh, pw + ww + (kw + ow) * dw * sw))
    padded[:, :, ph : ph + hh, pw : pw + ww] = x
    y = np.zeros((n, g, m // g, oh, ow))
    for a, b in itertools.product(range(kh), range(kw)):
        part = padded[:, :, a * dh : a * dh + sh * oh : sh, b * dw : b * dw + sw * ow : sw]
        y += np.einsum("ngchw,gmc->ngmhw", part.reshape(n, g, c // g, oh, ow), w[..., a, b])
    _finish_conv(vm, i, o, p, y.reshape(n, m, oh, ow))


def _conv_transpose(vm: ImageVM, i: Any, o: Any, p: Any) -> None:
    n, c, hh, ww, m, oh, ow, g, kh, kw, sh, sw, ph, pw, dh, dw = _conv_params(p)
    x = vm.get(i[0]).reshape(n, g, c // g, hh, ww).astype(np.float64)
    w = vm.get(i[1]).reshape(g, c // g, m // g, kh, kw).astype(np.float64)
    big = np.zeros((n, g, m // g, oh + ph + (kh + hh) * sh * dh, ow + pw + (kw + ww) * sw * dw))
    for a, b in itertools.product(range(kh), range(kw)):
        big[..., a * dh : a * dh + hh * sh : sh, b * dw : b * dw + ww * sw : sw] += np.einsum(
            "ngchw,gcm->ngmhw", x, w[..., a, b]
        )
    y = big[..., ph : ph + oh, pw : pw + ow].reshape(n, m, oh, ow)
    _finish_conv(vm, i, o, p, y)


def _finish_conv(vm: ImageVM, i: Any, o: Any, p: Any, y: Any) -> None:
    if i[2] != NONE:
        y = y + vm.get(i[2]).reshape(1, -1, 1, 1)
    vm.set(o[0], UNARY[p[16]](y, _f(p[17]), _f(p[18])))


def _pool(vm: ImageVM, i: Any, o: Any, p: Any) -> None:
    average, n, c, hh, ww, oh, ow, kh, kw, sh, sw, ph, pw, dh, dw, include, eh, ew = p
    x = vm.get(i[0]).reshape(n, c, hh, ww).astype(np.float64)
    y = np.zeros((n, c, oh, ow))
    for a, b in itertools.product(range(oh), range(ow)):
        rows = [a * sh - ph + k * dh for k in range(kh)]
        cols = [b * sw - pw + k * dw for k in range(kw)]
        inside_r, inside_c = [r for r in rows if 0 <= r < hh], [q for q in cols if 0 <= q < ww]
        part = x[:, :, inside_r][..., inside_c].reshape(n, c, -1)
        counted = [r for r in rows if r < hh + eh], [q for q in cols if q < ww + ew]
        size = len(counted[0]) * len(counted[1]) if include else part.shape[-1]
        y[:, :, a, b] = part.sum(-1) / size if average else part.max(-1)
    vm.set(o[0], y)


OPS = {
    1: _copy,
    2: _fill,
    3: lambda vm, i, o, p: vm.set(o[0], vm.get(i[0]).reshape(-1).astype(DTYPES[vm.tensors[o[0]]["dtype"]])),
    4: _gather,
    5: lambda vm, i, o, p: vm.set(o[0], np.take_along_axis(vm.get(i[0]), vm.get(i[1]), p[0])),
    6: _scatter_elements,
    7: _scatter_nd,
    16: _unary,
    17: _binary,
    18: _where,
    32: _affine,
    33: _matmul,
    48: _gru,
    49: _lstm,
    50: _rnn,
    64: _reduce,
    65: _softmax,
    66: _normalize,
    67: _arg,
    68: _topk,
    69: _cumsum,
    80: _conv,
    81: _conv_transpose,
    82: _pool,
}
