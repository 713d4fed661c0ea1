"""Makes a graph stream: which values are states, what they are reset to, and what each cell reads instead of
its h0."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

import numpy as np

from streamgru.errors import CannotStreamError, Obstacle

from ..graph.budget import Budget
from ..graph.graph import Array, Graph, Node, Port, TensorType, live_nodes
from ..graph.kinds import RECURRENT
from ..graph.recurrent import recurrent
from .pairs import Pair, find_pairs
from .places import RUN_WHOLE
from .slots import Slot
from .timeline import sequence_lengths


@dataclass
class Streamed:
    """A static graph of one frame with its states."""

    graph: Graph
    slots: list[Slot]
    pairs: list[Pair]
    notes: list[str] = field(default_factory=list)


def make_stream(graph: Graph, over_time: set[str] | None, declared: Iterable[Pair] | None, timed: set[str]) -> Streamed:
    """The states of a static graph.

    Parameters
    ----------
    graph : Graph
        Specialised to one frame; what is returned has a copy of it.
    over_time : set of str or None
        First outputs of the cells that run along time. None: the graph is a step graph and none is known;
        then the cells of one step are, if the graph passes no state itself.
    declared, timed
        As in :func:`compiler.stream.pairs.find_pairs`.

    Raises
    ------
    ModelError
        A cell whose initial state is computed, or a pair that is none.
    """
    graph = graph.copied()
    pairs = find_pairs(graph, declared, timed)
    slots = [Slot(i, i, o, is_pair=True) for i, o in pairs]
    streamed = Streamed(graph, slots, pairs)
    if over_time is None:
        over_time = _of_one_step(streamed) if not pairs and declared is None else set()
        if over_time:
            streamed.notes.append("the graph is one step without states; each recurrent node of one step keeps its own")
    reach = _from_inputs(graph, {i for i, _ in pairs})
    for node in graph.nodes:
        if node.op_type in RECURRENT and next(o for o in node.outputs if o) in over_time:
            _promote(streamed, node, reach)
    return streamed


def _of_one_step(streamed: Streamed) -> set[str]:
    """First outputs of the cells of a step graph that may keep a state of their own: not those that hand a state on to
    each other inside of the graph, the steps of a loop that was written out, nor one whose initial state is made from
    what the graph computes with."""
    graph = streamed.graph
    cells = {o for o, n in sequence_lengths(graph).items() if n == 1} - graph.recognised.keys()
    named = {next(o for o in n.outputs if o): n for n in graph.nodes if n.op_type in RECURRENT}
    behind: dict[str, set[str]] = {}  # value -> the cells that it depends on
    chained: set[str] = set()
    for node in graph.nodes:
        found = set().union(*(behind.get(i, set()) for i in node.inputs))
        if (own := next((o for o in node.outputs if o), "")) in cells:
            before = set().union(*(behind.get(node.input(i), set()) for i in (5, 6)))
            chained |= {own, *before} if before else set()
            found = found | {own}
        behind.update(dict.fromkeys(node.outputs, found))
    chained &= cells
    if chained:
        streamed.notes.append(
            f"{len(chained)} recurrent nodes hand their state on to each other: one call runs them all, from their "
            "initial state"
        )
    return {o for o in cells - chained if not any(_is_shared(graph, named[o], i) for i in (5, 6))}


def _is_shared(graph: Graph, node: Node, i: int) -> bool:
    """Whether the graph needs what initial state `i` is made from for something else too."""
    if not node.input(i):
        return False
    inputs = [name if k != i else "" for k, name in enumerate(node.inputs)]
    others = [replace(n, inputs=inputs) if n is node else n for n in graph.nodes]
    live = live_nodes(others, [p.name for p in graph.outputs])
    return bool(_roots(graph, node.input(i)) & {name for n in live for name in n.inputs})


def _from_inputs(graph: Graph, names: set[str]) -> set[str]:
    """All values that depend on these inputs."""
    found = set(names)
    for node in graph.nodes:
        if found.intersection(node.inputs):
            found.update(node.outputs)
    return found


def _promote(streamed: Streamed, node: Node, from_states: set[str]) -> None:
    """Gives a cell a state slot of its own for each initial state that the graph does not pass itself."""
    graph = streamed.graph
    if not recurrent(node).is_forward:
        raise CannotStreamError([Obstacle(str(node), "it does not run forward", RUN_WHOLE)])
    if node.input(4):
        _check_lengths(streamed, node)
    wanted = [("h", 5, 1)] + ([("c", 6, 2)] if node.op_type == "LSTM" else [])
    for letter, i, o in wanted:
        name = node.input(i)
        if name and name not in graph.constants and name in from_states:
            continue
        reset = _reset(streamed, node, name)
        node.inputs += [""] * (i + 1 - len(node.inputs))
        node.outputs += [""] * (o + 1 - len(node.outputs))
        base = node.name or next(v for v in node.outputs if v)
        slot = Slot(_free(graph, f"{base}.{letter}"), _free(graph, f"{base}/{letter}_in"),
                    node.outputs[o] or _free(graph, f"{base}/{letter}_out"), reset)  # fmt: skip
        node.inputs[i], node.outputs[o] = slot.input, slot.output
        graph.inputs.append(Port(slot.input, np.dtype(np.float32), _state_shape(graph, node)))
        graph.types[slot.input] = graph.types[slot.output] = TensorType(np.dtype(np.float32), _state_shape(graph, node))
        streamed.slots.append(slot)


def _reset(streamed: Streamed, node: Node, name: str) -> Array | None:
    """What the new slot is reset to: the constant initial state; zeros for an input that nothing writes
    back."""
    graph = streamed.graph
    if not name:
        return None
    if name in graph.constants:
        return graph.constants[name]
    roots = _roots(graph, name)
    alone = len(roots) == 1 and not any(_is_shared(graph, node, i) for i in (5, 6) if node.input(i) == name)
    if alone and (root := roots.pop()) in {p.name for p in graph.inputs}:
        graph.inputs = [p for p in graph.inputs if p.name != root]
        streamed.notes.append(
            f"input '{root}' is the initial state of {node} and no output returns it: "
            "it is kept inside, and starts as it does from zeros"
        )
        return _from_zeros(graph, root, name)
    if roots == set() or not any(p.name == r for p in graph.inputs for r in roots):
        return None
    why = f"its initial state '{name}' is computed from inputs"
    remedy = "Give it as an input of its own, and its final state as an output"
    raise CannotStreamError([Obstacle(str(node), why, remedy)])


def _from_zeros(graph: Graph, root: str, name: str) -> Array:
    """A value that depends on one input alone, for zeros there; the nodes that compute it go."""
    values = {**graph.constants, root: np.zeros(graph.types[root].shape, graph.types[root].dtype)}
    own, budget = live_nodes(graph.nodes, [name]), Budget()
    for node in own:
        results = budget.evaluate(node, [values[i] if i else None for i in node.inputs], graph.opset)
        values.update(zip(node.outputs, results, strict=False))
    graph.nodes = [n for n in graph.nodes if n not in own]
    return np.asarray(values[name], graph.types[name].dtype)


def _roots(graph: Graph, name: str) -> set[str]:
    """The graph inputs that a value depends on."""
    producers = graph.producers()
    inputs = {p.name for p in graph.inputs}
    found, seen, todo = set(), set(), [name]
    while todo:
        value = todo.pop()
        if value in seen:
            continue
        seen.add(value)
        if value in inputs:
            found.add(value)
        elif value in producers:
            todo += [i for i in producers[value].inputs if i]
    return found


def _check_lengths(streamed: Streamed, node: Node) -> None:
    """sequence_lens while streaming: every frame counts, so a constant must say so; an input is dropped, if
    it can be."""
    graph, name = streamed.graph, node.inputs[4]
    if name in graph.constants:
        if (graph.constants[name] < 1).any():
            raise CannotStreamError([Obstacle(str(node), "its sequence_lens are zero", "Leave them out")])
        node.inputs[4] = ""
        return
    roots = _roots(graph, name)
    node.inputs[4] = ""
    streamed.notes.append(f"{node}: sequence_lens is ignored: a stream ends when the caller stops")
    used = {i for n in graph.nodes for i in n.inputs}
    graph.inputs = [p for p in graph.inputs if p.name not in roots or p.name in used]


def _state_shape(graph: Graph, node: Node) -> tuple[int, ...]:
    form = recurrent(node)
    batch = graph.types[node.inputs[0]].shape[1 - form.time_axis]
    return form.state_shape(batch, graph.types[node.inputs[2]].shape[2])


def _free(graph: Graph, name: str) -> str:
    """A name that no value has."""
    while name in graph.types or any(p.name == name for p in graph.inputs):
        name += "_"
    return name
