"""What the caller bound: a stream takes one frame at a time, so none of it may be the time axis."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from streamgru.errors import ModelError

from ..graph.graph import Graph, Node, live_nodes
from ..graph.kinds import RECURRENT
from ..graph.operators import integer
from ..graph.recurrent import recurrent
from .dimensions import Dimension, Kind, axes_of, look, sequence_lengths
from .places import PROBES, MayRunWholeError
from .timeline import Timeline, streams


def check_bound(timeline: Timeline, given: Mapping[str, int], *, told: bool) -> list[str]:
    """A stream takes one frame at a time, so the caller may not bind the time axis.

    Parameters
    ----------
    given : mapping
        What the caller bound.
    told : bool
        He said which axis is time, too: then what he binds is none.

    Returns
    -------
    list of str
        Warnings: he bound to 1 what more entries would mix in.

    Raises
    ------
    ModelError
        One of them is the time axis; unless it has one entry and the graph takes and gives the state itself.
    """
    return [] if told else [w for name, n in given.items() for w in _check_bound(timeline, name, n)]


def _check_bound(timeline: Timeline, name: str, number: int) -> Iterator[str]:
    dimension = _look_again(timeline, name)
    if dimension is None:
        return
    other = timeline.time
    named_alone = bool(other) and _along(timeline, other).is_batch  # called like time, and nothing is done along it
    if other and (dimension.kind is Kind.RUNS or (named_alone and dimension.kind is Kind.REACHES and number == 1)):
        along = "and not along" if named_alone else "as along"
        what = f"dims binds '{name}', and {dimension.why} {along} '{min(other)}', which would be the time"
        if not streams(timeline.specialise, timeline.dims, other):
            raise MayRunWholeError(f"{what} and does not stream")
        raise ModelError(f"{what}: if it is, say time_axis={timeline.axes()}")
    if dimension.kind is Kind.RUNS and not (number == 1 and _is_passed(timeline, name)):
        _refuse_time(timeline, name, number, dimension.why)
    if dimension.kind is Kind.REACHES and number == 1 and not other:
        _refuse_time(timeline, name, number, dimension.why)
    if dimension.kind is Kind.MIXES and number == 1 and (not other or named_alone):
        yield f"dims binds '{name}' to 1, and {dimension.why}: a step sees one entry of it, and keeps none"


def _look_again(timeline: Timeline, name: str) -> Dimension | None:
    """What is done along a dimension that was bound; None where it can have no other number."""
    rest = {**timeline.dims, **dict.fromkeys(timeline.time, 1)}
    for probes in (PROBES, (2, 3)):  # a loop of many steps may be too long to be written out
        try:
            short, long = (timeline.specialise({**rest, name: n}) for n in probes)
            if probes is PROBES or sequence_lengths(short) != sequence_lengths(long) or short.control != long.control:
                return look(short, long, frozenset({name}), axes_of(timeline.graph.inputs, {name}))
        except ModelError:
            continue
    return None


def _along(timeline: Timeline, names: set[str]) -> Dimension:
    """What is done along the dimensions that are time."""
    short, long = (timeline.at(n) for n in PROBES)
    return look(short, long, frozenset(names), timeline.axes())


def _is_passed(timeline: Timeline, name: str) -> bool:
    """Whether all that runs along this dimension begins with a state that the graph is given, and runs forward. What is
    computed from the sequence itself, such as x[0] · 0, is none."""
    rest = {**timeline.dims, **dict.fromkeys(timeline.time, 1)}
    one, two = (timeline.specialise({**rest, name: n}) for n in (1, 2))
    lengths, longer = sequence_lengths(one), sequence_lengths(two)
    sequences = axes_of(timeline.graph.inputs, {name})
    states = {p.name for p in timeline.graph.inputs if p.name not in sequences}
    for node in one.nodes:
        first = next(o for o in node.outputs if o)
        if node.op_type in RECURRENT and lengths[first] != longer.get(first):
            starts = [node.input(i) for i in ((5, 6) if node.op_type == "LSTM" else (5,))]
            if not recurrent(node).is_forward or not all(_comes_from(one, start, states) for start in starts):
                return False
    loops = [c for k, c in one.control.items() if c.turns != two.control[k].turns]
    return not any(c.forgets or c.backward for c in loops) and all(
        _comes_from(one, start, states) for c in loops for start in _starts(one, c.node)
    )


def _starts(graph: Graph, loop: Node) -> list[str]:
    """The values that the numbers which a Loop or Scan hands on begin with."""
    count = integer(loop, "num_scan_inputs") if loop.op_type == "Scan" else 0
    carried = loop.inputs[: len(loop.inputs) - count] if count else loop.inputs[2:]
    return [name for name in carried if name and graph.types[name].dtype.kind == "f"]


def _comes_from(graph: Graph, value: str, inputs: set[str]) -> bool:
    """Whether a value depends on one of these inputs."""
    read = {value, *(i for node in live_nodes(graph.nodes, [value]) for i in node.inputs)}
    return bool(value) and not inputs.isdisjoint(read)


def _refuse_time(timeline: Timeline, name: str, number: int, why: str) -> None:
    """MayRunWholeError; that it may be left out is said where the graph streams so."""
    rest = {s: n for s, n in timeline.dims.items() if s != name}
    left_out = "; leave it out" if streams(timeline.specialise, rest, {name}) else ""
    raise MayRunWholeError(
        f"dims binds '{name}', the time axis, to {number}: {why}, and a stream takes one frame at a time{left_out}"
    )
