"""Why a stream differs from its graph: a misreading under which it does not.

Each guess is another graph, or another way to feed it: gates in another order, a dropped initial state, a frame late.
One that gives what our stream gives is the reason, and is proved by that. It needs onnx; `check.py` asks it only where
a stream differs from the graph.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations, permutations

import numpy as np
import onnx
from onnx import numpy_helper

from streamgru._printable import printable

from ..differences import Difference, Trace, compare
from . import traces
from .traces import ORACLE, Case, NotComparedError, PeerGraph, several

SECONDS = 20.0  # for all guesses
FRAMES, MOST_FRAMES = 24, 500  # that a guess is tried on: so many at least, and up to the first step that is off
LAGS = (1, 2, 3, -1)  # steps that our output may be late; below zero it is early
CHUNKS = (1, 2, 3, 4, 5, 6, 7, 8)
GATES = {"GRU": 3, "LSTM": 4}
BIAS, LENGTHS, INITIAL, INITIAL_C, PEEPHOLES = 3, 4, 5, 6, 7  # inputs of ONNX's GRU, LSTM and RNN
KEPT = ("hidden_size", "direction", "linear_before_reset", "layout")  # attributes that no guess leaves out

Node = onnx.NodeProto
Proto = onnx.ModelProto
Make = Callable[[Proto], PeerGraph]


@dataclass(frozen=True)
class Guess:
    """A misreading in words, and what the graph gives under it."""

    words: str
    trace: Callable[[], Trace]


def reason(case: Case, proto: Proto, make: Make, first_wrong: int, tolerance: float) -> str:
    """The first misreading that explains our stream; empty where none does.

    Parameters
    ----------
    case : Case
    proto : ModelProto
        The graph that the stream must follow.
    make : callable
        From a graph to what runs it.
    first_wrong : int
        A step at which the stream is off.
    """
    frames = min(case.steps, max(FRAMES, first_wrong + 1))
    if frames > MOST_FRAMES or first_wrong >= frames:
        return ""
    small = replace(case, frames={name: values[:frames] for name, values in case.frames.items()})
    ours, deadline = traces.stream_step(small), time.monotonic() + SECONDS
    for guess in _guesses(small, proto, make, ours, tolerance):
        if time.monotonic() > deadline:
            break
        try:
            difference = compare(ours, guess.trace())
        except NotComparedError:  # the graph cannot be that
            continue
        if _agrees(difference, tolerance):
            return f"our stream gives what the graph would give {guess.words} ({difference.scaled:.1e} of the scale)"
    return ""


def _agrees(difference: Difference, tolerance: float) -> bool:
    return difference.scaled <= tolerance and not difference.mismatches


def _guesses(case: Case, proto: Proto, make: Make, ours: Trace, tolerance: float) -> Iterator[Guess]:
    """Every guess, the cheapest first. None where the graph itself gives what ours gives."""
    graph = make(proto)
    try:
        right = _follow(case, graph)
    except NotComparedError:
        return
    if _agrees(compare(ours, right), tolerance):  # another implementation is the one that differs
        return
    yield from _shifted(right)
    yield from _renamed(right)
    yield from _begun_anew(case, graph)
    yield from _exchanged(case, graph)
    for words, altered in _altered(proto):
        yield Guess(words, lambda altered=altered: _follow(case, make(altered)))  # type: ignore[misc]


def _follow(case: Case, graph: PeerGraph) -> Trace:
    run = traces.graph_whole if case.is_sequence else traces.graph_stepped
    return run(ORACLE, case, graph)


# Another time


def _shifted(right: Trace) -> Iterator[Guess]:
    for lag in LAGS:
        words = f"{several(abs(lag), 'frame')} {'earlier: it is late' if lag > 0 else 'later: it is early'}"
        moved = {name: steps + lag for name, steps in right.steps.items() if len(steps) > abs(lag) + 1}
        kept = {name: right.values[name] for name in moved}
        if moved:
            yield Guess(words, lambda moved=moved, kept=kept: Trace(ORACLE, moved, kept))  # type: ignore[misc]


def _begun_anew(case: Case, graph: PeerGraph) -> Iterator[Guess]:
    """As if the state were lost after every so many frames."""
    for count in CHUNKS:
        words = "from reset at every frame: no memory is kept" if count == 1 else f"from reset every {count} frames"
        yield Guess(words, lambda count=count: _in_chunks(case, graph, count))  # type: ignore[misc]


def _in_chunks(case: Case, graph: PeerGraph, count: int) -> Trace:
    parts = []
    for first in range(0, case.steps, count):
        frames = {name: values[first : first + count] for name, values in case.frames.items()}
        parts.append((first, _follow(replace(case, frames=frames), graph)))
    names = [t.name for t in case.model.outputs if all(t.name in part.values for _, part in parts)]
    steps = {n: np.concatenate([first + part.steps[n] for first, part in parts]) for n in names}
    return Trace(ORACLE, steps, {n: np.concatenate([part.values[n] for _, part in parts]) for n in names})


# Other names


def _renamed(right: Trace) -> Iterator[Guess]:
    """Two outputs in each other's place."""
    for a, b in combinations(right.values, 2):
        if right.values[a].shape == right.values[b].shape:
            other = {a: b, b: a}
            values = {name: right.values[other.get(name, name)] for name in right.values}
            words = f"with its outputs {a!r} and {b!r} exchanged"
            yield Guess(words, lambda values=values: Trace(ORACLE, right.steps, values))  # type: ignore[misc]


def _exchanged(case: Case, graph: PeerGraph) -> Iterator[Guess]:
    """Two inputs in each other's place, or two states."""
    for a, b in combinations(case.frames, 2):
        if case.frames[a].shape == case.frames[b].shape and case.frames[a].dtype == case.frames[b].dtype:
            frames = {**case.frames, a: case.frames[b], b: case.frames[a]}
            words = f"with its inputs {a!r} and {b!r} exchanged"
            yield Guess(words, lambda frames=frames: _follow(replace(case, frames=frames), graph))  # type: ignore[misc]


# Another graph


def _altered(proto: Proto) -> Iterator[tuple[str, Proto]]:
    """The graph with its recurrent nodes misread."""
    for words, alter in (
        ("with the other linear_before_reset in", _other_reset),
        ("with zeros as the initial state of", lambda node: _without(node, INITIAL, INITIAL_C)),
        ("with zeros as the initial h of", lambda node: _without(node, INITIAL)),
        ("with zeros as the initial c of", lambda node: _without(node, INITIAL_C)),
        ("without the sequence_lens of", lambda node: _without(node, LENGTHS)),
        ("with direction=forward in", _forward),
        ("without the bias of", lambda node: _without(node, BIAS)),
        ("without the peepholes of", lambda node: _without(node, PEEPHOLES)),
    ):
        yield from _where(proto, words, alter)
    names = {a.name for node in _recurrent(proto.graph) for a in node.attribute} - {*KEPT}
    for name in sorted(names):
        yield from _where(proto, f"without the attribute {name} of", lambda node, name=name: _drop(node, name))  # type: ignore[misc]
    for operator, gates in GATES.items():
        for order in permutations(range(gates)):
            if list(order) != sorted(order):
                yield from _reordered(proto, operator, order)


def _where(proto: Proto, words: str, alter: Callable[[Node], bool]) -> Iterator[tuple[str, Proto]]:
    """All nodes altered at once, and each by itself where there are several."""
    count = sum(1 for _ in _recurrent(proto.graph))
    for chosen in (range(count), *((k,) for k in range(count) if count > 1)):
        copy = Proto()
        copy.CopyFrom(proto)
        nodes = list(_recurrent(copy.graph))
        changed = [_called(nodes[k]) for k in chosen if alter(nodes[k])]
        if changed:
            yield f"{words} {', '.join(changed)}", copy


def _other_reset(node: Node) -> bool:
    if node.op_type != "GRU":
        return False
    value = next((a.i for a in node.attribute if a.name == "linear_before_reset"), 0)
    _drop(node, "linear_before_reset")
    node.attribute.append(onnx.helper.make_attribute("linear_before_reset", int(not value)))
    return True


def _forward(node: Node) -> bool:
    found = [a for a in node.attribute if a.name == "direction" and a.s == b"reverse"]
    for attribute in found:
        attribute.s = b"forward"
    return bool(found)


def _without(node: Node, *inputs: int) -> bool:
    found = [k for k in inputs if k < len(node.input) and node.input[k]]
    for k in found:
        node.input[k] = ""
    return bool(found)


def _drop(node: Node, name: str) -> bool:
    kept = [a for a in node.attribute if a.name != name]
    dropped = len(kept) < len(node.attribute)
    del node.attribute[:]
    node.attribute.extend(kept)
    return dropped


def _reordered(proto: Proto, operator: str, order: Sequence[int]) -> Iterator[tuple[str, Proto]]:
    """The weights of an operator's nodes with their gates in another order."""
    gates = "zrh" if operator == "GRU" else "iofc"
    copy = Proto()
    copy.CopyFrom(proto)
    weights = {tensor.name: tensor for tensor in copy.graph.initializer}
    nodes = [node for node in _recurrent(copy.graph) if node.op_type == operator]
    names = {name for node in nodes for name in node.input[1:4] if name in weights}
    for name in names:
        values = numpy_helper.to_array(weights[name])
        size = values.shape[1] // _blocks(values, len(gates))
        blocks = values.reshape(len(values), -1, len(gates), size, *values.shape[2:])
        weights[name].CopyFrom(numpy_helper.from_array(blocks[:, :, list(order)].reshape(values.shape).copy(), name))
    if names:
        shown = "".join(gates[k] for k in order)
        yield f"with its gates in the order {shown}, not {gates}, in {', '.join(map(_called, nodes))}", copy


def _blocks(values: np.ndarray[tuple[int, ...], np.dtype[np.float32]], gates: int) -> int:
    """How many blocks of hidden_size rows there are: a bias [directions, 2 × gates × hidden] has twice as many."""
    return gates if values.ndim > 2 else 2 * gates


def _recurrent(graph: onnx.GraphProto) -> Iterator[Node]:
    """Every recurrent node, in bodies of Loop, Scan and If too."""
    for node in graph.node:
        if node.op_type in ("GRU", "LSTM", "RNN"):
            yield node
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield from _recurrent(attribute.g)


def _called(node: Node) -> str:
    if node.name:
        return f"{node.op_type} node '{printable(node.name)}'"
    return f"{node.op_type} node (unnamed, output '{printable(next(filter(None, node.output), ''))}')"
