"""The activations of a recurrent node: ONNX's names, alpha and beta as the functions and numbers of the
image."""

from __future__ import annotations

import math
from dataclasses import dataclass

from streamgru.codes import Unary
from streamgru.errors import ModelError

from ..graph.graph import Node
from ..graph.recurrent import ACTIVATIONS, Recurrent

# ONNX name in lower case -> (function, default alpha, default beta); None where the function takes none.
# The defaults are those of the ONNX operators of that name. Affine is none today; when it was one, its defaults were 1
# and 0. ScaledTanh never had any (NAN): the node must give its numbers. onnxruntime takes 0 for what is missing of
# these two and of ThresholdedRelu, which makes the first two zero everywhere.
FUNCTIONS: dict[str, tuple[Unary, float | None, float | None]] = {
    "sigmoid": (Unary.SIGMOID, None, None),
    "tanh": (Unary.TANH, None, None),
    "relu": (Unary.RELU, None, None),
    "leakyrelu": (Unary.LEAKY_RELU, 0.01, None),
    "elu": (Unary.ELU, 1.0, None),
    "hardsigmoid": (Unary.HARD_SIGMOID, 0.2, 0.5),
    "softsign": (Unary.SOFTSIGN, None, None),
    "softplus": (Unary.SOFTPLUS, None, None),
    "thresholdedrelu": (Unary.THRESHOLDED_RELU_EQ, 1.0, None),  # x >= alpha inside a cell
    "scaledtanh": (Unary.SCALED_TANH, math.nan, math.nan),
    "affine": (Unary.AFFINE, 1.0, 0.0),
}


@dataclass(frozen=True)
class Activation:
    """A function of the image with its numbers."""

    function: Unary
    alpha: float
    beta: float

    def params(self) -> list[int | float]:
        """As operator parameters."""
        return [self.function, self.alpha, self.beta]


def activations(node: Node, form: Recurrent) -> list[list[Activation]]:
    """For each direction the activations of the node.

    ``activation_alpha`` and ``activation_beta`` are consumed in the order of the activations that take one
    (ONNX: "the values are consumed in the order of activation functions"); names are compared without regard
    to case, as onnxruntime does.

    Raises
    ------
    ModelError
        An unknown name, a wrong number of names, or more alphas or betas than the functions take.
    """
    n, names = len(ACTIVATIONS[node.op_type]), list(form.activations)
    if len(names) != n * form.directions:
        raise ModelError(f"{node}: {n * form.directions} activations were expected, and it has {names}")
    alphas, betas = list(form.alphas), list(form.betas)
    found = [_activation(node, name, alphas, betas) for name in names]
    for what, left in (("activation_alpha", alphas), ("activation_beta", betas)):
        if left:
            raise ModelError(f"{node}: {what} has {len(left)} value(s) more than the activations {names} take")
    return [found[i * n : (i + 1) * n] for i in range(form.directions)]


def _activation(node: Node, name: str, alphas: list[float], betas: list[float]) -> Activation:
    if name.lower() not in FUNCTIONS:
        raise ModelError(f"{node}: unknown activation '{name}'; ONNX has {', '.join(FUNCTIONS)}")
    function, alpha, beta = FUNCTIONS[name.lower()]
    if alpha is not None:
        alpha = float(alphas.pop(0)) if alphas else alpha
    if beta is not None:
        beta = float(betas.pop(0)) if betas else beta
    for what, value in (("alpha", alpha), ("beta", beta)):
        if value is not None and math.isnan(value):
            raise ModelError(f"{node}: the activation {name} has no default {what}; give it in activation_{what}")
    return Activation(function, alpha or 0.0, beta or 0.0)
