"""GRUNet: stacked GRU layers and a Linear on the last hidden state, the classic recurrent forecaster. And what it is
compared with: the same with an LSTM, and with a plain RNN.

It is not a trainer: `streamgru_export.recipes.co2` trains it.

Each layer computes at every step, with x the frame or the layer below's h (`torch.nn.GRU`; Cho et al. 2014,
https://arxiv.org/abs/1406.1078, with the reset gate after the product: ONNX `linear_before_reset=1`):

    r = σ(W_r x + b_r + R_r h + c_r)
    z = σ(W_z x + b_z + R_z h + c_z)
    n = tanh(W_n x + b_n + r ⊙ (R_n h + c_n))
    h' = (1 − z) ⊙ n + z ⊙ h

and the forecast is y = A h + a, with h of the last layer. A stream calls it with T = 1, a step at a time.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class GRUNet(nn.Module):
    """`nn.GRU(batch_first=True)` and a `nn.Linear` on its last hidden state.

    Parameters
    ----------
    input_size, hidden_size, output_size : int
        Width of a frame, of each layer's state, and of a forecast.
    num_layers : int
        Number of stacked GRU layers.
    """

    def __init__(self, input_size: int, hidden_size: int, output_size: int, num_layers: int = 2) -> None:
        super().__init__()
        self.gru = nn.GRU(input_size, hidden_size, num_layers, batch_first=True)
        self.head = nn.Linear(hidden_size, output_size)

    def forward(self, x: Tensor, h: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Read T steps and forecast after the last one.

        Parameters
        ----------
        x : Tensor [B, T, input_size]
            The steps, oldest first.
        h : Tensor [num_layers, B, hidden_size], optional
            The state before the first step. Zeros where it is absent.

        Returns
        -------
        y : Tensor [B, output_size]
            The forecast after step T.
        h : Tensor [num_layers, B, hidden_size]
            The state after step T.
        """
        out, h = self.gru(x, h)
        return self.head(out[:, -1]), h

    def every_step(self, x: Tensor, h: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Like :meth:`forward`, with the forecast after each step: y is [B, T, output_size].

        This is what a stream of single steps gives, in one call. Train on it: a net that was only ever
        asked for its forecast after a fixed number of steps need not be right after any other.
        """
        out, h = self.gru(x, h)
        return self.head(out), h

    def initial_state(self, batch: int = 1) -> Tensor:
        """Zeros of shape [num_layers, batch, hidden_size]: the state of a stream that has seen nothing."""
        return torch.zeros(self.gru.num_layers, batch, self.gru.hidden_size)


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
