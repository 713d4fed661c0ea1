"""The activations of GRU, LSTM and RNN in float64, and how a node names them.

Names and defaults are those of the ONNX operators of the same name. Where ONNX is silent:

- ONNX gives Affine no default since it left the standard; its last ones (1, 0) stand. ScaledTanh never had
  any: without alpha and beta it is refused. (onnxruntime takes 0 for both, and for the alpha of
  ThresholdedRelu, where ONNX says 1.)
- activation_alpha and activation_beta hold one value for each activation that takes one, in order, forward
  direction first; missing ones at the end are defaults. onnxruntime reads them so. Surplus values are
  refused.
- clip holds for every activation, the h(c) of an LSTM included. (onnxruntime clips the four gates only.)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

F64 = NDArray[np.float64]
Activation = Callable[[F64], F64]


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


def functions(
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
