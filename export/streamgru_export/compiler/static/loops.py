"""Loop and Scan: one whose states are those of GRU cells becomes GRUs over all its steps (:mod:`loop_cells`); a
short one of another kind is written out, step after step.

How often a Loop runs must follow from the shapes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from streamgru.errors import ModelError

from ..graph.budget import REST, Budget
from ..graph.builder import Builder
from ..graph.graph import Array, Graph, Node, Port, TensorType
from ..graph.operators import from_front, subgraph
from ..graph.recurrent import scan
from .sequences import Sequences


@dataclass
class Slice:
    """What a step reads of a scanned value: its name in the body, the value, the axis."""

    inner: str
    outer: str
    axis: int
    reverse: bool


@dataclass
class Stacked:
    """What every step adds to an output: its name in the body, the output, where its axis goes."""

    inner: str
    outer: str
    axis: int
    reverse: bool


@dataclass
class State:
    """What a step hands to the next: its names in the body before and after, and outside first and last."""

    before: str
    after: str
    first: str
    last: str  # "": nobody reads it


@dataclass
class Steps:
    """A Loop or Scan node, read."""

    node: Node
    body: Graph
    states: list[State]
    slices: list[Slice] = field(default_factory=list)
    stacked: list[Stacked] = field(default_factory=list)
    count: int | None = None  # None: until the condition says so
    index: str = ""  # of a Loop: the body's input that counts the steps
    going: str = ""  # of a Loop: the body's input that is true
    condition: str = ""  # of a Loop: the body's output that says whether to go on

    def goes_on(self) -> bool:
        """Whether the condition stays what it is, true: it runs as often as the count says."""
        copies = {n.outputs[0]: n.inputs[0] for n in self.body.nodes if n.op_type == "Identity"}
        name = self.condition
        while name in copies:
            name = copies[name]
        constant = self.body.constants.get(name)
        return name in ("", self.going) or (constant is not None and bool(constant.all()))


@dataclass
class Surroundings:
    """What is known where the node stands: names are looked up here."""

    types: dict[str, TensorType]
    constants: dict[str, Array]
    name: Callable[[str], str]  # what a value is called now
    visit: Callable[[Node], None]
    builder: Callable[[], Builder]
    budget: Budget

    def constant(self, name: str) -> Array | None:
        """The constant of that name."""
        return self.constants.get(self.name(name))

    def type(self, node: Node, name: str) -> TensorType:
        """The type of a tensor that a loop reads."""
        known = self.types.get(self.name(name))
        if known is None:
            raise ModelError(f"{node}: '{name}' is no tensor that is known before it; {REST}")
        return known

    def take(self, builder: Builder) -> None:
        """Visits all that was built."""
        for name, value in builder.new_constants.items():
            self.budget.hold(f"tensor '{name}'", value)
            self.constants[name], self.types[name] = value, builder.types[name]
        for node in builder.nodes:
            self.visit(node)


def read_scan(node: Node, around: Surroundings) -> Steps:
    """A Scan of opset 9 or later."""
    body, form = subgraph(node, "body"), scan(node)
    kept = len(node.inputs) - form.scanned
    outs = len(node.outputs) - kept
    if (
        len(body.inputs) != len(node.inputs)
        or len(body.outputs) < len(node.outputs)
        or min(kept, outs) < 0
        or form.scanned < 1
    ):
        raise ModelError(f"{node}: its body has {len(body.inputs)} inputs and {len(body.outputs)} outputs, which does "
                         f"not fit its own {len(node.inputs)} and {len(node.outputs)}")  # fmt: skip

    steps = Steps(node, body, [
        State(body.inputs[i].name, body.outputs[i].name, node.inputs[i], node.output(i)) for i in range(kept)
    ])  # fmt: skip
    scanned = zip(body.inputs[kept:], node.inputs[kept:], form.input_axes, form.input_reverse, strict=True)
    lengths = set()
    for port, outer, axis, reverse in scanned:
        shape = around.type(node, outer).shape
        axis = from_front(node, axis, len(shape))
        steps.slices.append(Slice(port.name, outer, axis, reverse))
        lengths.add(shape[axis])
    if len(lengths) != 1:
        raise ModelError(f"{node}: its scanned inputs have different lengths: {sorted(lengths)}")
    steps.count = lengths.pop()
    written = zip(body.outputs[kept:], node.outputs[kept:], form.output_axes, form.output_reverse, strict=False)
    steps.stacked = [Stacked(p.name, outer, axis, reverse) for p, outer, axis, reverse in written if outer]
    return steps


def read_loop(node: Node, around: Surroundings) -> Steps:
    """A Loop. Its number of steps is the smaller of M and what the condition allows."""
    body = subgraph(node, "body")
    kept = len(node.inputs) - 2
    if len(body.inputs) != kept + 2 or len(body.outputs) < len(node.outputs) + 1:
        raise ModelError(f"{node}: its body has {len(body.inputs)} inputs and {len(body.outputs)} outputs, which does "
                         f"not fit its own {len(node.inputs)} and {len(node.outputs)}")  # fmt: skip
    limit = around.constant(node.inputs[0]) if node.inputs[0] else np.array(2**62)
    first = around.constant(node.inputs[1]) if node.inputs[1] else np.array(True)
    if limit is None or first is None:
        raise ModelError(f"{node}: how often it runs depends on the data; {REST}")
    steps = Steps(node, body, [], index=body.inputs[0].name, going=body.inputs[1].name,
                  condition=body.outputs[0].name)  # fmt: skip
    steps.count = min(int(limit.reshape(-1)[0]), 2**62) if bool(first.reshape(-1)[0]) else 0
    for i in range(kept):
        steps.states.append(State(body.inputs[i + 2].name, body.outputs[i + 1].name, node.inputs[i + 2],
                                  node.output(i)))  # fmt: skip
    for i in range(kept, len(node.outputs)):
        if node.outputs[i]:
            steps.stacked.append(Stacked(body.outputs[i + 1].name, node.outputs[i], 0, False))
    return steps


def write_out(steps: Steps, around: Surroundings) -> None:
    """Every step's nodes, one after the other."""
    node, body, count = steps.node, steps.body, steps.count
    assert count is not None
    values = {s.before: around.name(s.first) for s in steps.states}
    written: dict[str, list[str]] = {s.outer: [] for s in steps.stacked}
    if steps.goes_on():
        around.budget.room(node, count * (len(body.nodes) + 1))
    t = 0
    while t < count:
        around.budget.visit(node)
        rename = _one_step(steps, around, values, t)
        values = {s.before: around.name(rename(s.after)) for s in steps.states}
        for s in steps.stacked:
            written[s.outer].append(around.name(rename(s.inner)))
        t += 1
        if steps.condition:
            going = around.constant(rename(steps.condition))
            if going is None:
                raise ModelError(f"{node}: how often it runs depends on the data; {REST}")
            if not bool(going.reshape(-1)[0]):
                _refuse_unheard(steps, t)
                break
    for state in steps.states:
        if state.last:
            around.visit(Node("Identity", node.name, [values[state.before]], [state.last]))
    for s in steps.stacked:
        _join(steps, around, s, written[s.outer])


def _refuse_unheard(steps: Steps, t: int) -> None:
    """Where a Loop has no condition its body's counts for nothing, says ONNX; onnxruntime stops there."""
    if len(steps.node.inputs) > 1 and not steps.node.inputs[1] and steps.node.inputs[0] and t < (steps.count or 0):
        raise ModelError(
            f"{steps.node}: it has no condition, and its body's says no after {t} of {steps.count} rounds: ONNX goes "
            "on, onnxruntime stops. Give the Loop the constant true as its condition if it is to stop"
        )


def _one_step(steps: Steps, around: Surroundings, values: dict[str, str], t: int) -> Callable[[str], str]:
    """The nodes of step `t`; gives the function from the body's names to those outside."""
    body, prefix = steps.body, f"{next(o for o in steps.node.outputs if o)}/{t}/"
    own = {*body.constants, *(p.name for p in body.inputs), *(o for n in body.nodes for o in n.outputs if o)}

    def rename(name: str) -> str:
        return values[name] if name in values else prefix + name if name in own else name

    def constant(name: str, value: Any) -> None:
        array = np.asarray(value)
        around.budget.hold(steps.node, array)
        around.constants[name], around.types[name] = array, TensorType(array.dtype, array.shape)

    for name, value in body.constants.items():
        constant(rename(name), value)
    if steps.index:
        constant(rename(steps.index), np.int64(t))
        constant(rename(steps.going), np.bool_(True))
    for s in steps.slices:
        assert steps.count is not None
        at = f"{rename(s.inner)}/index"
        constant(at, np.int64(steps.count - 1 - t if s.reverse else t))
        around.visit(Node("Gather", steps.node.name, [s.outer, at], [rename(s.inner)], {"axis": s.axis}))
    for n in body.nodes:
        attrs = {k: closed(v, rename) if isinstance(v, Graph) else v for k, v in n.attrs.items()}
        around.visit(replace(n, name=n.name or steps.node.name, inputs=[rename(i) if i else "" for i in n.inputs],
                             outputs=[rename(o) if o else "" for o in n.outputs], attrs=attrs))  # fmt: skip
    return rename


def _join(steps: Steps, around: Surroundings, s: Stacked, values: list[str]) -> None:
    """The output that is made of every step's value."""
    if not values:
        raise ModelError(f"{steps.node}: it runs no step, so its output '{s.outer}' is empty")
    values = values[::-1] if s.reverse else values
    b = around.builder()
    b.name = steps.node.name or s.outer
    axis = from_front(steps.node, s.axis, len(b.shape(values[0])) + 1)
    b.emit("Concat", [b.unsqueeze(v, axis) for v in values], s.outer, axis=axis)
    around.take(b)


def closed(graph: Graph, rename: Callable[[str], str]) -> Graph:
    """A subgraph whose outer names are called otherwise."""
    own = {*graph.constants, *(p.name for p in graph.inputs), *(o for n in graph.nodes for o in n.outputs)}

    def inner(name: str) -> str:
        return name if name in own or not name else rename(name)

    nodes = [
        replace(n, inputs=[inner(i) for i in n.inputs],
                attrs={k: closed(v, inner) if isinstance(v, Graph) else v for k, v in n.attrs.items()})
        for n in graph.nodes
    ]  # fmt: skip
    return replace(graph, nodes=nodes, outputs=[replace(p, name=inner(p.name)) for p in graph.outputs])


def without_sequences(steps: Steps, sequences: Sequences, around: Surroundings) -> tuple[Steps, dict[str, str]] | None:
    """The same loop where each state that is a sequence, which every step appends to, is an output instead; and
    sequence -> what has its values. None where a sequence is used in another way."""
    states, stacked, nodes = [], list(steps.stacked), list(steps.body.nodes)
    found: dict[str, str] = {}
    for state in steps.states:
        if around.name(state.first) not in sequences:
            states.append(state)
            continue
        inserts = [n for n in nodes if state.before in n.inputs]
        fits = len(inserts) == 1 and inserts[0].op_type == "SequenceInsert" and not inserts[0].input(2)
        if not fits or inserts[0].outputs != [state.after] or sequences.items.get(around.name(state.first)) != []:
            return None
        nodes.remove(inserts[0])
        if state.last:
            found[state.last] = f"{state.last}/steps"
            stacked.append(Stacked(inserts[0].inputs[1], found[state.last], 0, False))
    if not found and len(states) == len(steps.states):
        return steps, {}
    outputs = [p for p in steps.body.outputs if p.name not in {s.after for s in steps.states if s not in states}]
    outputs += [Port(s.inner, np.dtype(np.float32), ()) for s in stacked if s not in steps.stacked]
    outputs = list({p.name: p for p in outputs}.values())
    body = replace(steps.body, nodes=nodes, outputs=outputs)
    return replace(steps, body=body, states=states, stacked=stacked), found


def free_names(graph: Graph) -> set[str]:
    """The outer values that a subgraph reads."""
    own = {*graph.constants, *(p.name for p in graph.inputs), *(o for n in graph.nodes for o in n.outputs)}
    read = {i for n in graph.nodes for i in n.inputs if i} | {p.name for p in graph.outputs}
    for n in graph.nodes:
        for value in n.attrs.values():
            if isinstance(value, Graph):
                read |= free_names(value)
    return read - own


def as_graph(steps: Steps, around: Surroundings, opset: int) -> Graph:
    """One step as a graph of its own: states, slices, counters and what it reads from outside are inputs."""
    body = steps.body
    types = {s.before: around.type(steps.node, s.first) for s in steps.states}
    for s in steps.slices:
        outer = around.type(steps.node, s.outer)
        shape = outer.shape
        types[s.inner] = TensorType(outer.dtype, shape[: s.axis] + shape[s.axis + 1 :])
    if steps.index:
        types[steps.index] = TensorType(np.dtype(np.int64), ())
        types[steps.going] = TensorType(np.dtype(np.bool_), ())
    constants = dict(body.constants)
    free = {}
    for name in sorted(free_names(body)):
        value = around.constant(name)
        if value is not None:
            constants[name] = value
        else:
            free[name] = around.type(steps.node, name)
    ports = [Port(name, t.dtype, t.shape) for name, t in {**types, **free}.items()]
    return replace(body, inputs=ports, constants=constants, opset=opset, types={})
