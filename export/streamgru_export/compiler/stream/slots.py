"""A slot: one recurrent state of a stream, by the names that it has in the graph."""

from __future__ import annotations

from dataclasses import dataclass

from ..graph.graph import Array


@dataclass(frozen=True)
class Slot:
    """One state: the graph value that reads it, the value it becomes, and what it is reset to (None: zeros).

    Of a pair that the graph itself has, the output is no output of the stream any more.
    """

    name: str
    input: str
    output: str
    reset: Array | None = None
    is_pair: bool = False
