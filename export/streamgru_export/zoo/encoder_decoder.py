"""The RNN encoder–decoder: one GRU reads a sequence into a vector, another writes a sequence from it.

With e and e' embeddings, c the encoder's last state, s the decoder's state, u_t the symbol written at t:

    h_t = GRU(e(x_t), h_(t−1)),  h_0 = 0            c = h_S
    s_t = GRU'([e'(u_(t−1)), c], s_(t−1)),  s_0 = tanh(V c + b)
    log p(u_t) = log softmax(A s_t + a)

Source: Cho et al. 2014, https://arxiv.org/abs/1406.1078 (here with the reset after the product, and without the
maxout layer). Exported as two steps: :class:`EncoderStep` reads a symbol, :class:`Decoder` writes one. The loop
that writes symbols is `streamgru.decode`, which needs no torch. `attention.py` has decoders that look at every h_t.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence


class Encoder(nn.Module):
    """An embedding and a GRU, and the Linear that makes the decoder's first state.

    Parameters
    ----------
    symbols : int
        Size of the source alphabet.
    embedding_size, hidden_size : int
    """

    def __init__(self, symbols: int, embedding_size: int, hidden_size: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(symbols, embedding_size)
        self.gru = nn.GRU(embedding_size, hidden_size, batch_first=True)
        self.start = nn.Linear(hidden_size, hidden_size)

    def forward(self, x: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Read padded sequences, packed: the padding is not read.

        Parameters
        ----------
        x : Tensor [B, S] of int64
        lengths : Tensor [B] of int64

        Returns
        -------
        encoded : Tensor [B, S, H]
            h_1 ... h_S, zeros in the padding.
        summary : Tensor [B, H]
            c, each sequence's last state.
        s : Tensor [B, H]
            s_0.
        """
        packed = pack_padded_sequence(self.embedding(x), lengths.cpu(), batch_first=True, enforce_sorted=False)
        states, h = self.gru(packed)
        encoded, _ = pad_packed_sequence(states, batch_first=True, total_length=x.shape[1])
        return encoded, h[0], torch.tanh(self.start(h[0]))


class EncoderStep(nn.Module):
    """The encoder as it is exported: one symbol a step.

    Attributes
    ----------
    OUTPUTS : tuple of str
        Names for the exporter.
    """

    OUTPUTS = ("encoded", "start", "h_out")

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """x [1, 1] of int64, h [1, 1, H] -> encoded [1, H]: h_t; start [1, H]: s_0 if the sequence ends here; h."""
        y, h = self.encoder.gru(self.encoder.embedding(x), h)
        encoded = y[:, 0]
        return encoded, torch.tanh(self.encoder.start(encoded)), h

    def example(self) -> tuple[Tensor, Tensor]:
        """What `export` wants to see."""
        return torch.zeros(1, 1, dtype=torch.int64), torch.zeros(1, 1, self.encoder.gru.hidden_size)


class Decoder(nn.Module):
    """An embedding, a GRU that reads c at every step, and a Linear.

    Parameters
    ----------
    symbols : int
        Size of the target alphabet.
    embedding_size, hidden_size : int
        The encoder has the same `hidden_size`.
    """

    def __init__(self, symbols: int, embedding_size: int, hidden_size: int) -> None:
        super().__init__()
        self.hidden_size = hidden_size
        self.embedding = nn.Embedding(symbols, embedding_size)
        self.gru = nn.GRU(embedding_size + hidden_size, hidden_size, batch_first=True)
        self.head = nn.Linear(hidden_size, symbols)

    def context(self, encoded: Tensor, mask: Tensor, summary: Tensor) -> tuple[Tensor, ...]:
        """What :meth:`forward` takes after `h`: the summary alone."""
        return (summary,)

    def forward(self, u: Tensor, h: Tensor, summary: Tensor) -> tuple[Tensor, Tensor]:
        """Write T symbols, each given the one before. A step has T = 1.

        Parameters
        ----------
        u : Tensor [B, T] of int64
            u_0 ... u_(T−1).
        h : Tensor [B, H]
            s before them.
        summary : Tensor [B, H]
            c.

        Returns
        -------
        logits : Tensor [B, T, symbols]
        h : Tensor [B, H]
            s after them.
        """
        e = self.embedding(u)
        y, s = self.gru(torch.cat([e, summary[:, None].expand(-1, e.shape[1], -1)], -1), h[None])
        return self.head(y), s[0]

    def example(self, source_length: int) -> tuple[Tensor, ...]:
        """What `export` wants to see; a decoder with attention reads sources of at most `source_length`."""
        return torch.zeros(1, 1, dtype=torch.int64), torch.zeros(1, self.hidden_size), torch.zeros(1, self.hidden_size)


class EncoderDecoder(nn.Module):
    """Both together, as they are trained.

    Parameters
    ----------
    encoder : Encoder
    decoder : Decoder, or one of `attention.py`
    """

    def __init__(self, encoder: Encoder, decoder: Any) -> None:
        super().__init__()
        self.encoder = encoder
        self.decoder = decoder

    def forward(self, x: Tensor, lengths: Tensor, u: Tensor) -> Tensor:
        """The logits of every symbol given those before it (teacher forcing).

        Parameters
        ----------
        x : Tensor [B, S] of int64
            Padded sources.
        lengths : Tensor [B] of int64
            Their lengths.
        u : Tensor [B, T] of int64
            The start symbol, and all symbols of the target but the last.

        Returns
        -------
        Tensor [B, T, symbols]
        """
        encoded, c, s = self.encoder(x, lengths)
        mask = (torch.arange(x.shape[1]) < lengths[:, None]).to(encoded.dtype)
        logits: Tensor = self.decoder(u, s, *self.decoder.context(encoded, mask, c))[0]
        return logits
