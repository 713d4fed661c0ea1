"""What a graph does along its open dimensions. Names are no evidence: every other axis of a file may be called `N`,
`unk__1`, or nothing at all. What the nodes do is.

An open dimension is *entrywise* where entry t of every result depends on entry t of the inputs alone: a batch. It is
anything else where something runs, reaches or sums along it: then one entry of it is another model than many.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from itertools import combinations

from streamgru.errors import ModelError

from ..graph.graph import Graph, Node, Port
from ..graph.kinds import RECURRENT
from ..graph.recurrent import recurrent
from ..graph.windows import window
from ..static.specialise import Specialiser
from .check import Check
from .places import LAST, PROBES, Place, Time
from .rules import RULES

WINDOWS = {"Conv", "ConvTranspose", "MaxPool", "AveragePool"}
REACHING = WINDOWS | {"CumSum", "ReverseSequence"}
TOGETHER = 6  # dimensions that are tried in every combination: more are tried all at once


class Kind(Enum):
    """What the nodes do along a dimension."""

    ENTRYWISE = "treats its entries alike"
    RUNS = "runs along it"  # a recurrence: one entry after the other
    REACHES = "reaches along it"  # from an entry to its neighbours: a convolution, a running sum
    MIXES = "mixes its entries"


@dataclass(frozen=True)
class Dimension:
    """Open dimensions that have one number, and what is done along them.

    Attributes
    ----------
    names : frozenset of str
        What the graph calls them; several where they must be equal.
    kind : Kind
    why : str
        The node and what it does; "" where it is entrywise.
    """

    names: frozenset[str]
    kind: Kind
    why: str = ""

    @property
    def is_batch(self) -> bool:
        """Whether any number of entries is so many independent ones."""
        return self.kind is Kind.ENTRYWISE


def sequence_lengths(graph: Graph) -> dict[str, int]:
    """Of a static graph: the first output of each recurrent node -> the length it runs over."""
    return {
        next(o for o in n.outputs if o): graph.types[n.inputs[0]].shape[recurrent(n).time_axis]
        for n in graph.nodes
        if n.op_type in RECURRENT
    }


def axes_of(inputs: Iterable[Port], names: Iterable[str]) -> dict[str, int]:
    """Input name -> the axis that is one of these dimensions."""
    wanted = set(names)
    return {p.name: axis for p in inputs for axis, d in enumerate(p.shape) if d in wanted}


def look(short: Graph, long: Graph, names: frozenset[str], axes: Mapping[str, int]) -> Dimension:
    """What two static graphs that differ in this dimension alone do along it.

    Parameters
    ----------
    axes : mapping
        Input name -> the axis that it is.
    """
    before, after = sequence_lengths(short), sequence_lengths(long)
    runs = [first for first, n in before.items() if n != after.get(first)]
    if runs:
        return Dimension(names, Kind.RUNS, f"{short.producers()[runs[0]]} {Kind.RUNS.value}")
    for name, was in short.control.items():
        if name in long.control and was.turns != long.control[name].turns:
            if was.node.op_type == "If":
                return Dimension(names, Kind.MIXES, f"{was.node} asks how large it is")
            return Dimension(names, Kind.RUNS, f"{was.node} {Kind.RUNS.value}")
    check = Check(short, long, dict(axes), RULES)
    for node, obstacle in check.walk():
        kind = Kind.REACHES if node.op_type in REACHING else Kind.MIXES
        return Dimension(names, kind, f"{obstacle.node} {kind.value}")
    other = next((node for node in short.nodes if _reaches(check, node)), None)
    return (
        Dimension(names, Kind.REACHES, f"{other} {Kind.REACHES.value}") if other else Dimension(names, Kind.ENTRYWISE)
    )


def _reaches(check: Check, node: Node) -> bool:
    """Whether an entry of its outputs is made from several entries, from the last alone, or from padding."""
    places: list[Place] = [check.places[o] for o in node.outputs if o]
    if any(p == LAST or (isinstance(p, Time) and p.is_padded) for p in places):
        return True
    p = check.places.get(node.inputs[0]) if node.op_type in WINDOWS else None
    return isinstance(p, Time) and p.axis >= 2 and window(node, check.graph.types).reach(p.axis - 2) > 0


class Dimensions:
    """The open dimensions of a graph, looked at one group after the other.

    Parameters
    ----------
    rest : mapping
        Dimensions that have a number.
    batch : int
        The number of all others while one group is looked at.

    Attributes
    ----------
    found : list of Dimension
    stuck : dict
        Those that cannot have another number, alone or with others -> why.
    """

    def __init__(self, specialise: Specialiser, rest: Mapping[str, int], batch: int) -> None:
        self.specialise, self.rest, self.batch = specialise, rest, batch
        self.symbols = [s for s in specialise.graph.symbols() if s not in rest]
        self.found: list[Dimension] = []
        self.stuck: dict[str, ModelError] = {}
        for s in self.symbols:
            self._try({s})
        self._try_together()

    def bound(self, names: Iterable[str], number: int) -> dict[str, int]:
        """Every dimension's number, where these have this one and the others are the batch."""
        return {**self.rest, **dict.fromkeys(self.symbols, self.batch), **dict.fromkeys(names, number)}

    def of(self, name: str) -> Dimension | None:
        """What is known of a dimension; None where it is stuck."""
        return next((d for d in self.found if name in d.names), None)

    def _try(self, names: set[str]) -> bool:
        """Whether these can move together; what they are is noted."""
        group = frozenset(names)
        try:
            dimension = self.look(group)
        except ModelError as error:
            if len(group) == 1:
                self.stuck[min(group)] = error
            return False
        self.found = [d for d in self.found if d.names.isdisjoint(group)] + [dimension]
        for name in group:
            self.stuck.pop(name, None)
        return True

    def look(self, names: frozenset[str]) -> Dimension:
        """What is done along these. ModelError where they cannot have another number."""
        graph = self.specialise.graph
        twice = [p.name for p in graph.inputs if sum(d in names for d in p.shape) > 1]
        short, long = (self.specialise(self.bound(names, n)) for n in PROBES)
        if twice:
            return Dimension(names, Kind.MIXES, f"input '{twice[0]}' has it twice")
        return look(short, long, names, axes_of(graph.inputs, names))

    def of_one_size(self) -> list[Dimension]:
        """Those that treat their entries alike, and do so in another way where they have the batch's number."""
        found = []
        for d in self.found:
            if d.is_batch:
                many, few = (self.specialise(self.bound(names, PROBES[0])) for names in (d.names, ()))
                asks = next((c.node for k, c in many.control.items() if c.turns != few.control[k].turns), None)
                found += [Dimension(d.names, Kind.MIXES, f"{asks} asks how large it is")] if asks else []
        return found

    def _try_together(self) -> None:
        """Dimensions that must be equal, so that none can be moved alone: the smallest groups of them that can."""
        size = 2
        while size <= len(self.stuck):
            if len(self.stuck) > TOGETHER:
                size = len(self.stuck)
            groups = combinations(sorted(self.stuck), size)
            if not any(self._try(set(group)) for group in groups):
                size += 1
        for name in sorted(self.stuck):
            any(self._try({name, *d.names}) for d in list(self.found))
