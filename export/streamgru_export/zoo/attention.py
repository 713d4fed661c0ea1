"""Decoders that look at every state of the encoder: Bahdanau's additive attention, and Luong's by dot product.

With h_1 ... h_S the encoder's states and m_i = 1 where h_i is no padding, both weigh them by a score:

    α_i = softmax_i(score_i),  −10⁹ added where m_i = 0            c_t = Σ_i α_i h_i

    additive    score_i = vᵀ tanh(W s_(t−1) + U h_i)      s_t = GRU'([e'(u_(t−1)), c_t], s_(t−1))
                logits = A [s_t, c_t] + a
    dot         s_t = GRU'(e'(u_(t−1)), s_(t−1))          score_i = s_t · h_i
                logits = A tanh(W_c [c_t, s_t]) + a

Sources: Bahdanau, Cho and Bengio 2015, https://arxiv.org/abs/1409.0473 (here without the maxout layer);
Luong, Pham and Manning 2015, https://arxiv.org/abs/1508.04025 (global attention, without input feeding).
Their interface is `encoder_decoder.Decoder`'s, with all states and their mask in the place of c.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class AttentionDecoder(nn.Module):
    """What both have in common.

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

    def context(self, encoded: Tensor, mask: Tensor, summary: Tensor) -> tuple[Tensor, ...]:
        """What `forward` takes after `h`: the states [B, S, H] and their mask [B, S]."""
        return encoded, mask

    def example(self, source_length: int) -> tuple[Tensor, ...]:
        """What `export` wants to see: the exported step reads sources of at most `source_length`."""
        width = self.hidden_size
        encoded, mask = torch.zeros(1, source_length, width), torch.ones(1, source_length)
        return torch.zeros(1, 1, dtype=torch.int64), torch.zeros(1, width), encoded, mask


def attend(scores: Tensor, encoded: Tensor, mask: Tensor) -> Tensor:
    """c_t for every score: scores [B, T, S], encoded [B, S, H], mask [B, S] -> [B, T, H]."""
    weights = torch.softmax(scores - 1e9 * (1 - mask[:, None]), -1)
    return weights @ encoded


class AdditiveAttentionDecoder(AttentionDecoder):
    """Bahdanau's: it looks before each step, with the state that it had."""

    def __init__(self, symbols: int, embedding_size: int, hidden_size: int) -> None:
        super().__init__(symbols, embedding_size, hidden_size)
        self.query = nn.Linear(hidden_size, hidden_size)  # W
        self.key = nn.Linear(hidden_size, hidden_size, bias=False)  # U
        self.score = nn.Linear(hidden_size, 1, bias=False)  # v
        self.cell = nn.GRUCell(embedding_size + hidden_size, hidden_size)
        self.head = nn.Linear(2 * hidden_size, symbols)

    def forward(self, u: Tensor, h: Tensor, encoded: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """u [B, T] of int64, h [B, H], encoded [B, S, H], mask [B, S] -> logits [B, T, symbols], h [B, H]."""
        e = self.embedding(u)
        keys = self.key(encoded)
        logits = []
        for t in range(u.shape[1]):
            scores = self.score(torch.tanh(self.query(h)[:, None] + keys))[..., 0]
            c = attend(scores[:, None], encoded, mask)[:, 0]
            h = self.cell(torch.cat([e[:, t], c], -1), h)
            logits.append(self.head(torch.cat([h, c], -1)))
        return torch.stack(logits, 1), h


class DotAttentionDecoder(AttentionDecoder):
    """Luong's: it looks after each step, with the state that it has."""

    def __init__(self, symbols: int, embedding_size: int, hidden_size: int) -> None:
        super().__init__(symbols, embedding_size, hidden_size)
        self.gru = nn.GRU(embedding_size, hidden_size, batch_first=True)
        self.combine = nn.Linear(2 * hidden_size, hidden_size, bias=False)  # W_c
        self.head = nn.Linear(hidden_size, symbols)

    def forward(self, u: Tensor, h: Tensor, encoded: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """u [B, T] of int64, h [B, H], encoded [B, S, H], mask [B, S] -> logits [B, T, symbols], h [B, H]."""
        s, last = self.gru(self.embedding(u), h[None])
        c = attend(s @ encoded.transpose(1, 2), encoded, mask)
        return self.head(torch.tanh(self.combine(torch.cat([c, s], -1)))), last[0]
