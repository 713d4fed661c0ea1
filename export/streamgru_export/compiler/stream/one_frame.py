"""From a graph with a timeline to a static one, ready to be lowered: of one frame with its states, or whole."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from streamgru.errors import ModelError
from streamgru.lengths import Lengths
from streamgru.notes import Note

from ..graph.graph import Graph
from .causal import Causality, check_causal
from .dimensions import sequence_lengths
from .history import keep_history
from .lengths import sources_of_lengths, tell_cells
from .pairs import Pair
from .places import Time
from .promote import Streamed, make_stream
from .slots import Slot
from .timeline import Timeline
from .unbake import unbake


@dataclass(frozen=True)
class Static:
    """A static graph, and what the lowering is told of it."""

    graph: Graph
    kind: str  # "sequence", "step" or "whole", as Compiled has it
    slots: list[Slot] = field(default_factory=list)
    pairs: list[Pair] = field(default_factory=list)
    axes: dict[str, int | None] = field(default_factory=dict)  # input or output -> its time axis, which frames lack
    notes: list[str] = field(default_factory=list)
    lengths: Lengths = field(default_factory=Lengths)
    doubts: list[Note] = field(default_factory=list)


def whole(timeline: Timeline, length: int | None) -> Static:
    """The graph as it stands.

    Raises
    ------
    ModelError
        It has a time axis, and no length was given.
    """
    if timeline.time and length is None:
        raise ModelError(f"mode='whole' needs length=: the dimension '{sorted(timeline.time)[0]}' is the time axis")
    static = timeline.at(length or 1)
    return Static(static, "whole", lengths=Lengths(sources_of_lengths(static)))


def streaming(timeline: Timeline, declared: tuple[Pair, ...] | None) -> Static:
    """One frame, with its states: of a sequence, or of a graph that is one step.

    Raises
    ------
    CannotStreamError
        It looks into the future.
    ModelError
        A state or a shape is not as streaming needs it.
    """
    if timeline.time:
        return _sequence(timeline, declared)
    static = timeline.at(1)
    step = _verified(timeline, make_stream(static, None, declared, set()))
    lengths = sequence_lengths(static)
    if step.pairs or not lengths or declared == () or (step.takes_state and max(lengths.values()) == 1):
        return _step(step)
    together = static.recognised and max(lengths.values()) > 1  # steps that were unrolled, one GRU now
    why = "no input has an axis that it runs along"
    try:
        sequence = unbake(replace(timeline, specialise=timeline.specialise.of(static)) if together else timeline)
        if sequence is not None:
            return _sequence(sequence, declared)
    except ModelError as error:
        if any(n > 1 for o, n in lengths.items() if o not in static.recognised):
            raise
        why = str(error)  # one step, with its length of 1 all over the graph: it is a step as it stands
    if together:
        step.notes.append(f"the steps that were unrolled stay together, one call runs them all: {why}")
    return _step(step)


def _verified(timeline: Timeline, streamed: Streamed) -> Streamed:
    timeline.specialise.verify(streamed.graph)
    return streamed


def _sequence(timeline: Timeline, declared: tuple[Pair, ...] | None) -> Static:
    """A graph with a time axis, bound to one frame."""
    causality = check_causal(timeline)
    graph = timeline.at(1)
    axes = _axes(timeline, causality, graph)
    timed = {name for name, axis in axes.items() if axis is not None}
    streamed = _verified(timeline, make_stream(graph, causality.over_time, declared, timed))
    told = tell_cells(streamed.graph, causality.over_time, causality.full)
    graph, histories = keep_history(told.graph, causality.places)
    if graph is not streamed.graph:
        timeline.specialise.verify(graph)
    slots, notes = [*streamed.slots, *told.slots, *histories], [*streamed.notes, *told.notes]
    return Static(graph, "sequence", slots, streamed.pairs, axes, notes, told.lengths, streamed.doubts)


def _axes(timeline: Timeline, causality: Causality, graph: Graph) -> dict[str, int | None]:
    """Input or output name -> its time axis; None where it has none."""
    axes: dict[str, int | None] = {p.name: timeline.axes().get(p.name) for p in graph.inputs}
    for port in graph.outputs:
        place = causality.places.get(port.name)
        axes[port.name] = place.axis if isinstance(place, Time) else None
        if isinstance(place, Time) and port.shape[place.axis] != 1:
            raise ModelError(
                f"output '{port.name}': its time axis {place.axis} is merged with another dimension; "
                f"reshape it in the model{_or_alone(timeline, port.name, place.axis)}"
            )
    return axes


def _or_alone(timeline: Timeline, output: str, axis: int) -> str:
    """The advice to compile for a batch of 1, where the output has nothing but its time on this axis then."""
    alone = replace(timeline, dims={**timeline.dims, **dict.fromkeys(timeline.batch, 1)})
    try:
        return ", or compile it with batch=1" if alone.at(1).types[output].shape[axis] == 1 else ""
    except ModelError:
        return ""


def _step(step: Streamed) -> Static:
    names = [p.name for p in (*step.graph.inputs, *step.graph.outputs)]
    told = tell_cells(step.graph, None, set())
    axes = dict.fromkeys(names)
    return Static(told.graph, "step", step.slots, step.pairs, axes, step.notes, told.lengths, step.doubts)
