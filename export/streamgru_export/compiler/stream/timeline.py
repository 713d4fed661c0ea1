"""Finds the time axis: which open dimensions are time, and what the others are bound to.

A dimension is time if something runs along it, whatever it is called; a batch, if every node treats its entries alike
(:mod:`dimensions`). A name decides only between dimensions that are batches both. What is neither, or where two could
be time, is refused with what to say.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace

from streamgru.errors import ModelError

from ..graph.graph import Graph
from ..static.specialise import LOOPS, Specialiser
from .check import Check
from .dimensions import Dimension, Dimensions, Kind, axes_of
from .places import PROBES, MayRunWholeError
from .rules import RULES

TIME = "time"  # the dimension that stands for a baked-in length
TIME_NAMES = re.compile(
    r"^(t|time(_?steps?)?|seq(uence)?(_?len(gth)?)?|frames?|(n|num)_?frames|steps?|len(gth)?)$", re.I
)
BATCH_NAMES = re.compile(r"^(b|bs|batch(_?size|_dim)?|n_?batch)$", re.I)
LONG = (65536, 4096, 512)  # what stands still between PROBES is looked at here too: at the first that can be computed
LOOPED = (1000,)  # where loops are written out
SOME = 4  # a number for a dimension that is neither time nor batch, where advice is tried


@dataclass
class Timeline:
    """What is known of a graph's time."""

    specialise: Specialiser  # of the graph; where the file has a number for the length, with a dimension in its place
    dims: dict[str, int]  # all other dimensions, bound
    time: set[str] = field(default_factory=set)  # dimensions that are time; none: the graph is one step
    batch: set[str] = field(default_factory=set)  # those of `dims` that nobody named: the batch
    warnings: list[str] = field(default_factory=list)

    @property
    def graph(self) -> Graph:
        """With its dimensions unbound."""
        return self.specialise.graph

    def at(self, length: int) -> Graph:
        """The static graph for a sequence of that length, shared by all who ask."""
        return self.specialise({**self.dims, **dict.fromkeys(self.time, length)})

    def at_others(self) -> Iterator[tuple[int, Graph]]:
        """The graph at lengths far from PROBES, that it takes; each is for a look, and kept by nobody."""
        long = LOOPED if self.at(PROBES[0]).control else LONG
        for choice in ((1,), (2,), long):
            for n in choice:
                try:
                    yield n, self.specialise.once({**self.dims, **dict.fromkeys(self.time, n)})
                    break
                except ModelError:  # it takes no such length, or is too large then
                    continue

    def axes(self) -> dict[str, int]:
        """Input name -> its time axis."""
        return axes_of(self.graph.inputs, self.time)

    def batch_axes(self, length: int = 1) -> dict[str, int]:
        """Input or output name -> the axis that follows the batch; those without one are left out."""
        if not self.batch:
            return {}
        size = self.dims[min(self.batch)]
        sizes = PROBES if length == 1 else (size, size + 1)  # those of one frame are known from finding time
        both = [replace(self, dims={**self.dims, **dict.fromkeys(self.batch, n)}) for n in sizes]
        try:
            here, there = (timeline.at(length) for timeline in both)
        except ModelError:  # the graph takes no other batch
            return {}
        found = {}
        for a, b in zip([*here.inputs, *here.outputs], [*there.inputs, *there.outputs], strict=True):
            differ = [i for i, (m, n) in enumerate(zip(a.shape, b.shape, strict=False)) if m != n]
            if len(differ) == 1 and (a.shape[differ[0]], b.shape[differ[0]]) == sizes:
                found[a.name] = differ[0]
        return found


def find_time(
    graph: Graph | Specialiser, dims: Mapping[str, int], batch: int, time_axis: Mapping[str, int] | None = None
) -> Timeline:
    """The time of a graph whose dimensions may be unbound.

    Parameters
    ----------
    graph : Graph or Specialiser
        As read.
    dims : mapping
        Dimensions that the caller binds; they are no time.
    batch : int
        What a batch dimension is bound to.
    time_axis : mapping, optional
        The caller's word: input name -> its time axis.

    Raises
    ------
    ModelError
        A name that is no dimension or input, or a dimension that is neither time nor batch nor bound.
    """
    specialise = graph if isinstance(graph, Specialiser) else Specialiser(graph)
    graph = specialise.graph
    _check_names(graph, dims)
    if time_axis:
        return _told(specialise, dims, batch, time_axis)
    open_ = Dimensions(specialise, dims, batch)
    return _bound(open_, _choose(open_))


def _choose(open_: Dimensions) -> set[str]:
    """The dimensions that are time."""
    candidates = [d for d in open_.found if not d.is_batch]
    if not any(d.kind is Kind.RUNS for d in candidates):
        named = frozenset(s for d in open_.found if d.is_batch for s in d.names if TIME_NAMES.match(s))
        candidates += [Dimension(named, Kind.ENTRYWISE, "it is called like time")] if named else []
        candidates += [
            d for d in open_.of_one_size() if not named & d.names and not any(map(BATCH_NAMES.match, d.names))
        ]
    if len(candidates) > 1:
        _refuse_open(open_, candidates)
    return {s for d in candidates for s in d.names}


def _bound(open_: Dimensions, time: set[str]) -> Timeline:
    """All that is not time is a batch, or must be as long as time."""
    time = time | _as_long(open_, time)
    for s, error in open_.stuck.items():
        if s not in time and (not BATCH_NAMES.match(s) or has_control(open_.specialise.graph)):
            raise ModelError(
                f"the dimension '{s}' cannot be bound to another length, though it has no number: {error}"
                f"{_only(open_, s)}"
            )
    names = [s for s in open_.symbols if s not in time]
    bound = _bind(open_.specialise.graph, names, open_.batch)
    given = {s: n for s, n in open_.rest.items() if s not in time}
    return Timeline(open_.specialise, {**given, **bound}, time, set(bound))


def _as_long(open_: Dimensions, time: set[str]) -> set[str]:
    """Dimensions of other inputs that the graph takes at the length of time only."""
    shapes = [p.shape for p in open_.specialise.graph.inputs]
    beside = {d for shape in shapes if time.intersection(map(str, shape)) for d in shape}
    found: set[str] = set()
    for s in open_.symbols if time else ():
        if s not in time | beside and not _takes(open_, time, {s: PROBES[1]}) and _takes(open_, time, {s: PROBES[0]}):
            found.add(s)
    return found


def _takes(open_: Dimensions, time: set[str], numbers: Mapping[str, int]) -> bool:
    try:
        open_.specialise({**open_.bound(time, PROBES[0]), **numbers})
    except ModelError:
        return False
    return True


def has_control(graph: Graph) -> bool:
    """Whether there are loops or branches, whose limits may be why a dimension takes one number only."""
    return any(n.op_type in LOOPS or n.op_type == "If" for n in graph.nodes)


def _only(open_: Dimensions, name: str) -> str:
    """The advice to give a dimension the batch's number, where the graph takes that."""
    try:
        open_.specialise(open_.bound({name}, open_.batch))
    except ModelError:
        return ""
    return f". If {open_.batch} is the only number that is wanted, give dims={{'{name}': {open_.batch}}}"


def _refuse_open(open_: Dimensions, candidates: list[Dimension]) -> None:
    """Two dimensions could be time.

    Raises
    ------
    ModelError
        With what to say for each that can stream; tried.
    """
    graph = open_.specialise.graph
    ways = [way for d in candidates if (way := _way(open_, d, [o for o in candidates if o is not d]))]
    which = "; ".join(f"{_where(graph, d.names)}: {d.why}" for d in candidates)
    advice = "Say which is, and give the other its number, such as " + ", or ".join(ways) if ways else "Neither streams"
    error = ModelError if ways else MayRunWholeError
    raise error(
        f"which axis is time is open, for none of these is a batch (batch= binds what treats its entries alike): "
        f"{which}. {advice}"
    )


def _way(open_: Dimensions, time: Dimension, others: list[Dimension]) -> str:
    """What to say for this dimension to be time; "" where it does not stream so."""
    names = sorted(s for d in others for s in d.names)
    numbers = dict.fromkeys(names, SOME)
    if not streams(open_.specialise, {**open_.bound(names, SOME), **numbers}, time.names):
        return ""
    return f"time_axis={axes_of(open_.specialise.graph.inputs, time.names)}, dims={numbers}"


def streams(specialise: Specialiser, rest: Mapping[str, int], time: Iterable[str]) -> bool:
    """Whether every frame depends on the frames before it alone, where these dimensions are time."""
    timeline = Timeline(specialise, dict(rest), set(time))
    try:
        short, graphs = timeline.at(PROBES[0]), [(PROBES[1], timeline.at(PROBES[1])), *timeline.at_others()]
        axes = timeline.axes()
        return not any(Check(short, other, axes, RULES, (PROBES[0], n)).walk() for n, other in graphs)
    except ModelError:
        return False


def _where(graph: Graph, names: Iterable[str]) -> str:
    """Dimensions as a message calls them."""
    places = graph.symbols()
    return " and ".join(f"'{s}' (axis {places[s][0][1]} of input '{places[s][0][0]}')" for s in sorted(names))


def _bind(graph: Graph, names: list[str], batch: int) -> dict[str, int]:
    """The dimensions that are not time: the batch. What may be features is refused rather than guessed."""
    places = graph.symbols()
    if len(names) > 1:
        for name in names:
            if (
                not BATCH_NAMES.match(name)
                and all(axis != 0 for _, axis in places[name])
                and not _is_state_batch(places[name])
            ):
                where = f"axis {places[name][0][1]} of input '{places[name][0][0]}'"
                raise ModelError(f"the dimension '{name}' ({where}) is unbound; give dims={{'{name}': number}}")
    return dict.fromkeys(names, batch)


def _is_state_batch(places: list[tuple[str, int]]) -> bool:
    """Axis 1 of an initial state [layers, batch, hidden]."""
    return all(axis == 1 for _, axis in places)


def _check_names(graph: Graph, dims: Mapping[str, int]) -> None:
    symbols = graph.symbols()
    for name, number in dims.items():
        if name not in symbols:
            raise ModelError(f"dims: no input has the dimension '{name}'; there are {sorted(symbols) or 'none'}")
        if number < 1:
            raise ModelError(f"dims: '{name}' = {number}; a number >= 1 was expected")


def _told(specialise: Specialiser, dims: Mapping[str, int], batch: int, time_axis: Mapping[str, int]) -> Timeline:
    """The caller names the axes."""
    graph = specialise.graph
    ports = {p.name: p for p in graph.inputs}
    for name, axis in time_axis.items():
        if name not in ports:
            raise ModelError(f"time_axis: there is no input '{name}'; there are {sorted(ports)}")
        if not -len(ports[name].shape) <= axis < len(ports[name].shape):
            raise ModelError(f"time_axis: input '{name}' has {len(ports[name].shape)} dimensions, so no axis {axis}")
    told = {(n, a % len(ports[n].shape)) for n, a in time_axis.items()}
    symbols = {ports[n].shape[a] for n, a in told}
    numbers = {(n, a) for n, a in told if isinstance(ports[n].shape[a], int)}
    if numbers:
        graph = with_time(graph, numbers)
        specialise = specialise.of(graph)
    time = {s for s in symbols if isinstance(s, str)}
    time |= {TIME} if any(isinstance(s, int) for s in symbols) else set()
    open_ = Dimensions(specialise, {**dims, **dict.fromkeys(time, 1)}, batch)
    other = next((d for d in open_.found if not d.is_batch and not d.names <= _as_long(open_, time)), None)
    if other is not None:
        given = dict.fromkeys(sorted(other.names), SOME)
        works = streams(specialise, {**open_.bound(other.names, SOME), **dims}, time)
        raise (ModelError if works else MayRunWholeError)(
            f"time_axis leaves {_where(graph, other.names)} open, which is no batch: {other.why}"
            + (f". Give its number, such as dims={given}" if works else "; neither streams")
        )
    return _bound(open_, time)


def with_time(graph: Graph, places: set[tuple[str, int]]) -> Graph:
    """The graph with the dimension TIME in place of these numbers."""
    return graph.with_inputs(
        replace(p, shape=tuple(TIME if (p.name, a) in places else d for a, d in enumerate(p.shape)))
        for p in graph.inputs
    )
