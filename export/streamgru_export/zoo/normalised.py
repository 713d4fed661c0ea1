"""GRU cells that normalise: over the batch with running statistics, or over the units of one step."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .gru_cell import GRUCell


class BatchNormGRUCell(GRUCell):
    """A GRU step whose products read a batch-normalised state.

    With μ and v the mean and variance of h over the batch (in training) or their running values (at inference):

        ĥ = γ ⊙ (h − μ) / √(v + ε) + β
        z, r, n as in the GRU, of x and ĥ          h' = (1 − z) ⊙ n + z ⊙ h

    h itself is carried as it is: normalising what is carried would multiply it by γ / √v at every step, which
    need not be below one. The statistics are shared by all steps, so sequences may have any length. Sources:
    Ioffe and Szegedy 2015, https://arxiv.org/abs/1502.03167; Cooijmans et al. 2017,
    https://arxiv.org/abs/1603.09025 (who normalise the products, with statistics for each step).

    Parameters as :class:`GRUCell`.
    """

    def make_weights(self) -> None:
        super().make_weights()
        self.norm = nn.BatchNorm1d(self.hidden_size)

    def forward(self, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        normal = self.norm(h)
        z, r = self.gates(x, normal)
        after = self.blend(z, self.candidate(x, normal, r), h)
        return after, after


class LayerNormGRUCell(GRUCell):
    """A GRU step whose products are normalised over their units, each with its own gain and offset.

        LN(a) = γ ⊙ (a − mean(a)) / √(var(a) + ε) + β        over the last axis

        [z, r] = σ(LN(W_zr x + b) + LN(R_zr h + c))           over 2H units
        n = φ(LN(W_n x + b_n) + r ⊙ LN(R_n h + c_n))          over H units; reset="before": LN(R_n (r ⊙ h) + c_n)
        h' = (1 − z) ⊙ n + z ⊙ h

    Source: Ba, Kiros and Hinton 2016, https://arxiv.org/abs/1607.06450, supplement, equations 23 to 27.

    Parameters as :class:`GRUCell`.
    """

    def make_weights(self) -> None:
        super().make_weights()
        self.norm_input = nn.LayerNorm(2 * self.hidden_size)
        self.norm_input_n = nn.LayerNorm(self.hidden_size)
        self.norm_recurrent = nn.LayerNorm(2 * self.hidden_size)
        self.norm_recurrent_n = nn.LayerNorm(self.hidden_size)

    def gates(self, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        a = self.norm_input(self.input(x)) + self.norm_recurrent(self.recurrent(h))
        z, r = torch.sigmoid(a).chunk(2, -1)
        return z, r

    def candidate(self, x: Tensor, h: Tensor, r: Tensor) -> Tensor:
        wx = self.norm_input_n(self.input_n(x))
        if self.reset == "after":
            return self.activation(wx + r * self.norm_recurrent_n(self.recurrent_n(h)))
        return self.activation(wx + self.norm_recurrent_n(self.recurrent_n(r * h)))
