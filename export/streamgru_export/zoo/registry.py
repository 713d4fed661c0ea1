"""The cells by name: `CELLS[name](input_size, hidden_size)` makes one."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from .cell import Cell
from .counterparts import LSTMCell, RNNCell
from .gated import GateDropoutGRUCell, OutputGateGRUCell, ResidualGRUCell
from .gru_cell import GRUCell, JointGRUCell
from .normalised import BatchNormGRUCell, LayerNormGRUCell

CELLS: dict[str, Callable[[int, int], Cell]] = {
    "gru": GRUCell,
    "gru-write": partial(GRUCell, update="write"),
    "gru-before": partial(GRUCell, reset="before"),
    "gru-write-before": partial(GRUCell, update="write", reset="before"),
    "gru-joint": JointGRUCell,
    "gru-joint-write": partial(JointGRUCell, update="write"),
    "gru-joint-before": partial(JointGRUCell, reset="before"),
    "gru-joint-write-before": partial(JointGRUCell, update="write", reset="before"),
    "gru-relu": partial(GRUCell, candidate="relu"),
    "gru-leaky-relu": partial(GRUCell, candidate="leaky_relu"),
    "gru-elu": partial(GRUCell, candidate="elu"),
    "gru-sigmoid": partial(GRUCell, candidate="sigmoid"),
    "gru-batch-norm": BatchNormGRUCell,
    "gru-layer-norm": LayerNormGRUCell,
    "gru-residual": ResidualGRUCell,
    "gru-output-gate": OutputGateGRUCell,
    "gru-gate-dropout": GateDropoutGRUCell,
    "lstm": LSTMCell,
    "rnn": RNNCell,
}
