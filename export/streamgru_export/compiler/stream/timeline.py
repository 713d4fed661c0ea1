"""Finds the time axis: which unbound dimensions are time, and what each is bound to otherwise.

A dimension is time if binding it to another number gives some recurrent node a longer sequence. Names, and the axis
that convolutions reach along, decide only where there is no such node.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from streamgru.errors import ModelError

from ..graph.graph import Graph
from ..graph.kinds import RECURRENT
from ..graph.recurrent import recurrent
from ..static.specialise import Specialiser
from .places import PROBES

TIME = "time"  # the dimension that stands for a baked-in length
TIME_NAMES = re.compile(
    r"^(t|time(_?steps?)?|seq(uence)?(_?len(gth)?)?|frames?|(n|num)_?frames|steps?|len(gth)?)$", re.I
)
BATCH_NAMES = re.compile(r"^(n|b|bs|batch(_?size|_dim)?|n_?batch|unk__\d+)$", re.I)


@dataclass
class Timeline:
    """What is known of a graph's time."""

    specialise: Specialiser  # of the graph; where the file has a number for the length, with a dimension in its place
    dims: dict[str, int]  # all other dimensions, bound
    time: set[str] = field(default_factory=set)  # dimensions that are time; none: the graph is one step
    batch: set[str] = field(default_factory=set)  # those of `dims` that nobody named: the batch

    @property
    def graph(self) -> Graph:
        """With its dimensions unbound."""
        return self.specialise.graph

    def at(self, length: int) -> Graph:
        """The static graph for a sequence of that length, shared by all who ask."""
        return self.specialise({**self.dims, **dict.fromkeys(self.time, length)})

    def axes(self) -> dict[str, int]:
        """Input name -> its time axis."""
        return {p.name: axis for p in self.graph.inputs for axis, d in enumerate(p.shape) if d in self.time}

    def batch_axes(self, length: int = 1) -> dict[str, int]:
        """Input or output name -> the axis that follows the batch; those without one are left out."""
        if not self.batch:
            return {}
        size = self.dims[min(self.batch)]
        larger = replace(self, dims={**self.dims, **dict.fromkeys(self.batch, size + 1)})
        try:
            here, there = self.at(length), larger.at(length)
        except ModelError:  # the graph takes no other batch
            return {}
        found = {}
        for a, b in zip([*here.inputs, *here.outputs], [*there.inputs, *there.outputs], strict=True):
            differ = [i for i, (m, n) in enumerate(zip(a.shape, b.shape, strict=False)) if m != n]
            if len(differ) == 1 and (a.shape[differ[0]], b.shape[differ[0]]) == (size, size + 1):
                found[a.name] = differ[0]
        return found


def sequence_lengths(graph: Graph) -> dict[str, int]:
    """Of a static graph: the first output of each recurrent node -> the length it runs over."""
    return {
        next(o for o in n.outputs if o): graph.types[n.inputs[0]].shape[recurrent(n).time_axis]
        for n in graph.nodes
        if n.op_type in RECURRENT
    }


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
    unbound = [s for s in graph.symbols() if s not in dims]
    time: set[str] = set()
    failed: dict[str, ModelError] = {}
    for s in unbound:
        rest = {**dims, **{u: batch for u in unbound if u != s}}
        try:
            if moves(specialise, rest, {s}):
                time.add(s)
        except ModelError as error:
            failed[s] = error
    if failed and not time:
        time = _together(specialise, dims, batch, failed)
    if not time:
        time = {s for s in unbound if TIME_NAMES.match(s)} or _convolved(specialise, dims, batch, unbound)
    bound = _bind(graph, [u for u in unbound if u not in time], batch)
    return Timeline(specialise, {**dims, **bound}, time, set(bound))


def refuse_bound_time(specialise: Specialiser, dims: Mapping[str, int], batch: int) -> None:
    """A stream takes one frame at a time, so the caller may not bind the time axis.

    Raises
    ------
    ModelError
        One of `dims` is the time axis.
    """
    for name in dims:
        rest = {s: dims.get(s, batch) for s in specialise.graph.symbols() if s != name}
        try:
            is_time = moves(specialise, rest, {name})
        except ModelError:  # it cannot take every number, so it is not what sequences are made of
            is_time = False
        if is_time:
            raise ModelError(
                f"dims binds '{name}', the time axis: a stream takes one frame at a time. Leave it out, or compile "
                f"it with mode='whole', length={dims[name]}"
            )


def moves(specialise: Specialiser, rest: Mapping[str, int], time: Iterable[str]) -> bool:
    """Whether some recurrent node's sequence follows these dimensions."""
    first, second = (sequence_lengths(specialise({**rest, **dict.fromkeys(time, n)})) for n in PROBES)
    return any(first[k] != second.get(k) for k in first)


def _together(
    specialise: Specialiser, dims: Mapping[str, int], batch: int, failed: Mapping[str, ModelError]
) -> set[str]:
    """Several dimensions that must be equal, so that none can be moved alone (two inputs of the same
    length)."""
    group = {s for s in failed if not BATCH_NAMES.match(s)}
    rest = {**dims, **{s: batch for s in specialise.graph.symbols() if s not in group and s not in dims}}
    try:
        if group and moves(specialise, rest, group):
            return group
    except ModelError as error:
        name = sorted(group)[0]
        raise ModelError(
            f"the dimension '{name}' cannot be bound to another length, though it has no number: {error}"
        ) from None
    return set()


def _convolved(specialise: Specialiser, dims: Mapping[str, int], batch: int, unbound: list[str]) -> set[str]:
    """Without recurrent nodes and names: the one dimension that kernels reach along."""
    found = set()
    for s in unbound:
        rest = {**dims, **{u: batch for u in unbound if u != s}}
        try:
            first, second = (_reached(specialise({**rest, s: n})) for n in PROBES)
        except ModelError:
            continue
        if any(first[k] != second.get(k) for k in first):
            found.add(s)
    return found if len(found) == 1 else set()


def _reached(graph: Graph) -> dict[str, list[int]]:
    """Output of each Conv -> the sizes of the axes that its kernel reaches along."""
    found = {}
    for node in graph.nodes:
        if node.op_type == "Conv":
            size, kernel = graph.types[node.inputs[0]].shape[2:], graph.types[node.inputs[1]].shape[2:]
            found[node.outputs[0]] = [s for s, k in zip(size, kernel, strict=True) if k > 1]
    return found


def _bind(graph: Graph, names: list[str], batch: int) -> dict[str, int]:
    """The dimensions that are not time: the batch. Another is refused rather than guessed."""
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
    rest = [s for s in graph.symbols() if s not in time and s not in dims]
    bound = _bind(graph, rest, batch)
    return Timeline(specialise, {**dims, **bound}, time, set(bound))


def with_time(graph: Graph, places: set[tuple[str, int]]) -> Graph:
    """The graph with the dimension TIME in place of these numbers."""
    return graph.with_inputs(
        replace(p, shape=tuple(TIME if (p.name, a) in places else d for a, d in enumerate(p.shape)))
        for p in graph.inputs
    )


def unbake(timeline: Timeline) -> Timeline | None:
    """A graph whose sequence length is a number, with that number made a dimension again.

    None where no recurrent node follows any axis of an input.

    Raises
    ------
    ModelError
        The length is more than one step, and stands in the graph in other places too.
    """
    graph = timeline.graph
    lengths = set(sequence_lengths(timeline.at(1)).values())
    error: ModelError | None = None
    for length in sorted(lengths, reverse=True):
        places = [(p.name, a) for p in graph.inputs for a, d in enumerate(p.shape) if d == length]
        for group in [{p} for p in places] + [{p for p in places if p[1] == a} for a in range(3)]:
            if not group:
                continue
            candidate = timeline.specialise.of(_free_reshapes(with_time(graph, group), timeline.at(1), length))
            try:
                if moves(candidate, timeline.dims, {TIME}):
                    return replace(timeline, specialise=candidate, time={TIME})
            except ModelError as e:
                error = error or (e if length > 1 else None)
    if error is not None and max(lengths) > 1:
        raise ModelError(
            f"the sequence length {max(lengths)} is a number in this graph and cannot be made 1: {error}. "
            "Export it with a dynamic time axis, or one step with its state; or compile it with mode='whole'"
        )
    return None


def _free_reshapes(graph: Graph, static: Graph, length: int) -> Graph:
    """Exporters write the sample's length into Reshape too; there it becomes -1, what is left over.

    Where the guess is wrong, the shapes no longer fit or :mod:`causal` sees frames torn apart.
    """
    graph = _without_lengths(graph, static, length)
    if length == 1:
        return graph
    fixed = {o: static.types[o].shape for n in static.nodes if n.op_type == "Reshape" for o in n.outputs}
    nodes, constants = [], dict(graph.constants)
    for node in graph.nodes:
        shape = fixed.get(node.output(0), ())
        if node.op_type == "Reshape" and node.inputs[1] in constants and length in shape:
            name = f"{node.outputs[0]}/shape"
            at = shape.index(length)
            constants[name] = np.array([*shape[:at], -1, *shape[at + 1 :]], np.int64)
            node = replace(node, inputs=[node.inputs[0], name], attrs={})
        nodes.append(node)
    return replace(graph, nodes=nodes, constants=constants)


def _without_lengths(graph: Graph, static: Graph, length: int) -> Graph:
    """Where sequence_lens are that number too, all the frames there are are meant."""
    full = {
        o
        for n in static.nodes
        if n.op_type in RECURRENT and n.input(4) in static.constants
        for o in n.outputs
        if o and (static.constants[n.inputs[4]] == length).all()
    }
    nodes = [
        replace(n, inputs=[*n.inputs[:4], "", *n.inputs[5:]]) if full.intersection(n.outputs) else n
        for n in graph.nodes
    ]
    return replace(graph, nodes=nodes) if full else graph
