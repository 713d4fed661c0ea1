"""What a GRU is compared with: the LSTM and the plain RNN, as cells; the nets are in `gru_net.py`."""

from __future__ import annotations

from torch import Tensor, nn

from .cell import Cell


class LSTMCell(Cell):
    """An LSTM step (`torch.nn.LSTMCell`; Hochreiter and Schmidhuber 1997, with the forget gate of Gers et al. 2000).

    i, f, o = σ(W x + b + R h + c)     g = tanh(W_g x + b_g + R_g h + c_g)
    c' = f ⊙ c + i ⊙ g                 h' = o ⊙ tanh(c')
    """

    states = 2

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__(input_size, hidden_size)
        self.cell = nn.LSTMCell(input_size, hidden_size)

    def forward(self, x: Tensor, h: tuple[Tensor, Tensor]) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """x [B, I], (h, c) each [B, H] -> y = h' [B, H], (h', c')."""
        after, c = self.cell(x, h)
        return after, (after, c)


class RNNCell(Cell):
    """A plain recurrent step, h' = tanh(W x + b + R h + c) (`torch.nn.RNNCell`; Elman 1990)."""

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__(input_size, hidden_size)
        self.cell = nn.RNNCell(input_size, hidden_size)

    def forward(self, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        """x [B, I], h [B, H] -> y = h' [B, H], h'."""
        after = self.cell(x, h)
        return after, after
