"""GRU, LSTM and RNN in float64: the ONNX operators with every attribute, as plain NumPy.

This is the slow, obvious version that the fast ones are measured against. It is not used to run models in
production, it knows nothing of graphs (`model.py` does), and it is independent of the C library.

Equations, names and gate orders are those of the ONNX operators (opsets 7, 14 and 22,
https://onnx.ai/onnx/operators/onnx__GRU.html and its neighbours). Where ONNX is silent:

- ONNX gives Affine no default since it left the standard; its last ones (1, 0) stand. ScaledTanh never had
  any: without alpha and beta it is refused. (onnxruntime takes 0 for both, and for the alpha of
  ThresholdedRelu, where ONNX says 1.)
- activation_alpha and activation_beta hold one value for each activation that takes one, in order, forward
  direction first; missing ones at the end are defaults. onnxruntime reads them so. Surplus values are
  refused.
- clip holds for every activation, the h(c) of an LSTM included. (onnxruntime clips the four gates only.)
- A sequence of length 0 has no step: its Y is zero and its state stays initial_h. (onnxruntime answers zero.)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

F64 = NDArray[np.float64]
Activation = Callable[[F64], F64]
Loop = Callable[..., tuple[F64, ...]]

REVERSED = {"forward": (False,), "reverse": (True,), "bidirectional": (False, True)}


def sigmoid(x: F64) -> F64:
    """1 / (1 + exp(-x)), without overflow and exact to the last bits on both sides."""
    e = np.exp(-np.abs(x))
    return np.asarray(np.where(x >= 0, 1.0, e) / (1.0 + e))


def _elu(x: F64, alpha: float, beta: float) -> F64:
    return np.where(x >= 0, x, alpha * np.expm1(np.minimum(x, 0.0)))


class _Spec(NamedTuple):
    """An activation f(x, alpha, beta). A default of None: it takes none. NaN: it takes one and has no
    default."""

    function: Callable[[F64, float, float], F64]
    alpha: float | None = None
    beta: float | None = None


ACTIVATIONS = {
    "affine": _Spec(lambda x, alpha, beta: alpha * x + beta, 1.0, 0.0),
    "elu": _Spec(_elu, 1.0),
    "hardsigmoid": _Spec(lambda x, alpha, beta: np.clip(alpha * x + beta, 0.0, 1.0), 0.2, 0.5),
    "leakyrelu": _Spec(lambda x, alpha, beta: np.where(x >= 0, x, alpha * x), 0.01),
    "relu": _Spec(lambda x, alpha, beta: np.maximum(x, 0.0)),
    "scaledtanh": _Spec(lambda x, alpha, beta: alpha * np.tanh(beta * x), np.nan, np.nan),
    "sigmoid": _Spec(lambda x, alpha, beta: sigmoid(x)),
    "softplus": _Spec(lambda x, alpha, beta: np.logaddexp(0.0, x)),
    "softsign": _Spec(lambda x, alpha, beta: x / (1.0 + np.abs(x))),
    "tanh": _Spec(lambda x, alpha, beta: np.tanh(x)),
    "thresholdedrelu": _Spec(lambda x, alpha, beta: np.where(x >= alpha, x, 0.0), 1.0),
}


def gru(
    x: ArrayLike,
    w: ArrayLike,
    r: ArrayLike,
    b: ArrayLike | None = None,
    sequence_lens: ArrayLike | None = None,
    initial_h: ArrayLike | None = None,
    *,
    activations: Sequence[str] | None = None,
    activation_alpha: Sequence[float] | None = None,
    activation_beta: Sequence[float] | None = None,
    clip: float | None = None,
    direction: str = "forward",
    hidden_size: int | None = None,
    layout: int = 0,
    linear_before_reset: int = 0,
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
    x, w, r, b, hidden = _operands(x, w, r, b, gates=3, direction=direction, layout=layout, hidden_size=hidden_size)
    fs = _functions(activations, ("Sigmoid", "Tanh"), activation_alpha, activation_beta, clip, len(w))
    loops = [_gru_loop(*operands, bool(linear_before_reset)) for operands in zip(w, r, b, fs, strict=True)]
    states = [_initial(initial_h, "initial_h", len(w), x.shape[1], hidden, layout)]
    y, y_h = _over_directions(loops, x, states, sequence_lens, direction, layout)
    return y, y_h


def _gru_loop(w: F64, r: F64, b: F64, fs: Sequence[Activation], linear_before_reset: bool) -> Loop:
    """The loop of one direction: (x [T, B, I], h [B, H]) -> (Y [T, B, H], h [B, H])."""
    f, g = fs
    H = r.shape[1]
    wb, rb = b[: 3 * H], b[3 * H :].copy()
    wb = wb + np.concatenate([rb[: 2 * H], np.zeros(H) if linear_before_reset else rb[2 * H :]])
    r_all, r_zr, r_h, rb_h = r.T.copy(), r[: 2 * H].T.copy(), r[2 * H :].T.copy(), rb[2 * H :]

    def loop(x: F64, h: F64) -> tuple[F64, F64]:
        gates = x @ w.T + wb
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
    activations: Sequence[str] | None = None,
    activation_alpha: Sequence[float] | None = None,
    activation_beta: Sequence[float] | None = None,
    clip: float | None = None,
    direction: str = "forward",
    hidden_size: int | None = None,
    input_forget: int = 0,
    layout: int = 0,
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
    x, w, r, b, hidden = _operands(x, w, r, b, gates=4, direction=direction, layout=layout, hidden_size=hidden_size)
    peepholes = np.zeros((len(w), 3 * hidden)) if p is None else np.asarray(p, np.float64)
    _expect("P", peepholes, (len(w), 3 * hidden))
    fs = _functions(activations, ("Sigmoid", "Tanh", "Tanh"), activation_alpha, activation_beta, clip, len(w))
    loops = [_lstm_loop(*each, bool(input_forget)) for each in zip(w, r, b, peepholes, fs, strict=True)]
    states = [
        _initial(state, name, len(w), x.shape[1], hidden, layout)
        for state, name in ((initial_h, "initial_h"), (initial_c, "initial_c"))
    ]
    y, y_h, y_c = _over_directions(loops, x, states, sequence_lens, direction, layout)
    return y, y_h, y_c


def _lstm_loop(w: F64, r: F64, b: F64, p: F64, fs: Sequence[Activation], input_forget: bool) -> Loop:
    """The loop of one direction: (x [T, B, I], h [B, H], c [B, H]) -> (Y [T, B, H], h, c)."""
    f, g, squash = fs
    H = r.shape[1]
    bias, r_t = b[: 4 * H] + b[4 * H :], r.T.copy()
    p_i, p_o, p_f = np.split(p, 3)

    def loop(x: F64, h: F64, c: F64) -> tuple[F64, F64, F64]:
        gates = x @ w.T + bias
        y = np.empty((len(x), *h.shape))
        for t, a in enumerate(gates):
            a_i, a_o, a_f, a_c = np.split(a + h @ r_t, 4, axis=1)
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
    *,
    activations: Sequence[str] | None = None,
    activation_alpha: Sequence[float] | None = None,
    activation_beta: Sequence[float] | None = None,
    clip: float | None = None,
    direction: str = "forward",
    hidden_size: int | None = None,
    layout: int = 0,
) -> tuple[F64, F64]:
    """The ONNX operator RNN, default f = Tanh: h = f(x Wi' + h Ri' + Wbi + Rbi).

    Parameters and results are as of :func:`gru`, with w [D, H, I], r [D, H, H] and b [D, 2 H].

    Raises
    ------
    ValueError
        A shape, a length or an attribute does not fit.
    """
    x, w, r, b, hidden = _operands(x, w, r, b, gates=1, direction=direction, layout=layout, hidden_size=hidden_size)
    fs = _functions(activations, ("Tanh",), activation_alpha, activation_beta, clip, len(w))
    loops = [_rnn_loop(*operands) for operands in zip(w, r, b, fs, strict=True)]
    states = [_initial(initial_h, "initial_h", len(w), x.shape[1], hidden, layout)]
    y, y_h = _over_directions(loops, x, states, sequence_lens, direction, layout)
    return y, y_h


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


def _over_directions(
    loops: Sequence[Loop],
    x: F64,
    states: Sequence[F64],
    sequence_lens: ArrayLike | None,
    direction: str,
    layout: int,
) -> tuple[F64, ...]:
    """Run each direction's loop over the valid part of each sequence. x [T, B, I], states [D, B, H]."""
    T, B, _ = x.shape
    lengths = np.full(B, T) if sequence_lens is None else np.asarray(sequence_lens)
    if lengths.shape != (B,) or lengths.dtype.kind not in "iu" or np.any((lengths < 0) | (lengths > T)):
        raise ValueError(f"sequence_lens: {B} integers of 0 to {T} expected, not {lengths}")
    y = np.zeros((T, len(loops), B, states[0].shape[2]))
    finals = [state.copy() for state in states]
    for d, (loop, backwards) in enumerate(zip(loops, REVERSED[direction], strict=True)):
        order = slice(None, None, -1 if backwards else 1)
        for length in np.unique(lengths):
            (members,) = np.nonzero(lengths == length)
            valid = x[:length, members][order]
            steps, *last = loop(valid, *(state[d, members] for state in states))
            y[:length, d, members] = steps[order]
            for final, value in zip(finals, last, strict=True):
                final[d, members] = value
    if layout == 1:
        return y.transpose(2, 0, 1, 3), *(final.swapaxes(0, 1) for final in finals)
    return y, *finals


def _operands(
    x: ArrayLike,
    w: ArrayLike,
    r: ArrayLike,
    b: ArrayLike | None,
    *,
    gates: int,
    direction: str,
    layout: int,
    hidden_size: int | None,
) -> tuple[F64, F64, F64, F64, int]:
    """The operands in float64 and layout 0, checked against each other, and H."""
    x, w, r = (np.asarray(each, np.float64) for each in (x, w, r))
    if direction not in REVERSED:
        raise ValueError(f"direction: one of {', '.join(REVERSED)} expected, not {direction!r}")
    if layout not in (0, 1):
        raise ValueError(f"layout: 0 or 1 expected, not {layout}")
    if x.ndim != 3 or r.ndim != 3:
        raise ValueError(f"X and R: 3 axes expected, not the shapes {x.shape} and {r.shape}")
    D, H = len(REVERSED[direction]), r.shape[2]
    if hidden_size not in (None, H):
        raise ValueError(f"hidden_size is {hidden_size}, but R has {H} columns")
    b = np.zeros((D, 2 * gates * H)) if b is None else np.asarray(b, np.float64)
    _expect("W", w, (D, gates * H, x.shape[2]))
    _expect("R", r, (D, gates * H, H))
    _expect("B", b, (D, 2 * gates * H))
    return (x.swapaxes(0, 1) if layout == 1 else x), w, r, b, H


def _initial(state: ArrayLike | None, name: str, D: int, B: int, H: int, layout: int) -> F64:
    """An initial state as [D, B, H]."""
    if state is None:
        return np.zeros((D, B, H))
    state = np.asarray(state, np.float64)
    _expect(name, state, (B, D, H) if layout == 1 else (D, B, H))
    return state.swapaxes(0, 1) if layout == 1 else state


def _expect(name: str, array: NDArray[np.generic], shape: tuple[int, ...]) -> None:
    if array.shape != shape:
        raise ValueError(f"{name}: shape {shape} expected, not {array.shape}")


def _functions(
    names: Sequence[str] | None,
    defaults: tuple[str, ...],
    alphas: Sequence[float] | None,
    betas: Sequence[float] | None,
    clip: float | None,
    directions: int,
) -> list[list[Activation]]:
    """The activations of each direction, with alpha, beta and clip bound."""
    each = len(defaults)
    names = list(names) if names else [*defaults] * directions
    if directions == 1 and len(names) == 2 * each and names[:each] == names[each:]:
        names = names[:each]  # the schema's own default for RNN is (Tanh, Tanh), whatever the direction
    if len(names) != each * directions:
        raise ValueError(f"activations: {each * directions} names expected, not {names}")
    if clip is not None and not clip >= 0:
        raise ValueError(f"clip: a threshold of 0 or more expected, not {clip}")
    alpha, beta = [float(a) for a in alphas or ()], [float(b) for b in betas or ()]
    functions = [_bind(name, alpha, beta, clip) for name in names]
    if alpha or beta:
        raise ValueError(f"activation_alpha, activation_beta: more values than {', '.join(names)} take")
    return [functions[d * each : (d + 1) * each] for d in range(directions)]


def _bind(name: str, alphas: list[float], betas: list[float], clip: float | None) -> Activation:
    """One activation as a function of x alone. Takes its values off the front of the lists."""
    if name.lower() not in ACTIVATIONS:
        raise ValueError(f"activations: {name!r} is no ONNX activation")
    function, alpha, beta = ACTIVATIONS[name.lower()]
    if alpha is not None:
        alpha = alphas.pop(0) if alphas else alpha
    if beta is not None:
        beta = betas.pop(0) if betas else beta
    a, b = alpha or 0.0, beta or 0.0
    if np.isnan(a) or np.isnan(b):
        raise ValueError(f"activations: {name} needs an alpha and a beta; ONNX has no default")
    if clip is None:
        return lambda x: function(x, a, b)
    bound = float(clip)
    return lambda x: function(np.minimum(np.maximum(x, -bound), bound), a, b)
