"""What every cell of the family is, and the net that runs cells over a sequence.

A cell is one step: a frame and a state in, an output and the next state out. That is what is exported and
streamed. :class:`CellNet` stacks cells under a Linear; it is exported as the same step, and trained on whole
sequences by :meth:`CellNet.every_step`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

State = Any  # a Tensor [B, H], or a tuple of them


class Cell(nn.Module):
    """One step of a recurrent net: `forward(x, h) -> (y, h')`.

    Parameters
    ----------
    input_size, hidden_size : int
        I and H, the widths of a frame and of the state.

    Attributes
    ----------
    states : int
        How many tensors the state has.

    Notes
    -----
    `forward` takes x [B, I] and h [B, H], and gives y [B, H] and h' [B, H]. An LSTM's h is (h, c), both [B, H].
    """

    states = 1

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__()
        self.input_size = input_size
        self.hidden_size = hidden_size


class CellNet(nn.Module):
    """Cells on top of each other, and a Linear on the last one's output.

    With cells C_1 ... C_L, and dropout between them in training:

        y_0 = x     y_l, h_l' = C_l(y_(l−1), h_l)     y = A y_L + a

    Parameters
    ----------
    cells : sequence of Cell
        Each one's `input_size` is the `hidden_size` of the one below.
    output_size : int
        O, the width of y.
    dropout : float
        The probability of dropping a value between two cells, and below the Linear.
    """

    def __init__(self, cells: Sequence[Cell], output_size: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.cells = nn.ModuleList(cells)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(cells[-1].hidden_size, output_size)

    def forward(self, x: Tensor, h: State) -> tuple[Tensor, State]:
        """One step.

        Parameters
        ----------
        x : Tensor [B, I]
        h : Tensor [B, H], or a flat tuple of them
            The states of all cells, from the lowest up; an LSTM has two.

        Returns
        -------
        y : Tensor [B, O]
        h : as given
            The next states.
        """
        given = list(h) if isinstance(h, tuple) else [h]
        after: list[Tensor] = []
        for cell in self._cells():
            state = tuple(given.pop(0) for _ in range(cell.states)) if cell.states > 1 else given.pop(0)
            x, state = cell(x, state)
            x = self.dropout(x)
            after += state if isinstance(state, tuple) else [state]
        return self.head(x), tuple(after) if len(after) > 1 else after[0]

    def every_step(self, x: Tensor, lengths: Tensor | None = None) -> tuple[Tensor, State]:
        """All steps of a batch of sequences from zero states.

        Parameters
        ----------
        x : Tensor [B, T, I]
        lengths : Tensor [B] of int, optional
            Where each sequence ends; from there on its states rest, and its y says nothing.

        Returns
        -------
        y : Tensor [B, T, O]
        h : as :meth:`forward`
            After each sequence's last step.
        """
        h = self.initial_state(len(x))
        ys = []
        for t in range(x.shape[1]):
            y, after = self(x[:, t], h)
            ys.append(y)
            h = after if lengths is None else _held((t < lengths)[:, None], after, h)
        return torch.stack(ys, 1), h

    def initial_state(self, batch: int = 1) -> State:
        """Zeros: the states of a stream that has seen nothing."""
        new = self.head.weight.new_zeros
        zeros = tuple(new(batch, cell.hidden_size) for cell in self._cells() for _ in range(cell.states))
        return zeros if len(zeros) > 1 else zeros[0]

    def _cells(self) -> list[Cell]:
        return [cell for cell in self.cells if isinstance(cell, Cell)]


def _held(alive: Tensor, after: State, before: State) -> State:
    """The states, each row moved on only where it is alive. alive: [B, 1]."""
    if isinstance(after, tuple):
        return tuple(_held(alive, a, b) for a, b in zip(after, before, strict=True))
    return torch.where(alive, after, before)
