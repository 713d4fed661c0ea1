"""A Loop or Scan whose states are those of GRU cells, as GRUs over all its steps.

What a step computes besides is computed for all steps at once. That needs every state to be the state of a GRU in
the body, a counter that depends on no data, a value that never changes, or one that no later step reads.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from streamgru.errors import ModelError

from ..graph.budget import REST
from ..graph.evaluate import RANDOM, UNRELIABLE
from ..graph.graph import Array, Graph, Node, live_nodes
from ..graph.lifting import lift_node
from ..graph.recurrent import recurrent
from ..graph.rows import Ref, Rows
from .loops import Stacked, State, Steps, Surroundings


def to_cells(steps: Steps, graph: Graph, around: Surroundings) -> dict[str, str] | None:
    """Adds the nodes that compute all steps.

    Parameters
    ----------
    graph : Graph
        One step, static and recognised, from :func:`loops.as_graph`.

    Returns
    -------
    First outputs of the GRUs -> what they are; None, and nothing is added, where the loop is no such loop.

    Raises
    ------
    ModelError
        How often it runs depends on the data.
    """
    lift = _Lift(steps, graph, around)
    if not lift.count or not lift.read_states() or not lift.compute():
        return None
    return lift.finish()


class _Lift:
    """One loop on its way."""

    def __init__(self, steps: Steps, graph: Graph, around: Surroundings) -> None:
        self.steps, self.graph, self.around = steps, graph, around
        self.rows = Rows(graph)
        self.b = around.builder()
        self.b.name = steps.node.name or next(o for o in steps.node.outputs if o)
        self.values: dict[str, tuple[str, bool]] = {}  # the body's name -> value outside, of all steps or of each
        self.cells: dict[str, State] = {}  # first output of a GRU in the body -> its state
        self.finals: dict[str, str] = {}  # a state's name before -> its final value
        self.found: dict[str, str] = {}
        self.count, self.counters, last = self._count()
        for name, values in self.counters.items():
            around.budget.claim(steps.node, sum(value.nbytes for value in values))
            self.values[name] = self.b.constant(np.stack(values) if values else np.zeros(0), name), True
            if name in last:
                self.finals[name] = self.b.constant(last[name], f"{name}/last")

    # ---- how often, and what only counts ----

    def _count(self) -> tuple[int, dict[str, list[Array]], dict[str, Array]]:
        """Steps; the values that are known before the model runs, at each step; and after the last."""
        steps, known = self.steps, self._known()
        names = [n for n in (steps.index, steps.going) if n] + list(known)
        computed = self._computable({*names})
        if steps.condition and steps.condition not in computed:
            raise ModelError(f"{steps.node}: how often it runs depends on the data; {REST}")
        after = {s.before: s.after for s in steps.states if s.before in known}
        wanted = [*after.values(), *([steps.condition] if steps.condition else [])]
        nodes = [n for n in live_nodes(self.graph.nodes, wanted) if computed.issuperset(n.outputs)]
        assert steps.count is not None
        history: dict[str, list[Array]] = {name: [] for name in names}
        if steps.goes_on():
            self.around.budget.count(steps.node, steps.count * (len(nodes) + 1))
        t = 0
        while t < steps.count:
            if not steps.goes_on():
                self.around.budget.count(steps.node, len(nodes) + 1)
            now = {**self.graph.constants, **known}
            if steps.index:
                now |= {steps.index: np.array(t, np.int64), steps.going: np.array(True)}
            for name in names:
                history[name].append(now[name])
            for node in nodes:
                given = [now[i] if i else None for i in node.inputs]
                results = self.around.budget.evaluate(node, given, self.graph.opset)
                now.update(zip(node.outputs, results, strict=False))
            known = {name: now[after[name]] for name in known}
            t += 1
            if steps.condition and not bool(now[steps.condition].reshape(-1)[0]):
                break
        return t, history, known

    def _known(self) -> dict[str, Array]:
        """The states that depend on nothing but the number of the step: their first values."""
        firsts = {s.before: self.around.constant(s.first) for s in self.steps.states}
        known = {name: value for name, value in firsts.items() if value is not None}
        while True:
            computed = self._computable({*known, self.steps.index, self.steps.going})
            lost = [s.before for s in self.steps.states if s.before in known and s.after not in computed]
            if not lost:
                return known
            for name in lost:
                del known[name]

    def _computable(self, names: set[str]) -> set[str]:
        found = {*names, *self.graph.constants, ""}
        for node in self.graph.nodes:
            if node.op_type not in RANDOM | UNRELIABLE and found.issuperset(node.inputs):
                found.update(node.outputs)
        return found

    # ---- the other states ----

    def read_states(self) -> bool:
        """Finds the GRU of each state; values that never change are what they are outside."""
        outside = {*(p.name for p in self.graph.inputs)} - {s.before for s in self.steps.states}
        outside -= {s.inner for s in self.steps.slices} | {self.steps.index, self.steps.going}
        self.values.update({name: (self.around.name(name), False) for name in outside})
        for state in self.steps.states:
            if state.before in self.counters:
                continue
            before, after = self.rows.whole(state.before), self.rows.whole(state.after)
            if before == after:
                self.values[state.before] = self.around.name(state.first), False
                self.finals[state.before] = self.around.name(state.first)
                continue
            node = self.rows.producer(after)
            if node is not None and self._is_cell(node, before, after):
                self.cells[next(o for o in node.outputs if o)] = state
        return bool(self.cells)

    def _is_cell(self, node: Node, before: Ref, after: Ref) -> bool:
        """A GRU of one step from the state before to the state after."""
        if node.op_type != "GRU" or recurrent(node).batch_first or node.input(4) or not node.input(5):
            return False
        if any(node.input(i) and node.input(i) not in self.graph.constants for i in (1, 2, 3)):
            return False
        one = self.graph.types[node.inputs[0]].shape[0] == 1
        return recurrent(node).is_forward and one and after.rows is None and self.rows.whole(node.inputs[5]) == before

    # ---- all steps at once ----

    def compute(self) -> bool:
        """Every node of the body that is needed, for all steps."""
        for s in self.steps.slices:
            value = self.b.move_axis(self.around.name(s.outer), s.axis, 0)
            if s.reverse:
                value = self.b.entries(value, np.arange(self.count)[::-1], 0)
            self.values[s.inner] = value, True
        needed = self._needed()
        others = {s.before for s in self.steps.states} - self.values.keys()
        if others & needed:
            return False  # a later step reads a state that is no GRU's
        for node in self.graph.nodes:
            if needed.intersection(node.outputs) and not self._node(node, needed):
                return False
        return True

    def _needed(self) -> set[str]:
        """The values of the body that anything outside depends on, or a GRU."""
        needed: set[str] = set()
        todo = [s.inner for s in self.steps.stacked]
        todo += [s.after for s in self.steps.states if s.before not in self.finals]
        while todo:
            name = todo.pop()
            node = self.rows.producers.get(name)
            if name in needed:
                continue
            needed.add(name)
            if node is not None:
                todo += [node.inputs[0]] if self._state_of(node) else [i for i in node.inputs if i]
        return needed

    def _state_of(self, node: Node) -> State | None:
        return self.cells.get(next((o for o in node.outputs if o), "")) if node.op_type == "GRU" else None

    def _value(self, name: str) -> tuple[str, bool]:
        if name and name not in self.values:
            self.values[name] = self.b.constant(self.graph.constants[name], name), False
        return self.values[name] if name else ("", False)

    def _node(self, node: Node, needed: set[str]) -> bool:
        b, state = self.b, self._state_of(node)
        if state is not None:
            self._cell(node, state)
            return True
        inputs = [self._value(i) for i in node.inputs]
        names, lifted = [n for n, _ in inputs], [is_lifted for _, is_lifted in inputs]
        if not any(lifted):
            outputs = [b.free(f"{b.name}/{o}") if o else "" for o in node.outputs]
            b.add(replace(node, inputs=names, outputs=outputs))
            self.values.update({o: (n, False) for o, n in zip(node.outputs, outputs, strict=True) if o})
            return True
        for o in node.outputs:
            if o in needed:
                value = lift_node(b, node, o, names, lifted, self.graph.types, self.count)
                if value is None:
                    return False
                self.values[o] = value, True
        return True

    def _cell(self, node: Node, state: State) -> None:
        """The GRU of a step as a GRU over all steps."""
        b, (x, is_lifted) = self.b, self._value(node.inputs[0])
        one = self.graph.types[node.inputs[0]].shape
        shape = (self.count, *one[1:])
        x = b.reshape(x, shape) if is_lifted else self._repeated(x, shape)
        _, batch, hidden = self.graph.types[node.inputs[5]].shape
        h0 = b.reshape(self.around.name(state.first), (1, batch, hidden))
        y, final = b.free(f"{b.name}/Y"), b.free(f"{b.name}/Y_h")
        weights = [self._value(node.input(i))[0] for i in (1, 2, 3)]
        b.add(replace(node, inputs=[x, *weights, "", h0], outputs=[y, final]))
        self.finals[state.before] = b.reshape(final, self.graph.types[state.after].shape)
        frames = b.reshape(y, (self.count, 1, batch, hidden))
        if node.output(0):
            self.values[node.outputs[0]] = b.reshape(y, (self.count, 1, 1, batch, hidden)), True
        if node.output(1):
            self.values[node.outputs[1]] = frames, True
        form = f"linear_before_reset={int(recurrent(node).linear_before_reset)}"
        self.found[y] = f"{self.steps.node} is a GRU over all its steps, {form}"

    def _repeated(self, value: str, shape: tuple[int, ...]) -> str:
        """The same at every step."""
        return self.b.emit("Expand", [value, self.b.constant(np.array(shape, np.int64), "shape")])

    def _all_steps(self, name: str) -> str:
        value, is_lifted = self._value(name)
        if is_lifted:
            return value
        shape = self.b.shape(value)
        return self._repeated(self.b.reshape(value, (1, *shape)), (self.count, *shape))

    # ---- what comes out ----

    def finish(self) -> dict[str, str]:
        """Names the outputs, and hands everything over."""
        b = self.b
        for s in self.steps.stacked:
            self._stacked(s)
        for state in self.steps.states:
            if not state.last:
                continue
            if state.before in self.finals:
                b.emit("Identity", [self.finals[state.before]], state.last)
            else:  # no later step reads it: what the last step makes of it
                last = b.constant(np.int64(-1), "last")
                b.emit("Gather", [self._all_steps(state.after), last], state.last, axis=0)
        self.around.take(b)
        return self.found

    def _stacked(self, s: Stacked) -> None:
        b, value = self.b, self._all_steps(s.inner)
        if s.reverse:
            value = b.entries(value, np.arange(self.count)[::-1], 0)
        rank = len(b.shape(value))
        value = b.move_axis(value, 0, s.axis % rank)
        b.emit("Identity", [value], s.outer)
