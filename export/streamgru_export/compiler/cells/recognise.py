"""Recognises GRU cells that an exporter took to pieces, and puts GRU nodes in their place.

By dataflow only: a cell is what :mod:`cells` can read as one. Copies of a cell that hand their state on become one
GRU over all steps (:mod:`unrolled`). What is no cell exactly stays as it is.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from ..graph.builder import Builder
from ..graph.graph import Graph, live_nodes
from ..graph.order import in_order
from ..graph.rows import Ref, Rows
from .cells import Cell, find_cell
from .unrolled import Unrolled, chains

ROOTS = {"Add", "Sub", "Sum", "Neg", "Where"}
GATES = {"Sigmoid", "HardSigmoid", "Clip", "Min"}


def recognise(graph: Graph) -> Graph:
    """The static graph with its GRU cells as GRU nodes; `recognised` says which they are.

    Parameters
    ----------
    graph : Graph
        Specialised: every value has its type, and nothing is left that depends on no input.
    """
    if not any(n.op_type in GATES for n in graph.nodes):
        return graph
    rows = Rows(graph)
    cells, starts = _find(graph, rows)
    return _Rewrite(graph, rows, cells, starts).result() if cells else graph


def _find(graph: Graph, rows: Rows) -> tuple[dict[str, Cell], dict[str, Cell]]:
    """New state -> its cell; those whose h is a constant, which are cells only as the first of copies, apart. From
    the outputs back, so that what a cell covers is not looked at again."""
    needed = {p.name for p in graph.outputs}
    cells: dict[str, Cell] = {}
    starts: dict[str, Cell] = {}
    for node in reversed(graph.nodes):
        if not needed.intersection(node.outputs):
            continue
        cell = find_cell(rows, node.outputs[0]) if node.op_type in ROOTS else None
        if cell is not None and cell.h is not None:
            cells[cell.root] = cell
            needed.update(ref.name for ref in (cell.h, *cell.xs))
            needed.update(rows.named.get(ref, ref.name) for ref in (cell.h, *cell.xs))
            continue
        if cell is not None:
            starts[cell.root] = cell
        needed.update(node.inputs)
    return cells, starts


class _Rewrite:
    """The graph on its way to another."""

    def __init__(self, graph: Graph, rows: Rows, cells: dict[str, Cell], starts: dict[str, Cell]) -> None:
        self.graph, self.rows, self.cells = graph, rows, cells
        self.builder = Builder(graph.types, graph.constants, graph.opset)
        self.recognised = dict(graph.recognised)
        self.pieces = set(graph.pieces)
        self.gone: set[str] = set()
        self.unrolled = Unrolled(rows, self.builder)
        self.chains = chains(rows, cells, starts)

    def result(self) -> Graph:
        single = dict(self.cells)
        for chain in self.chains:
            made = self.unrolled.merge(chain)
            if made:
                node, name = made, self._name(chain[-1].root)
                self.recognised[node] = (
                    f"{len(chain)} copies of a GRU cell, the last at {name}, are one GRU over {len(chain)} steps, "
                    f"{_form(chain[0])}"
                )
                self.gone.update(cell.root for cell in chain)
                for cell in chain:
                    single.pop(cell.root, None)
                    self._take_to_pieces(cell)
        for root, cell in single.items():
            self._replace(cell)
            self.gone.add(root)
        self.gone |= self.unrolled.stack_outputs(self.graph)
        kept = [n for n in self.graph.nodes if not self.gone.intersection(n.outputs)]
        nodes = in_order([*kept, *self.builder.nodes])
        nodes = live_nodes(nodes, [p.name for p in self.graph.outputs])
        used = {i for n in nodes for i in n.inputs}
        constants = {**self.graph.constants, **self.builder.new_constants}
        live = {o for n in nodes for o in n.outputs if o}
        return replace(
            self.graph, nodes=nodes, constants={k: v for k, v in constants.items() if k in used},
            types={**self.graph.types, **self.builder.new_types},
            recognised={o: note for o, note in self.recognised.items() if o in live}, pieces=self.pieces,
        )  # fmt: skip

    def _replace(self, cell: Cell) -> None:
        """One cell as a GRU of one step."""
        b, rows = self.builder, self.rows
        node = rows.producers[cell.root]
        b.name = node.name or cell.root
        assert cell.h is not None
        batch = rows.matrix(cell.root)[0]
        parts = [b.reshape(self.unrolled.value(x), (1, batch, n)) for x, n in zip(cell.xs, cell.widths, strict=True)]
        x = parts[0] if len(parts) == 1 else b.emit("Concat", parts, axis=2)
        h0 = b.reshape(self.unrolled.value(cell.h), (1, batch, cell.size))
        _, final = self.unrolled.gru(cell, x, h0, with_y=False)
        b.reshape(final, self.graph.types[cell.root].shape, cell.root)
        count = self._take_to_pieces(cell)
        self.recognised[final] = f"{count} nodes at {self._name(cell.root)} are a GRU cell, {_form(cell)}"

    def _take_to_pieces(self, cell: Cell) -> int:
        """Notes which nodes were the cell; their number."""
        covered = self._covered(cell)
        self.pieces.update(o for o, i in self.rows.index.items() if i in covered)
        return len(covered)

    def _name(self, root: str) -> str:
        return f"'{self.rows.producers[root].name or root}'"

    def _covered(self, cell: Cell) -> set[int]:
        """The nodes between a cell's inputs and its new state."""
        stop = {name for ref in (cell.h, *cell.xs) if ref is not None for name in _spellings(self.rows, ref)}
        found: set[int] = set()
        todo = [cell.root]
        while todo:
            name = todo.pop()
            node = self.rows.producers.get(name)
            if node is None or self.rows.first(name) in stop or name in stop or self.rows.index[name] in found:
                continue
            found.add(self.rows.index[name])
            todo += [i for i in node.inputs if i]
        return found


def _spellings(rows: Rows, ref: Ref) -> Iterable[str]:
    yield ref.name
    if ref in rows.named:
        yield rows.named[ref]


def _form(cell: Cell) -> str:
    return f"linear_before_reset={cell.parameters.linear_before_reset}"
