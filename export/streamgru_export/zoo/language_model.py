"""A language model: at every step the next symbol's distribution, from all symbols so far."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from streamgru._options import one_of

LAYERS = {"gru": nn.GRU, "lstm": nn.LSTM, "rnn": nn.RNN}


class LanguageModel(nn.Module):
    """An embedding, stacked GRUs (or LSTMs, or plain RNNs) and a Linear.

        h_t = GRU(e(x_t), h_(t−1))      log p(x_(t+1) | x_1 ... x_t) = log softmax(A h_t + a)

    Source: Mikolov et al. 2010, "Recurrent neural network based language model", with a GRU in the place of the
    plain recurrence.

    Parameters
    ----------
    symbols : int
        Size of the alphabet.
    embedding_size, hidden_size, num_layers : int
    dropout : float
        Below and above the GRU, in training.
    layer : "gru", "lstm" or "rnn"
    """

    def __init__(
        self,
        symbols: int,
        embedding_size: int,
        hidden_size: int,
        num_layers: int = 1,
        dropout: float = 0.0,
        layer: str = "gru",
    ) -> None:
        super().__init__()
        one_of("layer", layer, tuple(LAYERS))
        self.layer = layer
        self.embedding = nn.Embedding(symbols, embedding_size)
        self.dropout = nn.Dropout(dropout)
        self.rnn = LAYERS[layer](embedding_size, hidden_size, num_layers, batch_first=True)
        self.head = nn.Linear(hidden_size, symbols)

    def forward(self, x: Tensor, h: Any = None) -> tuple[Tensor, Any]:
        """x [B, T] of int64, h [L, B, H] (an LSTM's (h, c)) -> logits [B, T, symbols] after every symbol, h."""
        out, h = self.rnn(self.dropout(self.embedding(x)), h)
        return self.head(self.dropout(out)), h

    def initial_state(self, batch: int = 1) -> Any:
        """Zeros [L, batch, H]; for an LSTM two of them."""
        zeros = torch.zeros(self.rnn.num_layers, batch, self.rnn.hidden_size)
        return (zeros, zeros.clone()) if self.layer == "lstm" else zeros
