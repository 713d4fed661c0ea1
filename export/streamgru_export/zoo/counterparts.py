"""What a GRU is compared with: the LSTM and the plain RNN, as cells and as nets like GRUNet."""

from __future__ import annotations

import torch
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


class LSTMNet(nn.Module):
    """`nn.LSTM(batch_first=True)` and a Linear on its last hidden state: GRUNet with another layer.

    Parameters
    ----------
    input_size, hidden_size, output_size, num_layers : int
    """

    def __init__(self, input_size: int, hidden_size: int, output_size: int, num_layers: int = 2) -> None:
        super().__init__()
        self.lstm = nn.LSTM(input_size, hidden_size, num_layers, batch_first=True)
        self.head = nn.Linear(hidden_size, output_size)

    def forward(self, x: Tensor, h: tuple[Tensor, Tensor] | None = None) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """x [B, T, I], (h, c) each [L, B, H] -> y [B, O] after the last step, (h, c)."""
        out, h = self.lstm(x, h)
        return self.head(out[:, -1]), h

    def every_step(self, x: Tensor, h: tuple[Tensor, Tensor] | None = None) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """Like :meth:`forward`, with y [B, T, O] after each step."""
        out, h = self.lstm(x, h)
        return self.head(out), h

    def initial_state(self, batch: int = 1) -> tuple[Tensor, Tensor]:
        """Zeros, h and c."""
        zeros = torch.zeros(self.lstm.num_layers, batch, self.lstm.hidden_size)
        return zeros, zeros.clone()


class RNNNet(nn.Module):
    """`nn.RNN(batch_first=True)` and a Linear on its last hidden state: GRUNet with another layer.

    Parameters
    ----------
    input_size, hidden_size, output_size, num_layers : int
    """

    def __init__(self, input_size: int, hidden_size: int, output_size: int, num_layers: int = 2) -> None:
        super().__init__()
        self.rnn = nn.RNN(input_size, hidden_size, num_layers, batch_first=True)
        self.head = nn.Linear(hidden_size, output_size)

    def forward(self, x: Tensor, h: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """x [B, T, I], h [L, B, H] -> y [B, O] after the last step, h."""
        out, h = self.rnn(x, h)
        return self.head(out[:, -1]), h

    def every_step(self, x: Tensor, h: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Like :meth:`forward`, with y [B, T, O] after each step."""
        out, h = self.rnn(x, h)
        return self.head(out), h

    def initial_state(self, batch: int = 1) -> Tensor:
        """Zeros [L, batch, H]."""
        return torch.zeros(self.rnn.num_layers, batch, self.rnn.hidden_size)
