"""Two nets everybody has met: the Keras stack of GRUs under a Dense, and the bidirectional classifier."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence


class StackedGRU(nn.Module):
    """The Keras classic: `GRU(64, return_sequences=True)`, `GRU(32)`, `Dense(1)`.

        y_1, h_1' = GRU_1(x, h_1)     y_2, h_2' = GRU_2(y_1, h_2)     y = A y_2 + a

    Both layers are `torch.nn.GRU`, which is Keras's GRU with its default `reset_after=True`.

    Parameters
    ----------
    input_size : int
    hidden_sizes : (int, int)
    output_size : int
    dropout : float
        Between the layers, in training.
    """

    def __init__(
        self,
        input_size: int,
        hidden_sizes: tuple[int, int] = (64, 32),
        output_size: int = 1,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.hidden_sizes = hidden_sizes
        self.gru1 = nn.GRU(input_size, hidden_sizes[0], batch_first=True)
        self.dropout = nn.Dropout(dropout)
        self.gru2 = nn.GRU(hidden_sizes[0], hidden_sizes[1], batch_first=True)
        self.head = nn.Linear(hidden_sizes[1], output_size)

    def forward(self, x: Tensor, h1: Tensor | None = None, h2: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """x [B, T, I], h1 [1, B, 64], h2 [1, B, 32] -> y [B, O] after the last step, h1, h2."""
        y, h1, h2 = self.every_step(x, h1, h2)
        return y[:, -1], h1, h2

    def every_step(
        self, x: Tensor, h1: Tensor | None = None, h2: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Like :meth:`forward`, with y [B, T, O] after each step."""
        out, h1 = self.gru1(x, h1)
        out, h2 = self.gru2(self.dropout(out), h2)
        return self.head(out), h1, h2

    def initial_state(self, batch: int = 1) -> tuple[Tensor, Tensor]:
        """Zeros, h1 and h2."""
        first, second = self.hidden_sizes
        return torch.zeros(1, batch, first), torch.zeros(1, batch, second)


class BidirectionalClassifier(nn.Module):
    """A GRU each way over the whole sequence, and a Linear on the two last states.

        → h_t = GRU(x_t, → h_(t−1))     ← h_t = GRU'(x_t, ← h_(t+1))     y = A [→ h_T, ← h_1] + a

    It needs the whole sequence, so it does not stream: compile it with mode="whole". Source: Schuster and
    Paliwal 1997, IEEE Transactions on Signal Processing 45 (11).

    Parameters
    ----------
    input_size, hidden_size, classes : int
    """

    def __init__(self, input_size: int, hidden_size: int, classes: int) -> None:
        super().__init__()
        self.gru = nn.GRU(input_size, hidden_size, batch_first=True, bidirectional=True)
        self.head = nn.Linear(2 * hidden_size, classes)

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Read whole sequences.

        Parameters
        ----------
        x : Tensor [B, T, I]
        lengths : Tensor [B] of int, optional
            Sequences of several lengths, padded to T, are packed: the padding is not read. For training; an
            exported graph takes one length at a time.

        Returns
        -------
        Tensor [B, classes]
            Logits.
        """
        if lengths is None:
            _, h = self.gru(x)
        else:
            _, h = self.gru(pack_padded_sequence(x, lengths.cpu(), batch_first=True, enforce_sorted=False))
        logits: Tensor = self.head(torch.cat([h[0], h[1]], -1))
        return logits
