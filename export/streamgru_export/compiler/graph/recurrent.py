"""What the attributes of GRU, LSTM, RNN and Scan mean."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from streamgru.errors import ModelError

from .graph import Node
from .operators import flag, integer, integers, is_given, number, numbers, text, words

ACTIVATIONS = {"GRU": ("Sigmoid", "Tanh"), "LSTM": ("Sigmoid", "Tanh", "Tanh"), "RNN": ("Tanh",)}  # of one direction
REVERSE = {"forward": (False,), "reverse": (True,), "bidirectional": (False, True)}


@dataclass(frozen=True)
class Recurrent:
    """A GRU, LSTM or RNN.

    Attributes
    ----------
    direction : str
        "forward", "reverse" or "bidirectional".
    batch_first : bool
        X [B, T, I], Y [B, T, D, H] and states [B, D, H]; else [T, B, I], [T, D, B, H] and [D, B, H].
    clip : float
        What bounds the sums before an activation; 0: nothing does.
    activations, alphas, betas
        The names for all directions, and the numbers for those that take one.
    """

    direction: str
    batch_first: bool
    clip: float
    linear_before_reset: bool
    input_forget: bool
    activations: tuple[str, ...]
    alphas: tuple[float, ...]
    betas: tuple[float, ...]

    @property
    def reverse(self) -> tuple[bool, ...]:
        """For each direction, whether it runs from the end."""
        return REVERSE[self.direction]

    @property
    def directions(self) -> int:
        """1 or 2."""
        return len(self.reverse)

    @property
    def is_forward(self) -> bool:
        """Whether the past is all that an output needs."""
        return self.direction == "forward"

    @property
    def time_axis(self) -> int:
        """The axis of X that it runs along."""
        return 1 if self.batch_first else 0

    def state_shape(self, batch: int, hidden: int) -> tuple[int, int, int]:
        """Of its initial and final states."""
        return (batch, self.directions, hidden) if self.batch_first else (self.directions, batch, hidden)


def recurrent(node: Node) -> Recurrent:
    """The attributes of a GRU, LSTM or RNN."""
    direction = text(node, "direction").lower()
    if direction not in REVERSE:
        raise ModelError(f"{node}: direction '{direction}'; forward, reverse or bidirectional was expected")
    clip = number(node, "clip") if is_given(node, "clip") else 0.0
    if not clip >= 0.0:
        raise ModelError(f"{node}: clip={clip}; a number >= 0 was expected")
    layout = integer(node, "layout")
    if layout not in (0, 1):
        raise ModelError(f"{node}: layout={layout}; 0 or 1 was expected")
    names = words(node, "activations") or ACTIVATIONS[node.op_type] * len(REVERSE[direction])
    return Recurrent(
        direction, layout == 1, clip,
        node.op_type == "GRU" and flag(node, "linear_before_reset"),
        node.op_type == "LSTM" and flag(node, "input_forget"),
        tuple(names), tuple(numbers(node, "activation_alpha")), tuple(numbers(node, "activation_beta")),
    )  # fmt: skip


def hidden_size(node: Node, r: Sequence[int]) -> int:
    """Of a recurrent node whose R has the shape `r`."""
    return integer(node, "hidden_size") if is_given(node, "hidden_size") else r[2]


@dataclass(frozen=True)
class Scan:
    """How a Scan goes through its last inputs, and how its last outputs are put together."""

    scanned: int
    input_axes: list[int]
    input_reverse: list[bool]
    output_axes: list[int]
    output_reverse: list[bool]


def scan(node: Node) -> Scan:
    """The attributes of a Scan."""
    inputs = integer(node, "num_scan_inputs")
    if not 1 <= inputs <= len(node.inputs):
        raise ModelError(f"{node}: its 'num_scan_inputs' is {inputs}, and it has {len(node.inputs)} inputs")
    outputs = len(node.outputs) - (len(node.inputs) - inputs)

    def listed(name: str, count: int) -> list[int]:
        given = integers(node, name)
        if given is not None and len(given) != max(count, 0):
            raise ModelError(f"{node}: its {name} are {given}; it has {count}")
        return [0] * count if given is None else given

    return Scan(
        inputs,
        listed("scan_input_axes", inputs), [d != 0 for d in listed("scan_input_directions", inputs)],
        listed("scan_output_axes", outputs), [d != 0 for d in listed("scan_output_directions", outputs)],
    )  # fmt: skip
