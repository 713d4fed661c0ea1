"""Lowers GRU, LSTM and RNN nodes: one operator for each direction, weights packed, every attribute honoured.

Shapes inside: x [T, B, I], y [T, B, D, H], h and c [D, B, H]; ONNX's own layouts are views of these.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from streamgru.codes import Code
from streamgru.errors import ModelError

from ..graph.graph import Array, Node
from ..graph.kinds import RECURRENT
from ..graph.recurrent import Recurrent, recurrent
from ..program.program import Tensor
from ..program.views import View, whole
from .activations import Activation, activations
from .context import Context


@dataclass
class Operands:
    """What a recurrent node reads and writes, and its attributes."""

    node: Node
    form: Recurrent
    T: int
    B: int
    I: int  # noqa: E741 - the field's name
    H: int
    x: View  # [T, B, I], features contiguous
    y: View | None  # [T, B, D, H]
    lens: Tensor | None
    functions: list[list[Activation]]


def lower(ctx: Context, node: Node, targets: dict[str, View]) -> None:
    """One recurrent node.

    Parameters
    ----------
    targets : dict
        Final state (the name of Y_h or Y_c) -> the place in a state tensor where it may be written at once.
    """
    cell = _read(ctx, node)
    h0, c0 = (_initial(ctx, cell, i) for i in (5, 6 if node.op_type == "LSTM" else -1))
    h, c = (_final(ctx, cell, i, targets) for i in (1, 2))
    for d in range(cell.form.directions):
        inputs = _weights(ctx, cell, d)
        h0_tensor, h0_params = _place(ctx, h0, d)
        c0_tensor, c0_params = _place(ctx, c0, d)
        yh_tensor, yh_params = _place(ctx, h, d)
        yc_tensor, yc_params = _place(ctx, c, d)
        y_tensor, y_params = _y_place(ctx, cell, d)
        x_tensor, x_offset = ctx.place(cell.x)
        params: list[int | float] = [
            cell.T, cell.B, cell.I, cell.H, int(cell.form.reverse[d]),
            x_offset, cell.x.strides[0], cell.x.strides[1], *y_params, *h0_params, *yh_params, cell.form.clip,
        ]  # fmt: skip
        ins = [x_tensor, *inputs, cell.lens, h0_tensor]
        outs = [y_tensor, yh_tensor]
        if node.op_type == "GRU":
            params.append(int(cell.form.linear_before_reset))
        elif node.op_type == "LSTM":
            ins.append(c0_tensor)
            outs.append(yc_tensor)
            params += [*c0_params, *yc_params, int(cell.form.input_forget)]
        params += [p for a in cell.functions[d] for p in a.params()]
        ctx.emit(Code[node.op_type], ins, outs, params, node.name)
    for name in targets.keys() & set(node.outputs):
        ctx.forget(targets[name].tensor)


def _read(ctx: Context, node: Node) -> Operands:
    """The node's attributes and the views of X and Y."""
    form, x = recurrent(node), ctx.view(node.inputs[0])
    x = x.transpose((1, 0, 2)) if form.batch_first else x
    apart = (x.shape[2] > 1 and x.strides[2] != 1) or any(s < 0 for s in x.strides)
    if apart or x.size > x.tensor.size:  # frames that repeat elements are made whole
        x = ctx.in_row(x)
    h = ctx.type(node.inputs[2]).shape[2]
    cell = Operands(
        node, form, x.shape[0], x.shape[1], x.shape[2], h,
        x, None, _lengths(ctx, node, x.shape[0]), activations(node, form),
    )  # fmt: skip
    cell.y = _y(ctx, cell)
    return cell


def _lengths(ctx: Context, node: Node, steps: int) -> Tensor | None:
    """sequence_lens; full ones are as good as none."""
    name = node.input(4)
    if not name:
        return None
    value = ctx.const(name)
    if value is None:
        return ctx.row(ctx.view(name))
    if (value < 0).any() or (value > steps).any():
        raise ModelError(f"{node}: sequence_lens {value.tolist()} lie outside 0 .. {steps}")
    return None if (value == steps).all() else ctx.constant(name, value.astype(np.int32))


def _y(ctx: Context, cell: Operands) -> View | None:
    """The tensor for Y, where it or, at one step, Y_h is read. Without a length, Y_h of one step is Y."""
    node = cell.node
    y_name, h_name = node.output(0), node.output(1)
    is_last = cell.T == 1 and cell.lens is None
    if not ctx.uses[y_name] and not (is_last and h_name and ctx.uses[h_name]):
        return None
    tensor = ctx.new(y_name or h_name, (cell.T, cell.B, cell.form.directions, cell.H))
    y = whole(tensor)
    if y_name:
        ctx.views[y_name] = y.transpose((1, 0, 2, 3) if cell.form.batch_first else (0, 2, 1, 3))
    if is_last and h_name:
        last = y.squeeze(0)  # [B, D, H]
        ctx.views[h_name] = last if cell.form.batch_first else last.transpose((1, 0, 2))
    return y


def _initial(ctx: Context, cell: Operands, i: int) -> View | None:
    """initial_h or initial_c as [D, B, H]; a constant zero is as good as none."""
    name = cell.node.input(i) if i >= 0 else ""
    value = ctx.const(name)
    if not name or (value is not None and not value.any()):
        return None
    view = _states_first(cell, ctx.view(name))
    return ctx.in_row(view) if cell.H > 1 and view.strides[2] != 1 else view


def _states_first(cell: Operands, view: View) -> View:
    return view.transpose((1, 0, 2)) if cell.form.batch_first else view


def _final(ctx: Context, cell: Operands, i: int, targets: dict[str, View]) -> View | None:
    """Where Y_h (i = 1) or Y_c (i = 2) is written, as [D, B, H]: a state, a tensor of its own, or nowhere."""
    name = cell.node.output(i)
    if name in targets:
        if name not in ctx.views:
            ctx.views[name] = targets[name]
        return _states_first(cell, targets[name])
    if not name or name in ctx.views or not ctx.uses[name]:
        return None
    tensor = whole(ctx.new(name, (cell.form.directions, cell.B, cell.H)))
    ctx.views[name] = _states_first(cell, tensor)
    return tensor


def _place(ctx: Context, view: View | None, d: int) -> tuple[Tensor | None, list[int]]:
    """Tensor, offset and batch stride of one direction of [D, B, H]."""
    if view is None:
        return None, [0, 0]
    one = view.slice(0, d, 1).squeeze(0)
    tensor, offset = ctx.place(one)
    return tensor, [offset, one.strides[0] if one.shape[0] > 1 else one.shape[1]]


def _y_place(ctx: Context, cell: Operands, d: int) -> tuple[Tensor | None, list[int]]:
    if cell.y is None:
        return None, [0, 0, 0]
    one = cell.y.slice(2, d, 1).squeeze(2)
    return one.tensor, [one.offset, one.strides[0], one.strides[1]]


def _weights(ctx: Context, cell: Operands, d: int) -> list[Tensor | None]:
    """The constant operands of one direction. W and R biases that meet in one sum are added here, in
    float32."""
    node, gates, h = cell.node, RECURRENT[cell.node.op_type], cell.H
    w = ctx.need_const(node, 1, "W")[d]
    r = ctx.need_const(node, 2, "R")[d]
    b = ctx.need_const(node, 3, "B")[d] if node.input(3) else None
    wb, rb = (None, None) if b is None else (b[: gates * h], b[gates * h :])
    both = None if wb is None or rb is None else _vector(ctx, node, "bias", wb + rb)
    if node.op_type == "RNN":
        return [ctx.packed(f"{node.name}/W", w), ctx.packed(f"{node.name}/R", r), both]
    if node.op_type == "LSTM":
        p = ctx.need_const(node, 7, "P")[d] if node.input(7) else None
        peepholes = None if p is None else _vector(ctx, node, "peepholes", p)
        return [ctx.packed(f"{node.name}/W", w), ctx.packed(f"{node.name}/R", r), both, peepholes]
    if not cell.form.linear_before_reset:
        return [ctx.packed(f"{node.name}/W", w), ctx.packed(f"{node.name}/R", r[: 2 * h]),
                ctx.packed(f"{node.name}/R.h", r[2 * h :]), both, None]  # fmt: skip
    if wb is None or rb is None:
        return [ctx.packed(f"{node.name}/W", w), ctx.packed(f"{node.name}/R", r), None, None, None]
    bias_x = np.concatenate([wb[: 2 * h] + rb[: 2 * h], wb[2 * h :]])
    return [ctx.packed(f"{node.name}/W", w), ctx.packed(f"{node.name}/R", r), None,
            _vector(ctx, node, "bias_x", bias_x), _vector(ctx, node, "bias_h", rb[2 * h :])]  # fmt: skip


def _vector(ctx: Context, node: Node, what: str, value: Array) -> Tensor | None:
    """A bias; one of zeros is as good as none."""
    return ctx.constant(f"{node.name}/{what}", value.astype(np.float32)) if value.any() else None
