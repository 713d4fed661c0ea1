"""GRU cells with something more: a residual connection, a further gate, gates that drop out in training."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from .gru_cell import GRUCell


class ResidualGRUCell(GRUCell):
    """A GRU step whose output adds the state before to the state after.

        h' as in the GRU          y = h' + h

    h' alone is carried. Carrying the sum, h ← h' + h, multiplies h by 1 + z at every step: it overflows within
    some hundred steps. Source of the idea: He et al. 2016, https://arxiv.org/abs/1512.03385.

    Parameters as :class:`GRUCell`.
    """

    def forward(self, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        _, after = super().forward(x, h)
        return after + h, after


class OutputGateGRUCell(GRUCell):
    """A GRU step with one gate more, in the manner of the LSTM's output gate, on the hidden update.

        o = σ(W_o x + b_o + R_o h + c_o)          g as h' in the GRU
        h' = o ⊙ g + (1 − o) ⊙ h

    A closed gate, o = 0, leaves h alone whatever z says. o ⊙ g without the second term would forget at every step
    that does not open the gate. Source of the gate: Hochreiter and Schmidhuber 1997, Neural Computation 9 (8).

    Parameters as :class:`GRUCell`.
    """

    def make_weights(self) -> None:
        super().make_weights()
        self.input_o = nn.Linear(self.input_size, self.hidden_size)
        self.recurrent_o = nn.Linear(self.hidden_size, self.hidden_size)

    def forward(self, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        _, g = super().forward(x, h)
        o = torch.sigmoid(self.input_o(x) + self.recurrent_o(h))
        after = o * g + (1 - o) * h
        return after, after


class GateDropout(nn.Dropout):
    """Dropout of gates. A class of its own, so that training can set it apart from dropout between layers."""


class GateDropoutGRUCell(GRUCell):
    """A GRU step whose gates drop out in training; at inference it is the GRU, to the bit.

    With m_z and m_r drawn anew at every step, each element 0 with probability p, else 1 / (1 − p):

        z ← m_z ⊙ z     r ← m_r ⊙ r     h' = (1 − z) ⊙ h + z ⊙ n

    In this convention a dropped z keeps what the unit remembers, as in zoneout (Krueger et al. 2017,
    https://arxiv.org/abs/1606.01305); dropout itself: Srivastava et al. 2014, JMLR 15.

    Parameters
    ----------
    input_size, hidden_size : int
    dropout : float
        p.
    **options
        As :class:`GRUCell`; update="write" unless told otherwise.
    """

    def __init__(self, input_size: int, hidden_size: int, *, dropout: float = 0.1, **options: Any) -> None:
        super().__init__(input_size, hidden_size, **{"update": "write", **options})
        self.drop = GateDropout(dropout)

    def gates(self, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        z, r = super().gates(x, h)
        return self.drop(z), self.drop(r)
