"""Binds every dimension to a number, computes all that depends on no input, gives every value its type, and puts GRU
nodes in the place of their pieces.

After this a graph is static: no Shape, no Identity, no inference-time Dropout, no If, no Loop. Shapes are inferred
forward from the inputs alone; what the file declares about outputs or in between is not looked at.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np

from streamgru.errors import ModelError
from streamgru.layout import MAX_ELEMENTS

from ..cells.recognise import recognise
from ..graph.blame import blaming
from ..graph.budget import REST, Budget
from ..graph.builder import Builder
from ..graph.evaluate import RANDOM, UNRELIABLE, DependsOnDataError, infer
from ..graph.graph import Array, Control, Graph, Node, Port, TensorType, live_nodes
from ..graph.operators import shape_part, subgraph
from ..graph.schema import check_operands
from .fold import constant_values, fold
from .loop_cells import to_cells
from .loops import Surroundings, as_graph, closed, read_loop, read_scan, without_sequences, write_out
from .sequences import OPERATORS as SEQUENCES
from .sequences import Sequences

LOOPS = {"Loop", "Scan", "SequenceMap"}
Verifier = Callable[[Graph], None]


class Specialiser:
    """One graph, specialised once for each binding. The results are shared: whoever rewrites one takes a copy.

    Parameters
    ----------
    graph : Graph
        As the reader gives it. What depends on no input and no shape is computed once, for all bindings.
    verify : function, optional
        Called with what each pass leaves behind.
    budget : Budget, optional
        What it may cost, with all that was spent already.
    """

    def __init__(self, graph: Graph, verify: Verifier = lambda _: None, budget: Budget | None = None) -> None:
        self.budget, self.verify = budget or Budget(), verify
        self.budget.hold_all(graph)
        self.graph = fold(graph, self.budget)
        self._known: dict[frozenset[tuple[str, int]], Graph] = {}

    def __call__(self, dims: Mapping[str, int]) -> Graph:
        """As :func:`specialise`."""
        key = frozenset(dims.items())
        if key not in self._known:
            self.budget.begin(self.graph)
            self._known[key] = _specialise(self.graph, dims, self.budget, self.verify)
        return self._known[key]

    def once(self, dims: Mapping[str, int]) -> Graph:
        """The same, kept by nobody, for a tenth of the operations that are left. ModelError where it takes more."""
        key = frozenset(dims.items())
        if key in self._known:
            return self._known[key]
        spare = self.budget.work - self.budget.work // 10
        self.budget.work -= spare
        try:
            self.budget.begin(self.graph)
            return _specialise(self.graph, dims, self.budget, self.verify)
        finally:
            self.budget.work += spare

    def of(self, graph: Graph) -> Specialiser:
        """The same for another graph."""
        return Specialiser(graph, self.verify, self.budget)


def specialise(graph: Graph, dims: Mapping[str, int], verify: Verifier = lambda _: None) -> Graph:
    """The static graph with the named dimensions bound.

    Parameters
    ----------
    graph : Graph
        As the reader gives it.
    dims : mapping
        Dimension name -> number. Every symbolic dimension of the inputs must be there.
    verify : function, optional
        Called with what each pass leaves behind.

    Raises
    ------
    ModelError
        A dimension is unbound, shapes contradict each other, an output is no function of the inputs' shapes.
    """
    return Specialiser(graph, verify)(dims)


def _specialise(graph: Graph, dims: Mapping[str, int], budget: Budget, verify: Verifier) -> Graph:
    walk = _Walk(graph, dims, budget, verify)
    for node in graph.nodes:
        with blaming(node):
            walk.visit(node)
    static = walk.result()
    verify(static)
    recognised = recognise(static)
    if recognised is not static:
        verify(recognised)
    return recognised


class _Walk:
    """One walk through the nodes, in order."""

    def __init__(self, graph: Graph, dims: Mapping[str, int], budget: Budget, verify: Verifier) -> None:
        self.graph, self.verify, self.budget = graph, verify, budget
        self.constants: dict[str, Array] = dict(graph.constants)
        self.types = {k: TensorType(v.dtype, v.shape) for k, v in graph.constants.items()}
        self.alias: dict[str, str] = {}  # outputs of Identity and the like -> what they are
        self.nodes: list[Node] = []
        self.inputs = [_bound(p, dims) for p in graph.inputs]
        for p in self.inputs:
            self.types[p.name] = TensorType(p.dtype, tuple(int(d) for d in p.shape))
        self.sequences = Sequences()
        self.recognised = dict(graph.recognised)
        self.control = dict(graph.control)
        self._around = Surroundings(
            self.types, self.constants, lambda name: self.alias.get(name, name), self.visit,
            lambda: Builder(self.types, self.constants, graph.opset), budget,
        )  # fmt: skip

    def visit(self, node: Node) -> None:
        self.budget.visit(node)
        node = replace(
            node,
            inputs=[self.alias.get(i, i) for i in node.inputs],
            outputs=list(node.outputs),
            attrs=dict(node.attrs),
        )
        try:
            self._visit(node)
        except DependsOnDataError as error:
            raise ModelError(f"{error}{self._advice(node)}") from None

    def _advice(self, node: Node) -> str:
        """Where all hangs on inputs of one number each: that they may be bound."""
        unknown = [i for i in node.inputs if i in self.types and i not in self.constants]
        hanging = [i for i in unknown if node.op_type in ("If", "Loop") or self.types[i].dtype.kind in "ib"]
        read = {*hanging, *(i for n in live_nodes(self.nodes, hanging) for i in n.inputs)}
        sources = [p.name for p in self.inputs if p.name in read]
        if not sources or any(self.types[name].size != 1 for name in sources):
            return ""
        numbers = ", ".join(f"'{name}': number" for name in sources)
        return f". It hangs on one number: where that is always the same, bind it with values={{{numbers}}}"

    def _visit(self, node: Node) -> None:
        if node.op_type in LOOPS:
            self._loop(node)
        elif node.op_type in SEQUENCES:
            built = self.sequences.visit(node, self.constants, self._around.builder)
            if built is not None:
                self._around.take(built)
        elif node.op_type == "If":
            self._branch(node)
        elif node.op_type == "Identity" and node.inputs[0] in self.sequences:
            self.alias[node.outputs[0]] = node.inputs[0]
        else:
            self._of_tensors(node)

    def _of_tensors(self, node: Node) -> None:
        if node.op_type == "Identity" or _is_inference_dropout(node, self.constants):
            self._drop(node)
        elif node.op_type in ("Shape", "Size"):
            self._shape(node)
        else:
            self._ordinary(node)

    def _ordinary(self, node: Node) -> None:
        types = infer(node, self.types, self.constants, self.graph.opset)
        empty = next((o for o, t in types.items() if t.size == 0), None)
        if node.op_type not in RANDOM | UNRELIABLE and all(not i or i in self.constants for i in node.inputs):
            self._fold(node, types)
            return
        self.types.update(types)
        if empty is not None and len(types) == 1:
            self._set(empty, np.zeros(types[empty].shape, types[empty].dtype))
            return
        if node.op_type == "Cast" and types[node.outputs[0]].dtype == self.types[node.inputs[0]].dtype:
            self.alias[node.outputs[0]] = node.inputs[0]
            return
        self.nodes.append(node)

    def _fold(self, node: Node, types: Mapping[str, TensorType]) -> None:
        for o, value in constant_values(node, self.constants, types, self.graph.opset, self.budget).items():
            self._set(o, value)

    def _set(self, name: str, value: Array) -> None:
        self.constants[name] = value
        self.types[name] = TensorType(value.dtype, value.shape)

    def _drop(self, node: Node) -> None:
        """The output is the input. A Dropout's mask is all ones."""
        check_operands(node, self.types, self.graph.opset)
        source = node.inputs[0]
        self.alias[node.outputs[0]] = source
        if source in self.constants:
            self._set(node.outputs[0], self.constants[source])
        if node.output(1):
            self._set(node.outputs[1], np.broadcast_to(np.True_, self.types[source].shape))

    def _shape(self, node: Node) -> None:
        check_operands(node, self.types, self.graph.opset)
        shape = self.types[node.inputs[0]].shape
        if node.op_type == "Size":
            self._set(node.outputs[0], np.array(int(np.prod(shape)), np.int64))
            return
        self._set(node.outputs[0], np.array(shape[shape_part(node)], np.int64))

    def _branch(self, node: Node) -> None:
        """If with a constant condition: the branch taken replaces it."""
        condition = self.constants.get(node.inputs[0])
        if condition is None:
            raise DependsOnDataError(
                f"{node}: its condition depends on the data; only one known from the shapes can be compiled"
            )
        taken = bool(condition.reshape(-1)[0])
        self.control[node.outputs[0]] = Control(node, int(taken))
        inner = subgraph(node, "then_branch" if taken else "else_branch")
        if len(inner.outputs) != len(node.outputs):
            raise ModelError(f"{node} has {len(node.outputs)} outputs, and its branch {len(inner.outputs)}")
        prefix = f"{node.outputs[0]}/"
        own = {*inner.constants, *(o for n in inner.nodes for o in n.outputs if o)}
        rename = {name: prefix + name for name in own}
        for name, value in inner.constants.items():
            self._set(rename[name], value)
        for n in inner.nodes:
            attrs = {
                k: closed(v, lambda i: rename.get(i, i)) if isinstance(v, Graph) else v for k, v in n.attrs.items()
            }
            self.visit(replace(n, inputs=[rename.get(i, i) for i in n.inputs],
                               outputs=[rename.get(o, o) for o in n.outputs], attrs=attrs))  # fmt: skip
        for o, port in zip(node.outputs, inner.outputs, strict=True):
            source = rename.get(port.name, port.name)
            self._drop(Node("Identity", node.name, [self.alias.get(source, source)], [o]))

    def _loop(self, node: Node) -> None:
        """Loop and Scan: as GRUs over all steps where the body is one, else step after step."""
        around, opset = self._around, self.graph.opset
        if node.op_type == "SequenceMap" or (node.op_type == "Scan" and opset < 9):
            raise ModelError(f"{node}: this kind of loop is not supported; {REST}")
        steps = read_scan(node, around) if node.op_type == "Scan" else read_loop(node, around)
        plain = without_sequences(steps, self.sequences, around)
        if plain is not None:
            try:
                body = _specialise(as_graph(plain[0], around, opset), {}, around.budget, self.verify)
            except ModelError:  # shapes that follow from the number of the step
                body = None
            found = to_cells(plain[0], body, around) if body is not None else None
            if body is not None and found is not None:
                self.recognised.update(found)
                self.control.update(body.control)
                self.sequences.steps.update({last: self.alias.get(v, v) for last, v in plain[1].items()})
                return
        firsts = [around.constant(s.first) for s in steps.states]
        forgets = any(value is not None and value.dtype.kind == "f" for value in firsts)
        backward = any(s.reverse for s in steps.slices)
        self.control[next(o for o in node.outputs if o)] = Control(node, write_out(steps, around), forgets, backward)

    def result(self) -> Graph:
        """The static graph: dead nodes dropped, every output written by a node of its own or an input."""
        outputs: list[Port] = []
        for port in self.graph.outputs:
            source = self.alias.get(port.name, port.name)
            if source == port.name and source in self.constants:
                source = f"{port.name}/constant"
                self._set(source, self.constants.pop(port.name))
                for node in self.nodes:
                    node.inputs = [source if i == port.name else i for i in node.inputs]
            if source not in self.types:
                raise ModelError(f"output '{port.name}' is no tensor")
            if source != port.name:  # an Identity keeps the output's own name
                self.nodes.append(Node("Identity", port.name, [source], [port.name]))
                self.types[port.name] = self.types[source]
            t = self.types[port.name]
            if t.size == 0:
                raise ModelError(f"output '{port.name}' is empty: its shape is {list(t.shape)}")
            outputs.append(Port(port.name, t.dtype, t.shape))
        nodes = live_nodes(self.nodes, [p.name for p in outputs])
        used = {i for n in nodes for i in n.inputs}
        constants = {k: v for k, v in self.constants.items() if k in used}
        return replace(self.graph, nodes=nodes, inputs=self.inputs, outputs=outputs, constants=constants,
                       types=self.types, recognised=self.recognised, control=self.control)  # fmt: skip


def _bound(port: Port, dims: Mapping[str, int]) -> Port:
    for d in port.shape:
        if isinstance(d, str) and d not in dims:
            raise ModelError(f"input '{port.name}': its dimension '{d}' is unbound; give dims={{'{d}': number}}")
    shape = tuple(dims[d] if isinstance(d, str) else d for d in port.shape)
    if TensorType(port.dtype, shape).size > MAX_ELEMENTS:
        raise ModelError(f"input '{port.name}' of shape {list(shape)} is too large")
    return replace(port, shape=shape)


def _is_inference_dropout(node: Node, constants: Mapping[str, Array]) -> bool:
    """A Dropout that drops nothing. One exported in training mode is refused: it would be random."""
    if node.op_type != "Dropout":
        return False
    training = constants.get(node.input(2))
    ratio = constants.get(node.input(1))
    if training is None and node.input(2):
        raise ModelError(f"{node}: its training_mode depends on an input; export the model in eval mode")
    for value in (training, ratio):
        if value is not None and value.size != 1:
            raise ModelError(f"{node}: its ratio and training_mode are one number each, not {list(value.shape)}")
    if training is not None and bool(training) and (ratio is None or float(ratio) != 0.0):
        raise ModelError(f"{node}: exported in training mode, it drops at random; call model.eval() and export again")
    return True
