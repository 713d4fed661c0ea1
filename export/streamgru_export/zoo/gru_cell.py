"""The GRU cell in all its spellings: which side z takes, where r acts, one weight or two, which activation.

With σ the sigmoid and φ the candidate's activation (tanh by default), shapes W [3H, I], R [3H, H], b and c [3H]:

    z = σ(W_z x + b_z + R_z h + c_z)      r = σ(W_r x + b_r + R_r h + c_r)

    reset="after"     n = φ(W_n x + b_n + r ⊙ (R_n h + c_n))      torch.nn.GRU, cuDNN; ONNX linear_before_reset=1
    reset="before"    n = φ(W_n x + b_n + R_n (r ⊙ h) + c_n)      Cho et al. 2014; ONNX linear_before_reset=0

    update="keep"     h' = (1 − z) ⊙ n + z ⊙ h                    Cho et al. 2014 eq. 7, torch, ONNX
    update="write"    h' = (1 − z) ⊙ h + z ⊙ n                    Chung et al. 2014 eq. 4

Sources: Cho et al. 2014, https://arxiv.org/abs/1406.1078; Chung et al. 2014, https://arxiv.org/abs/1412.3555.
The two updates compute the same family of functions: negating the rows of z turns one into the other.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from streamgru._options import one_of

from .cell import Cell

CANDIDATES: dict[str, Callable[[Tensor], Tensor]] = {
    "tanh": torch.tanh,
    "relu": functional.relu,
    "leaky_relu": functional.leaky_relu,  # slope 0.01 below zero
    "elu": functional.elu,  # α = 1
    "sigmoid": torch.sigmoid,
}


class GRUCell(Cell):
    """A GRU step with separate weights for x and h.

    Parameters
    ----------
    input_size, hidden_size : int
    update : "keep" or "write"
        What a z of one does: keep h, or write n over it.
    reset : "after" or "before"
        Whether r acts after the product with R_n or before it.
    candidate : str
        φ, one of CANDIDATES. A candidate without a bound (all but tanh and sigmoid) leaves h without one.

    Raises
    ------
    ValueError
        For another value of these.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        update: Literal["keep", "write"] = "keep",
        reset: Literal["after", "before"] = "after",
        candidate: str = "tanh",
    ) -> None:
        super().__init__(input_size, hidden_size)
        one_of("update", update, ("keep", "write"))
        one_of("reset", reset, ("after", "before"))
        one_of("candidate", candidate, tuple(CANDIDATES))
        self.update, self.reset = update, reset
        self.activation = CANDIDATES[candidate]
        self.make_weights()

    def make_weights(self) -> None:
        """The layers that :meth:`gates` and :meth:`candidate` use."""
        self.input = nn.Linear(self.input_size, 2 * self.hidden_size)  # W, b: rows z, r
        self.input_n = nn.Linear(self.input_size, self.hidden_size)  # W_n, b_n
        self.recurrent = nn.Linear(self.hidden_size, 2 * self.hidden_size)  # R, c: rows z, r
        self.recurrent_n = nn.Linear(self.hidden_size, self.hidden_size)  # R_n, c_n

    def gates(self, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        """z and r, [B, H] each."""
        z, r = torch.sigmoid(self.input(x) + self.recurrent(h)).chunk(2, -1)
        return z, r

    def candidate(self, x: Tensor, h: Tensor, r: Tensor) -> Tensor:
        """n, [B, H]."""
        rh = r * self.recurrent_n(h) if self.reset == "after" else self.recurrent_n(r * h)
        return self.activation(self.input_n(x) + rh)

    def blend(self, z: Tensor, n: Tensor, h: Tensor) -> Tensor:
        """h', [B, H]."""
        return (1 - z) * n + z * h if self.update == "keep" else (1 - z) * h + z * n

    def forward(self, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        """x [B, I], h [B, H] -> y = h' [B, H], h'."""
        z, r = self.gates(x, h)
        after = self.blend(z, self.candidate(x, h, r), h)
        return after, after


class JointGRUCell(GRUCell):
    """A GRU step with a single weight on the joined [h, x], as textbooks and blogs write it.

    With V [2H, H + I] for the gates, and V_n [H, H + I] for the candidate:

        z, r = σ(V [h, x] + b)
        reset="before"    n = φ(V_n [r ⊙ h, x] + b_n)
        reset="after"     n = φ(W_n x + b_n + r ⊙ (R_n h + c_n)): r acts on a part of the product, so it has two

    Parameters as :class:`GRUCell`. Source of the notation: C. Olah, "Understanding LSTM Networks", 2015.
    """

    def make_weights(self) -> None:
        joined = self.hidden_size + self.input_size
        self.joint = nn.Linear(joined, 2 * self.hidden_size)
        if self.reset == "before":
            self.joint_n = nn.Linear(joined, self.hidden_size)
        else:
            self.input_n = nn.Linear(self.input_size, self.hidden_size)
            self.recurrent_n = nn.Linear(self.hidden_size, self.hidden_size)

    def gates(self, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        z, r = torch.sigmoid(self.joint(torch.cat([h, x], -1))).chunk(2, -1)
        return z, r

    def candidate(self, x: Tensor, h: Tensor, r: Tensor) -> Tensor:
        if self.reset == "before":
            return self.activation(self.joint_n(torch.cat([r * h, x], -1)))
        return self.activation(self.input_n(x) + r * self.recurrent_n(h))
