"""sequence_lens in a stream. The n frames of a sequence come one after the other, and a cell of one frame is told
whether the frame is still one of its sequence:

    1 where t < length, else 0: its y is zero, and its state stays what it was.

Where the lengths come from an input, a state says which frame it is and how many there are: `Model.run` knows, and
writes it there. In a stream of single frames each is a sequence of its own, so that the length must be 1; anything else
becomes a length that no frame has, and the core refuses the step. Lengths that are constants of the file count from
reset. It all is arithmetic of float32, which every operator set has; frames are counted up to 2^24.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from onnx import TensorProto

from streamgru.errors import CannotStreamError, Obstacle
from streamgru.lengths import FRAME, MOST_FRAMES, Lengths

from ..graph.builder import Builder
from ..graph.graph import Array, Graph, Node, Port, TensorType, live_nodes
from ..graph.kinds import RECURRENT
from ..graph.recurrent import recurrent
from .places import RUN_WHOLE
from .slots import Slot

F32 = np.dtype(np.float32)


Rule = Callable[[str], str]  # from one value to another


@dataclass(frozen=True)
class Told:
    """A graph whose cells are told of each frame whether it belongs to the sequence."""

    graph: Graph
    slots: list[Slot]
    lengths: Lengths
    notes: list[str]


def tell_cells(graph: Graph, along_time: set[str] | None, full: set[str]) -> Told:
    """Puts, in the place of sequence_lens, what it means for one frame.

    Parameters
    ----------
    graph : Graph
        Static, of one frame.
    along_time : set of str or None
        First outputs of the cells that run along time. None: the graph is a step, and all cells of one step are.
    full : set of str
        First outputs of those whose sequence_lens are as long as any sequence is.

    Raises
    ------
    CannotStreamError
        Constant lengths of zero, or of more frames than are counted.
    """
    walk = _Walk(graph.copied())
    for node in walk.graph.nodes:
        if node.op_type in RECURRENT and node.input(4):
            first = next(o for o in node.outputs if o)
            if first in full:
                node.inputs[4] = ""
            elif along_time is None and graph.types[node.inputs[0]].shape[recurrent(node).time_axis] == 1:
                walk.of_one_step(node)
            elif along_time is not None and first in along_time:
                walk.of_frames(node)
    return walk.result()


def sources_of_lengths(graph: Graph) -> tuple[str, ...]:
    """The inputs of a static graph that its cells' lengths come from."""
    lens = [n.input(4) for n in graph.nodes if n.op_type in RECURRENT and n.input(4)]
    return tuple(_sources(graph, lens)) if lens else ()


def _sources(graph: Graph, values: Sequence[str]) -> list[str]:
    """The inputs that these values come from."""
    read = {*values, *(i for n in live_nodes(graph.nodes, values) for i in n.inputs)}
    return [p.name for p in graph.inputs if p.name in read]


class _Walk:
    """The cells one after the other; those of equal lengths share what they are told."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.b = Builder(graph.types, graph.constants, graph.opset)
        self.b.name = "sequence_lens"
        self.told: dict[str, str] = {}  # sequence_lens -> whether this frame belongs to them
        self.before: dict[str, list[Node]] = {}  # what is told -> the nodes that compute it
        self.slots: dict[str, Slot] = {}
        self.inputs: dict[str, None] = {}
        self.notes: list[str] = []

    def of_one_step(self, node: Node) -> None:
        """The whole sequence is one frame: 1, and anything else is refused."""
        if node.inputs[4] not in self.graph.constants:
            one = self.b.constant(np.float32(1), "one")
            self._tell(node, lambda v: self._sum(one, self._outside(v, one, one)))

    def of_frames(self, node: Node) -> None:
        """One frame of a sequence."""
        value = self.graph.constants.get(node.inputs[4])
        if value is None:
            self._tell(node, self._of_input)
            return
        if (value < 1).any() or (value > MOST_FRAMES).any():
            why = f"its sequence_lens {value.tolist()} lie outside of 1 .. {MOST_FRAMES}"
            raise CannotStreamError([Obstacle(str(node), why, RUN_WHOLE)])
        self.notes.append(
            f"{node}: its sequence_lens {value.tolist()} are numbers of the file: counted from reset, its output is "
            "zero from there on, and its state stays"
        )
        self._tell(node, self._of_constant)

    def _tell(self, node: Node, rule: Rule) -> None:
        lens = node.inputs[4]
        if lens not in self.told:
            start = len(self.b.nodes)
            value = rule(self.b.emit("Cast", [lens], to=TensorProto.FLOAT))
            self.told[lens] = self.b.emit("Cast", [value], to=TensorProto.INT32)
            self.before[self.told[lens]] = self.b.nodes[start:]
            if lens not in self.graph.constants:
                self.inputs.update(dict.fromkeys(_sources(self.graph, [lens])))
        node.inputs[4] = self.told[lens]

    # ---- what is computed of the lengths v [B] ----

    def _of_input(self, v: str) -> str:
        """1 or 0 within the bounds that the state has, 2 or more outside of them."""
        state = self._state("frame", FRAME, lambda s: self._sum(s, self._times(self._part(s, 3), [1, 0, 0, 0])))
        seen, low, high = (self._part(state, i) for i in range(3))
        return self._sum(self._up_to_one(self._less(v, seen)), self._times(self._outside(v, low, high), [2]))

    def _of_constant(self, v: str) -> str:
        state = self._state("since reset", (0,), lambda s: self._sum(s, self.b.constant(np.array([1], F32), "one")))
        return self._up_to_one(self._less(v, state))

    def _outside(self, v: str, low: str, high: str) -> str:
        """0 where low <= v <= high, else 1."""
        return self._sum(self._up_to_one(self._less(low, v)), self._up_to_one(self._less(v, high)))

    def _up_to_one(self, v: str) -> str:
        """min(max(v, 0), 1): exactly, and in every operator set."""
        return self.b.emit("HardSigmoid", [v], alpha=1.0, beta=0.0)

    def _sum(self, a: str, b: str) -> str:
        return self.b.emit("Add", [a, b])

    def _less(self, a: str, b: str) -> str:
        return self.b.emit("Sub", [a, b])

    def _times(self, a: str, factors: list[int]) -> str:
        return self.b.emit("Mul", [a, self.b.constant(np.array(factors, F32), "factors")])

    def _part(self, state: str, i: int) -> str:
        return self.b.emit("Gather", [state, self.b.constant(np.array([i]), "part")], axis=0)

    def _state(self, what: str, reset: Sequence[float], step: Rule) -> str:
        """The value of a state, which all cells share."""
        if what not in self.slots:
            start: Array = np.array(reset, F32)
            name = self.b.free(f"sequence_lens/{what}")
            self.b.types[name] = TensorType(F32, start.shape)
            self.graph.inputs.append(Port(name, F32, start.shape))
            self.slots[what] = Slot(f"sequence_lens.{what}", name, step(name), start)
        return self.slots[what].input

    # ---- the graph ----

    def result(self) -> Told:
        if not self.told:
            return Told(self.graph, [], Lengths(), [])
        nodes = []
        for node in self.graph.nodes:
            nodes += self.before.pop(node.input(4), []) if node.op_type in RECURRENT else []
            nodes.append(node)
        graph = replace(self.graph, nodes=nodes, types={**self.graph.types, **self.b.new_types},
                        constants={**self.graph.constants, **self.b.new_constants})  # fmt: skip
        state = self.slots["frame"].name if "frame" in self.slots else ""
        return Told(graph, list(self.slots.values()), Lengths(tuple(self.inputs), state), self.notes)
