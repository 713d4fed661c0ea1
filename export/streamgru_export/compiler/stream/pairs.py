"""Which inputs of a graph are states, and which outputs they become: from metadata, the caller, dataflow and
names."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from streamgru.errors import ModelError
from streamgru.notes import Note

from ...properties import state_pairs
from ..graph.graph import Graph, Node
from ..graph.kinds import RECURRENT
from .elements import SHAPING, Elements

STATE_NAME = re.compile(
    r"(^|[^a-z])(h|c|hx|cx|hc|hid|hidden|state|states|cache|caches|mem|memory|cell|carry|hprev|rnn_?state)"
    r"(\d+|[^a-z].*|in|t|n|o)?$",
    re.I,
)
AFFIX = re.compile(r"(^|_)(in|out|input|output|new|next|prev|previous|last|init|initial|old|cur|o|i|n|0)(?=_|$)", re.I)

Pair = tuple[str, str]


@dataclass(frozen=True)
class Pairs:
    """The (input, output) pairs that are states, in the order of the inputs; and of each input that looks like a state
    and is none (of "": of the whole graph) what the caller should know."""

    pairs: list[Pair]
    doubts: list[tuple[str, Note]] = field(default_factory=list)


def find_pairs(graph: Graph, declared: Iterable[Pair] | None, timed: set[str]) -> Pairs:
    """The pairs of a static graph.

    Parameters
    ----------
    declared : iterable of pairs, optional
        The caller's word; it replaces everything found. Otherwise the model's metadata does, if it has any.
    timed : set of str
        Inputs and outputs with a time axis: no states.

    Raises
    ------
    ModelError
        A declared pair that is no pair: unknown names, different shapes or dtypes, a name used twice.
    """
    if declared is None:
        declared = state_pairs(graph.metadata)
    if declared is not None:
        pairs = [(str(i), str(o)) for i, o in declared]
        _check(graph, pairs)
        return Pairs(pairs)
    search = _Search(graph, timed)
    search.by_elements()
    search.by_names()
    search.by_elimination()
    order = [p.name for p in graph.inputs]
    return Pairs(sorted(search.pairs, key=lambda pair: order.index(pair[0])), search.doubts())


def _check(graph: Graph, pairs: list[Pair]) -> None:
    inputs, outputs = ({p.name for p in ports} for ports in (graph.inputs, graph.outputs))
    for name, known, what in [(i, inputs, "input") for i, _ in pairs] + [(o, outputs, "output") for _, o in pairs]:
        if name not in known:
            raise ModelError(f"state: the graph has no {what} '{name}'; there are {sorted(known)}")
    for names in zip(*pairs, strict=True):
        if len(set(names)) < len(names):
            raise ModelError(f"state: a name stands in two pairs: {list(names)}")
    for i, o in pairs:
        if graph.types[i] != graph.types[o]:
            raise ModelError(
                f"state: input '{i}' {graph.types[i]} cannot become output '{o}' {graph.types[o]}: "
                "shape and dtype must be the same"
            )


class _Search:
    """Inputs and outputs that are still free, and the pairs found."""

    def __init__(self, graph: Graph, timed: set[str]) -> None:
        self.graph = graph
        self.pairs: list[Pair] = []
        inputs = [p.name for p in graph.inputs if p.name not in timed]
        self.outputs = [p.name for p in graph.outputs if p.name not in timed]
        self.origin = self._origins()
        self.elements = Elements(graph, inputs)
        sequences = self._sequences()
        self.inputs = [name for name in inputs if name not in sequences]

    def _origins(self) -> dict[str, set[str]]:
        """Output -> the inputs it depends on."""
        depends: dict[str, set[str]] = {p.name: {p.name} for p in self.graph.inputs}
        for node in self.graph.nodes:
            union = set().union(*(depends.get(i, set()) for i in node.inputs))
            depends.update({o: union for o in node.outputs if o})
        return {o: depends.get(o, set()) for o in self.outputs}

    def _sequences(self) -> set[str]:
        """What cells run over, before it was shaped: where that is an input it is no state, even where a cell begins
        with it too."""
        shaped: dict[str, str] = {}
        for node in self.graph.nodes:
            if node.op_type in {*SHAPING, "Transpose"}:
                shaped[node.outputs[0]] = shaped.get(node.inputs[0], node.inputs[0])
        runs = [node.inputs[0] for node in self.graph.nodes if node.op_type in RECURRENT]
        return {shaped.get(name, name) for name in runs}

    def fits(self, i: str, o: str) -> bool:
        """Whether input `i` could become output `o`: both free, one type, `o` depends on `i`, and does not have its
        elements in other places."""
        free = i in self.inputs and o in self.outputs and self.graph.types[i] == self.graph.types[o]
        return free and i in self.origin[o] and not self.elements.contradicts(i, o)

    def take(self, i: str, o: str) -> None:
        self.pairs.append((i, o))
        self.inputs.remove(i)
        self.outputs.remove(o)

    def by_elements(self) -> None:
        """An output that has every element of an input in its place, after the cells that it is the state of. Several
        are equal then: a final state before a result, one of the input's name before another, and rather the last."""
        for i in list(self.inputs):
            same = [o for o in self.outputs if self.elements.continues(i, o)]
            if same:
                shown = self.elements.is_shown
                self.take(i, max(same, key=lambda o: (not shown(o), bool(stem(i) & stem(o)), same.index(o))))

    def by_names(self) -> None:
        """`h` and `h_out`, `h1` and `h1n`, `conv_cache` and `conv_cache_out`: one stem, and a state's
        name."""
        for i in list(self.inputs):
            if STATE_NAME.search(i):
                same = [o for o in self.outputs if self.fits(i, o) and stem(i) & stem(o)]
                exact = [o for o in same if AFFIX.sub("", o).strip("_") == AFFIX.sub("", i).strip("_")]
                if len(exact or same) == 1:
                    self.take(i, (exact or same)[0])

    def by_elimination(self) -> None:
        """What is named as a state, as many outputs of its type, and one way alone to pair them all by what depends on
        what. The order in which they stand says nothing: h and c have one type."""
        groups: dict[object, list[str]] = {}
        for i in self.inputs:
            if STATE_NAME.search(i):
                groups.setdefault(self.graph.types[i], []).append(i)
        for ins in groups.values():
            outs = [o for o in self.outputs if any(self.fits(i, o) for i in ins)]
            pairs = self._only_way(ins, outs) if len(ins) == len(outs) else []
            for i, o in pairs:
                self.take(i, o)

    def _only_way(self, ins: list[str], outs: list[str]) -> list[Pair]:
        """Pairs for all of them; none where there is no way, or more than one."""
        fits, pairs = [(i, o) for i in ins for o in outs if self.fits(i, o)], []
        while fits:
            counts = Counter(name for pair in fits for name in pair)
            forced = [pair for pair in fits if 1 in (counts[pair[0]], counts[pair[1]])]
            if not forced:
                return []
            pairs.append(forced[0])
            fits = [(i, o) for i, o in fits if i != forced[0][0] and o != forced[0][1]]
        return pairs if len(pairs) == len(ins) else []

    def doubts(self) -> list[tuple[str, Note]]:
        """What is left over and looks like a state."""
        found = [(i, self._of_cell(i, self.elements.cells[i])) for i in self.inputs if i in self.elements.cells]
        fits = [(i, o) for i in self.inputs for o in self.outputs if self.fits(i, o)]
        for i in self.inputs:
            able = [pair for pair in fits if pair[0] == i]
            if able and STATE_NAME.search(i) and i not in self.elements.cells:
                text = f"which output continues it is not certain: there is no pair. If it is one, say {_listed(able)}"
                found.append((i, Note("warning", f"input '{i}' is called like a state, and {text}")))
        floats = [(i, o) for i, o in fits if self.graph.types[i].dtype.kind == "f"]
        if floats and not self.pairs and not found and len(self.graph.inputs) > 1:
            found.append(("", Note("note", f"no state was found; if one of these is one, say {_listed(floats)}")))
        return found

    def _of_cell(self, i: str, node: Node) -> Note:
        """An input that is the state of a cell, and no output is sure to continue it."""
        held = self.elements.holding(i, self.outputs)
        able = [(i, o) for o in self.outputs if self.graph.types[i] == self.graph.types[o] and i in self.origin[o]]
        turned = [o for _, o in able if o in held]
        what = f"input '{i}' is a state of {node}"
        if turned:
            return Note("warning", f"{what}, and {_names(turned)} its elements after it in another order: that is no "
                        f"pair. If it is continued so, say {_listed(able)}")  # fmt: skip
        if able:
            return Note("warning", f"{what}, and which output continues it is not certain: there is no pair. "
                        f"Say {_listed(able)}")  # fmt: skip
        if held:
            return Note("note", f"{what}, and {_names(held)} it in another shape: it stays an input, for a state goes "
                        "in and comes out as one tensor of one shape")  # fmt: skip
        return Note("note", f"{what}, and no output continues it: it stays an input")


def _names(outputs: list[str]) -> str:
    listed = ", ".join(f"'{o}'" for o in outputs)
    return f"output {listed} holds" if len(outputs) == 1 else f"outputs {listed} hold"


def _listed(pairs: list[Pair]) -> str:
    """Candidates, as the option takes them."""
    return " or ".join(f"state=[('{i}', '{o}')]" for i, o in pairs)


def stem(name: str) -> set[str]:
    """What is left of a state's name without the words for in and out; several spellings."""
    base = AFFIX.sub("", name).strip("_").lower()
    spelled = {base, re.sub(r"(n|t|x|_?in|_?out)$", "", base), re.sub(r"^(new|next|prev)_?", "", base)}
    return {s for s in spelled if s} | ({"h"} if re.fullmatch(r"h(0|x|n|t)?", base) else set())
