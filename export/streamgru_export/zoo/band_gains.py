"""BandGains: a gain between 0 and 1 for each band of a spectrum, frame by frame. What a small denoiser is made of."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class BandGains(nn.Module):
    """A GRU over the bands' energies, and a gain for each band.

        h_t = GRU(x_t, h_(t−1))      g_t = σ(A h_t + a)

    Source: Valin 2018, https://arxiv.org/abs/1709.08243 (RNNoise), with one GRU in the place of three.

    Parameters
    ----------
    bands, hidden_size : int
    """

    def __init__(self, bands: int, hidden_size: int) -> None:
        super().__init__()
        self.gru = nn.GRU(bands, hidden_size, batch_first=True)
        self.head = nn.Linear(hidden_size, bands)

    def forward(self, x: Tensor, h: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """x [B, T, bands], h [1, B, H] -> g [B, T, bands] in (0, 1), h."""
        out, h = self.gru(x, h)
        return torch.sigmoid(self.head(out)), h

    def initial_state(self, batch: int = 1) -> Tensor:
        """Zeros [1, batch, H]: the state of a stream that has heard nothing."""
        return torch.zeros(1, batch, self.gru.hidden_size)
