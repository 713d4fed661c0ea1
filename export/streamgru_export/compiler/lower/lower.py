"""From a static graph to a step program: the table of all ONNX operators that can be lowered, and the walk.

A new operator is one function in a lower_*.py and one row in that file's LOWER.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping

from streamgru.errors import ModelError
from streamgru.layout import Kind

from ..graph.blame import blaming
from ..graph.budget import Budget
from ..graph.evaluate import RANDOM
from ..graph.graph import Graph, Node, live_nodes
from ..graph.kinds import RECURRENT
from ..program.program import Program, Tensor
from ..program.views import View, whole
from ..stream.slots import Slot
from . import conv as lower_conv
from . import dense as lower_dense
from . import einsum, reverse
from . import elementwise as lower_elementwise
from . import move as lower_move
from . import recurrent as lower_recurrent
from . import reduce as lower_reduce
from .context import Context
from .states import States, views_first

LOWER: dict[str, Callable[[Context, Node], None]] = {
    **lower_move.LOWER,
    **lower_elementwise.LOWER,
    **lower_dense.LOWER,
    **lower_reduce.LOWER,
    **lower_conv.LOWER,
    **einsum.LOWER,
    **reverse.LOWER,
}


RANDOMLY = "it is random, and gives another answer each time. Let the model give what it draws from, and draw outside"


def check_operators(graph: Graph) -> None:
    """Refuses operators that nothing lowers, so that no other reason is given for them.

    Raises
    ------
    ModelError
        Naming the first node of one.
    """
    for node in live_nodes(graph.nodes, [p.name for p in graph.outputs]):
        if node.op_type not in LOWER and node.op_type not in RECURRENT:
            raise _unknown(node)


def _unknown(node: Node) -> ModelError:
    why = f": {RANDOMLY}" if node.op_type in RANDOM else ""
    return ModelError(f"{node}: the operator {node.op_type} is not supported{why}")


def lower(graph: Graph, slots: list[Slot], axes: Mapping[str, int | None], budget: Budget | None = None) -> Program:
    """The program of a static graph.

    Parameters
    ----------
    graph : Graph
        From :func:`compiler.static.specialise.specialise`.
    slots : list of Slot
        The graph inputs that are states; they and their outputs are no inputs or outputs of the program.
    axes : mapping
        Input or output name -> its time axis, of size 1, which frames do not have.
    budget : Budget, optional
        What is left of the compilation's.

    Raises
    ------
    ModelError
        Naming the node that cannot be lowered, and why.
    """
    ctx = Context(graph, budget)
    taken = {s.input for s in slots} | {s.output for s in slots if s.is_pair}
    given = [p.name for p in graph.outputs]
    outputs = [name for name in given if name not in taken] or given  # a bare cell's result is its state
    for port in graph.inputs:
        if port.name not in taken:
            shape = ctx.type(port.name).shape
            tensor = ctx.new(port.name, _frame(shape, axes.get(port.name)), port.dtype)
            ctx.program.inputs.append(tensor)
            ctx.views[port.name] = whole(tensor, shape)
    states = States(ctx, slots)
    states.declare()
    nodes = live_nodes(graph.nodes, [*outputs, *(value for value, _ in states.pieces)])
    looking, computing = views_first(graph, nodes, slots)
    for node in looking:
        lower_node(ctx, node, {})
    states.choose_in_place([*looking, *computing], outputs)
    ctx.uses = Counter(i for n in nodes for i in n.inputs if i)
    ctx.uses.update([*outputs, *(value for value, _ in states.pieces if value not in states.targets)])
    for node in computing:
        lower_node(ctx, node, states.targets)
    ctx.node = None
    for name in outputs:
        ctx.program.outputs.append(_output(ctx, name, axes.get(name)))
    states.finish()
    return ctx.program


def lower_node(ctx: Context, node: Node, targets: dict[str, View]) -> None:
    """One node, by the table."""
    with blaming(node):
        _lower(ctx, node, targets)


def _lower(ctx: Context, node: Node, targets: dict[str, View]) -> None:
    ctx.node = node
    if node.op_type in RECURRENT:
        lower_recurrent.lower(ctx, node, targets)
        return
    function = LOWER.get(node.op_type)
    if function is None:
        raise _unknown(node)
    function(ctx, node)
    if node.op_type not in lower_move.VIEWS:
        for o in node.outputs:  # passed through untouched; but a state may be written before it is read
            if o in ctx.views and ctx.views[o].tensor.kind == Kind.STATE:
                ctx.views[o] = ctx.copied(ctx.views[o])


def _frame(shape: tuple[int, ...], axis: int | None) -> tuple[int, ...]:
    """The shape without the time axis."""
    return shape if axis is None else shape[:axis] + shape[axis + 1 :]


def _output(ctx: Context, name: str, axis: int | None) -> Tensor:
    """A tensor in the arena that is nobody else's: where a value is an input, a state, a constant, part of
    another or an output already, a copy of it."""
    view = ctx.view(name) if axis is None else ctx.view(name).squeeze(axis)
    taken = {t.root for t in (*ctx.program.inputs, *ctx.program.outputs)}
    if view.tensor.kind == Kind.ARENA and view.tensor not in taken and view.is_row_major:
        if view.shape == view.tensor.shape:
            view.tensor.name = name
            return view.tensor
        if view.size == view.tensor.size:
            return Tensor(name, view.tensor.dtype, view.shape, Kind.ARENA, base=view.tensor)
    tensor = ctx.new(name, view.shape, view.tensor.dtype)
    ctx.copy(view, whole(tensor), name)
    return tensor
