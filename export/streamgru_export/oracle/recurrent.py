"""GRU, LSTM and RNN in float64: the ONNX operators with every attribute, as plain NumPy.

This is the slow, obvious version that the fast ones are measured against. It is not used to run models in
production, it knows nothing of graphs (`model.py` does), and it is independent of the C library.

Equations, names and gate orders are those of the ONNX operators (opsets 7, 14 and 22,
https://onnx.ai/onnx/operators/onnx__GRU.html and its neighbours); `activations.py` has their functions. `gru` is the
operator; `gru_cell` is what is left to call once the weights are known, for whoever steps a graph.

Where ONNX is silent: a sequence of length 0 has no step, so its Y is zero and its state stays initial_h.
(onnxruntime answers zero.)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypedDict, Unpack

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .activations import F64, Activation, functions

Loop = Callable[..., tuple[F64, ...]]

REVERSED = {"forward": (False,), "reverse": (True,), "bidirectional": (False, True)}


class Attributes(TypedDict, total=False):
    """What GRU, LSTM and RNN have in common. None is as good as absent."""

    activations: Sequence[str] | None
    activation_alpha: Sequence[float] | None
    activation_beta: Sequence[float] | None
    clip: float | None
    direction: str
    hidden_size: int | None
    layout: int


def gru(
    x: ArrayLike,
    w: ArrayLike,
    r: ArrayLike,
    b: ArrayLike | None = None,
    sequence_lens: ArrayLike | None = None,
    initial_h: ArrayLike | None = None,
    *,
    linear_before_reset: int = 0,
    **attributes: Unpack[Attributes],
) -> tuple[F64, F64]:
    """The ONNX operator GRU. Default f = Sigmoid, g = Tanh; each may be clipped at its input.

        z = f(x Wz' + h Rz' + Wbz + Rbz)
        r = f(x Wr' + h Rr' + Wbr + Rbr)
        n = g(x Wh' + (r ⊙ h) Rh' + Rbh + Wbh)      linear_before_reset = 0
        n = g(x Wh' + r ⊙ (h Rh' + Rbh) + Wbh)      linear_before_reset = 1
        h = (1 − z) ⊙ n + z ⊙ h

    Parameters
    ----------
    x : [T, B, I]; [B, T, I] where layout = 1
    w : [D, 3 H, I], gates z, r, h; D = 2 where bidirectional, else 1
    r : [D, 3 H, H]
    b : [D, 6 H], Wb then Rb; zero where absent
    sequence_lens : [B] integers, 0 ... T
    initial_h : [D, B, H]; [B, D, H] where layout = 1; zero where absent

    Returns
    -------
    Y : float64 [T, D, B, H]; [B, T, D, H] where layout = 1. Zero beyond a sequence's length.
    Y_h : float64 [D, B, H]; [B, D, H] where layout = 1. The state after the last valid step, which for the
        reverse direction is step 0.

    Raises
    ------
    ValueError
        A shape, a length or an attribute does not fit.
    """
    y, y_h = gru_cell(w, r, b, linear_before_reset=linear_before_reset, **attributes)(x, sequence_lens, initial_h)
    return y, y_h


def gru_cell(
    w: ArrayLike,
    r: ArrayLike,
    b: ArrayLike | None = None,
    *,
    linear_before_reset: int = 0,
    **attributes: Unpack[Attributes],
) -> Cell:
    """The operator GRU with its weights: a function of (x, sequence_lens, initial_h)."""
    cell = Cell(w, r, b, gates=3, **attributes)
    for weights in cell.weights(("Sigmoid", "Tanh"), **attributes):
        cell.loops.append(_gru_loop(*weights, bool(linear_before_reset)))
    return cell


def _gru_loop(w: F64, r: F64, b: F64, fs: Sequence[Activation], linear_before_reset: bool) -> Loop:
    """The loop of one direction: (x [T, B, I], h [B, H]) -> (Y [T, B, H], h [B, H])."""
    f, g = fs
    H = r.shape[1]
    wb, rb = b[: 3 * H], b[3 * H :].copy()
    wb = wb + np.concatenate([rb[: 2 * H], np.zeros(H) if linear_before_reset else rb[2 * H :]])
    w_t, r_all, r_zr, r_h, rb_h = w.T, r.T.copy(), r[: 2 * H].T.copy(), r[2 * H :].T.copy(), rb[2 * H :]

    def loop(x: F64, h: F64) -> tuple[F64, F64]:
        gates = x @ w_t + wb
        y = np.empty((len(x), *h.shape))
        for t, a in enumerate(gates):
            if linear_before_reset:
                c = h @ r_all
                zr = f(a[:, : 2 * H] + c[:, : 2 * H])
                n = g(a[:, 2 * H :] + zr[:, H:] * (c[:, 2 * H :] + rb_h))
            else:
                zr = f(a[:, : 2 * H] + h @ r_zr)
                n = g(a[:, 2 * H :] + (zr[:, H:] * h) @ r_h)
            z = zr[:, :H]
            h = (1.0 - z) * n + z * h
            y[t] = h
        return y, h

    return loop


def lstm(
    x: ArrayLike,
    w: ArrayLike,
    r: ArrayLike,
    b: ArrayLike | None = None,
    sequence_lens: ArrayLike | None = None,
    initial_h: ArrayLike | None = None,
    initial_c: ArrayLike | None = None,
    p: ArrayLike | None = None,
    *,
    input_forget: int = 0,
    **attributes: Unpack[Attributes],
) -> tuple[F64, F64, F64]:
    """The ONNX operator LSTM. Default f = Sigmoid, g = h = Tanh; each may be clipped at its input.

        i = f(x Wi' + h Ri' + Pi ⊙ c + Wbi + Rbi)
        f = f(x Wf' + h Rf' + Pf ⊙ c + Wbf + Rbf)   or 1 − i where input_forget = 1
        g = g(x Wc' + h Rc' + Wbc + Rbc)
        c = f ⊙ c + i ⊙ g
        o = f(x Wo' + h Ro' + Po ⊙ c + Wbo + Rbo)
        h = o ⊙ h(c)

    Parameters are as of :func:`gru`, with gates i, o, f, c in w [D, 4 H, I], r [D, 4 H, H] and b [D, 8 H];
    p is [D, 3 H], gates i, o, f, zero where absent; initial_c is shaped like initial_h.

    Returns
    -------
    Y, Y_h, Y_c : shaped as in :func:`gru`

    Raises
    ------
    ValueError
        A shape, a length or an attribute does not fit.
    """
    cell = lstm_cell(w, r, b, p, input_forget=input_forget, **attributes)
    y, y_h, y_c = cell(x, sequence_lens, initial_h, initial_c)
    return y, y_h, y_c


def lstm_cell(
    w: ArrayLike,
    r: ArrayLike,
    b: ArrayLike | None = None,
    p: ArrayLike | None = None,
    *,
    input_forget: int = 0,
    **attributes: Unpack[Attributes],
) -> Cell:
    """The operator LSTM with its weights: a function of (x, sequence_lens, initial_h, initial_c)."""
    cell = Cell(w, r, b, gates=4, **attributes)
    D, H = len(cell.w), cell.hidden
    peepholes = np.zeros((D, 3 * H)) if p is None else np.asarray(p, np.float64)
    _expect("P", peepholes, (D, 3 * H))
    for weights, p_d in zip(cell.weights(("Sigmoid", "Tanh", "Tanh"), **attributes), peepholes, strict=True):
        cell.loops.append(_lstm_loop(*weights, p_d, bool(input_forget)))
    return cell


def _lstm_loop(w: F64, r: F64, b: F64, fs: Sequence[Activation], p: F64, input_forget: bool) -> Loop:
    """The loop of one direction: (x [T, B, I], h [B, H], c [B, H]) -> (Y [T, B, H], h, c)."""
    f, g, squash = fs
    H = r.shape[1]
    bias, r_t = b[: 4 * H] + b[4 * H :], r.T.copy()
    p_i, p_o, p_f = np.split(p, 3)

    def loop(x: F64, h: F64, c: F64) -> tuple[F64, F64, F64]:
        gates = x @ w.T + bias
        y = np.empty((len(x), *h.shape))
        for t, a in enumerate(gates):
            a = a + h @ r_t
            a_i, a_o, a_f, a_c = a[:, :H], a[:, H : 2 * H], a[:, 2 * H : 3 * H], a[:, 3 * H :]
            i = f(a_i + p_i * c)
            forget = 1.0 - i if input_forget else f(a_f + p_f * c)
            c = forget * c + i * g(a_c)
            h = f(a_o + p_o * c) * squash(c)
            y[t] = h
        return y, h, c

    return loop


def rnn(
    x: ArrayLike,
    w: ArrayLike,
    r: ArrayLike,
    b: ArrayLike | None = None,
    sequence_lens: ArrayLike | None = None,
    initial_h: ArrayLike | None = None,
    **attributes: Unpack[Attributes],
) -> tuple[F64, F64]:
    """The ONNX operator RNN, default f = Tanh: h = f(x Wi' + h Ri' + Wbi + Rbi).

    Parameters and results are as of :func:`gru`, with w [D, H, I], r [D, H, H] and b [D, 2 H].

    Raises
    ------
    ValueError
        A shape, a length or an attribute does not fit.
    """
    y, y_h = rnn_cell(w, r, b, **attributes)(x, sequence_lens, initial_h)
    return y, y_h


def rnn_cell(w: ArrayLike, r: ArrayLike, b: ArrayLike | None = None, **attributes: Unpack[Attributes]) -> Cell:
    """The operator RNN with its weights: a function of (x, sequence_lens, initial_h)."""
    cell = Cell(w, r, b, gates=1, **attributes)
    for weights in cell.weights(("Tanh",), **attributes):
        cell.loops.append(_rnn_loop(*weights))
    return cell


def _rnn_loop(w: F64, r: F64, b: F64, fs: Sequence[Activation]) -> Loop:
    """The loop of one direction: (x [T, B, I], h [B, H]) -> (Y [T, B, H], h [B, H])."""
    (f,) = fs
    H = r.shape[1]
    bias, r_t = b[:H] + b[H:], r.T.copy()

    def loop(x: F64, h: F64) -> tuple[F64, F64]:
        gates = x @ w.T + bias
        y = np.empty((len(x), *h.shape))
        for t, a in enumerate(gates):
            h = f(a + h @ r_t)
            y[t] = h
        return y, h

    return loop


class Cell:
    """A recurrent operator with its weights, ready to run over any sequence.

    Parameters
    ----------
    w, r, b, direction, hidden_size, layout : as of :func:`gru`
    gates : int
        3 of a GRU, 4 of an LSTM, 1 of an RNN.

    Attributes
    ----------
    loops : list
        One for each direction: (x [T, B, I], *states [B, H]) -> (Y [T, B, H], *states), forward in time.
    """

    def __init__(
        self,
        w: ArrayLike,
        r: ArrayLike,
        b: ArrayLike | None,
        gates: int,
        direction: str = "forward",
        hidden_size: int | None = None,
        layout: int = 0,
        **functions: object,
    ) -> None:
        if direction not in REVERSED:
            raise ValueError(f"direction: one of {', '.join(REVERSED)} expected, not {direction!r}")
        if layout not in (0, 1):
            raise ValueError(f"layout: 0 or 1 expected, not {layout}")
        self.w, self.r = np.asarray(w, np.float64), np.asarray(r, np.float64)
        if self.w.ndim != 3 or self.r.ndim != 3:
            raise ValueError(f"W and R: 3 axes expected, not the shapes {self.w.shape} and {self.r.shape}")
        self.reversed, self.layout, self.loops = REVERSED[direction], layout, list[Loop]()
        D, H = len(self.reversed), self.r.shape[2]
        if hidden_size not in (None, H):
            raise ValueError(f"hidden_size is {hidden_size}, but R has {H} columns")
        self.b = np.zeros((D, 2 * gates * H)) if b is None else np.asarray(b, np.float64)
        self.hidden, self.inputs = H, self.w.shape[2]
        _expect("W", self.w, (D, gates * H, self.inputs))
        _expect("R", self.r, (D, gates * H, H))
        _expect("B", self.b, (D, 2 * gates * H))

    def weights(
        self,
        defaults: tuple[str, ...],
        activations: Sequence[str] | None = None,
        activation_alpha: Sequence[float] | None = None,
        activation_beta: Sequence[float] | None = None,
        clip: float | None = None,
        **shape: object,
    ) -> list[tuple[F64, F64, F64, list[Activation]]]:
        """w, r, b and the activations of each direction."""
        fs = functions(activations, defaults, activation_alpha, activation_beta, clip, len(self.w))
        return list(zip(self.w, self.r, self.b, fs, strict=True))

    def __call__(
        self, x: ArrayLike, sequence_lens: ArrayLike | None = None, *initial: ArrayLike | None
    ) -> tuple[F64, ...]:
        """Y and the last states, from x and one initial state for each of them."""
        x = np.asarray(x, np.float64)
        if x.ndim != 3:
            raise ValueError(f"X: 3 axes expected, not the shape {x.shape}")
        x = x.swapaxes(0, 1) if self.layout == 1 else x
        T, B, _ = x.shape
        _expect("X", x, (T, B, self.inputs))
        named = zip(("initial_h", "initial_c"), initial, strict=False)
        states = [self._initial(name, state, B) for name, state in named]
        y = np.zeros((T, len(self.loops), B, self.hidden))
        for lengths, members in _groups(sequence_lens, T, B):
            self._run(x, y, states, lengths, members)
        if self.layout == 1:
            return y.transpose(2, 0, 1, 3), *(state.swapaxes(0, 1) for state in states)
        return y, *states

    def _run(self, x: F64, y: F64, states: list[F64], length: int, members: Members) -> None:
        """Both directions over `length` steps of some sequences: writes into y [T, D, B, H], states [D, B, H]."""
        for d, (loop, backwards) in enumerate(zip(self.loops, self.reversed, strict=True)):
            order = slice(None, None, -1 if backwards else 1)
            steps, *last = loop(x[:length, members][order], *(state[d, members] for state in states))
            y[:length, d, members] = steps[order]
            for state, value in zip(states, last, strict=True):
                state[d, members] = value

    def _initial(self, name: str, state: ArrayLike | None, B: int) -> F64:
        """A copy of an initial state as [D, B, H]."""
        D, H = len(self.reversed), self.hidden
        if state is None:
            return np.zeros((D, B, H))
        state = np.asarray(state, np.float64)
        _expect(name, state, (B, D, H) if self.layout == 1 else (D, B, H))
        return (state.swapaxes(0, 1) if self.layout == 1 else state).copy()


Members = slice | NDArray[np.intp]  # some of a batch


def _groups(sequence_lens: ArrayLike | None, T: int, B: int) -> list[tuple[int, Members]]:
    """The sequences of each length."""
    if sequence_lens is None:
        return [(T, slice(None))]
    lengths = np.asarray(sequence_lens)
    if lengths.shape != (B,) or lengths.dtype.kind not in "iu" or np.any((lengths < 0) | (lengths > T)):
        raise ValueError(f"sequence_lens: {B} integers of 0 to {T} expected, not {lengths}")
    return [(int(length), np.nonzero(lengths == length)[0]) for length in np.unique(lengths)]


def _expect(name: str, array: NDArray[np.generic], shape: tuple[int, ...]) -> None:
    if array.shape != shape:
        raise ValueError(f"{name}: shape {shape} expected, not {array.shape}")
