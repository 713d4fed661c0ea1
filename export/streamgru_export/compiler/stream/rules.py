"""How each ONNX operator places time in its outputs, or why it looks into the future: causal.py's rules."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ..graph.graph import Node
from ..graph.kinds import ELEMENTWISE, RECURRENT, REDUCTIONS
from ..graph.operators import axis as axis_of
from ..graph.operators import cumsum_axis, equation, is_training, normalised_axes, perm, reduction_axes, reversal
from ..graph.operators import gemm as gemm_of
from ..graph.recurrent import recurrent
from .check import Check
from .padding_rules import constant_first, conv, pad, slice_, transposed
from .places import FIXED, LAST, Place, Time, inner_of


def _axis(check: Check, node: Node) -> int:
    """The attribute `axis`, of the first operand."""
    return axis_of(node, len(check.shape(node.inputs[0])), check.graph.opset)


def broadcast(check: Check, node: Node) -> None:
    """Element by element with broadcasting: Add, Where, Expand, PRelu ..."""
    rank = len(check.shape(node.outputs[0]))
    places: list[Place] = []
    for i, name in enumerate(node.inputs):
        if not name:
            continue
        p = check.place(node, i)
        places.append(replace(p, axis=p.axis - len(check.shape(name))) if isinstance(p, Time) else p)
    p = check.join(node, places)
    check.put(node, replace(p, axis=p.axis + rank) if isinstance(p, Time) else p)


def expand(check: Check, node: Node) -> None:
    """Expand: repeating what is fixed over all frames is what every frame sees."""
    p = check.place(node, 0)
    a, b = check.shape(node.outputs[0]), check.long.types[node.outputs[0]].shape
    rank = len(a)
    differ = [i for i in range(rank) if a[i] != b[i]]
    if isinstance(p, Time):
        p = Time(p.axis + rank - len(check.shape(node.inputs[0])), p.inner)
    elif differ and p == LAST:
        check.refuse(node, "it repeats over all frames what is known only at the end of the sequence")
    elif differ:
        inner = inner_of(a[differ[0]], b[differ[0]], check.lengths)
        p = Time(differ[0], inner or 1)
    check.put(node, p)


def reshape(check: Check, node: Node) -> None:
    """The same elements in order: time keeps its stride."""
    p = check.place(node, 0)
    if not isinstance(p, Time):
        check.put(node, p)
        return
    before, after = check.shape(node.inputs[0]), check.shape(node.outputs[0])
    stride = p.inner * int(np.prod(before[p.axis + 1 :]))
    block = stride * check.lengths[0]  # elements of one period of time
    rest = 1
    for axis in reversed(range(len(after))):
        if rest <= stride and rest * after[axis] >= block and after[axis] > 1:
            if stride % rest or (rest * after[axis]) % block:
                break
            check.put(node, Time(axis, stride // rest))
            return
        rest *= after[axis]
    check.refuse(node, f"it tears frames apart: {list(before)} becomes {list(after)}")


def cast_like(check: Check, node: Node) -> None:
    """CastLike: of the second input it takes the type alone."""
    check.put(node, check.place(node, 0))


def transpose(check: Check, node: Node) -> None:
    """Transpose."""
    p = check.place(node, 0)
    if isinstance(p, Time):
        p = replace(p, axis=perm(node, len(check.shape(node.inputs[0]))).index(p.axis))
    check.put(node, p)


def concat(check: Check, node: Node) -> None:
    """Concat along another axis than time, or of a constant and the frames after it."""
    if constant_first(check, node):
        return
    p = check.join(node, [check.place(node, i) for i in range(len(node.inputs))])
    if isinstance(p, Time) and p.axis == _axis(check, node):
        check.refuse(node, "it puts frames one after the other along the time axis")
    if isinstance(p, Time) and any(check.place(node, i) == FIXED for i in range(len(node.inputs))):
        check.refuse(node, "it puts frames beside something that has no frames")
    check.put(node, p)


def gather(check: Check, node: Node) -> None:
    """Gather: an embedding of every frame, another axis, or the last frame."""
    data, indices = check.place(node, 0), check.place(node, 1)
    axis = _axis(check, node)
    more = len(check.shape(node.inputs[1])) - 1
    if isinstance(indices, Time):
        if data != FIXED:
            check.refuse(node, "it picks from what depends on time, by indices that depend on the frame")
        check.put(node, Time(axis + indices.axis, indices.inner))
    elif isinstance(data, Time) and data.axis == axis:
        if data.inner != 1 or not _index_last(check, node):
            check.refuse(node, "it takes some frames of the sequence, other than the last")
        check.put(node, LAST)
    elif isinstance(data, Time):
        if indices == LAST:
            check.refuse(node, "it picks by indices that are known only at the end of the sequence")
        check.put(node, Time(data.axis + (more if data.axis > axis else 0), data.inner))
    else:
        check.put(node, check.join(node, [data, indices]))


def _index_last(check: Check, node: Node) -> bool:
    pairs = zip(check.const(node, 1), check.lengths, strict=True)
    return all(i is not None and i.size == 1 and int(i.reshape(-1)[0]) in (-1, n - 1) for i, n in pairs)


def split(check: Check, node: Node) -> None:
    """Split of another axis than time."""
    p = check.place(node, 0)
    if isinstance(p, Time) and _axis(check, node) == p.axis:
        check.refuse(node, "it splits the time axis")
    check.put(node, p)


def tile(check: Check, node: Node) -> None:
    """Tile of another axis than time."""
    p = check.place(node, 0)
    if isinstance(p, Time) and check.shape(node.inputs[0])[p.axis] != check.shape(node.outputs[0])[p.axis]:
        check.refuse(node, "it repeats the frames of the sequence")
    check.put(node, p)


def matmul(check: Check, node: Node) -> None:
    """MatMul: time may be a row, a column or a batch, not what is summed over."""
    places: list[Place] = []
    for i, summed in ((0, -1), (1, -2)):
        p, rank = check.place(node, i), len(check.shape(node.inputs[i]))
        if isinstance(p, Time):
            p = Time(p.axis - rank, p.inner)
            if p.axis == (summed if rank > 1 else -1):
                check.refuse(node, "it sums over the frames of the sequence")
        places.append(p)
    _product(check, node, places)


def _product(check: Check, node: Node, places: list[Place]) -> None:
    """Rows of the first, columns of the second; both in time only where time is a batch dimension."""
    both = [p for p in places if isinstance(p, Time)]
    if len(both) == 2 and (both[0].axis > -3 or both[1].axis > -3):
        check.refuse(node, "it multiplies frames with other frames (attention)")
    p = check.join(node, places)
    if isinstance(p, Time):
        rank = len(check.shape(node.outputs[0]))
        lost = sum(len(check.shape(i)) == 1 for i in node.inputs[:2])
        axis = p.axis + rank if p.axis > -3 and not lost else p.axis + rank + lost
        p = Time(min(axis, rank - 1), p.inner)
    check.put(node, p)


def gemm(check: Check, node: Node) -> None:
    """Gemm: the same with its transposes, and C element by element."""
    places: list[Place] = []
    form = gemm_of(node)
    for i, is_transposed in ((0, form.trans_a), (1, form.trans_b)):
        p = check.place(node, i)
        if isinstance(p, Time):
            axis = 1 - p.axis if is_transposed else p.axis
            if axis == (1 if i == 0 else 0):
                check.refuse(node, "it sums over the frames of the sequence")
            p = Time(axis - 2, p.inner)
        places.append(p)
    c = check.place(node, 2)
    places.append(Time(c.axis - len(check.shape(node.inputs[2])), c.inner) if isinstance(c, Time) else c)
    if all(isinstance(p, Time) for p in places[:2]):
        check.refuse(node, "it multiplies frames with other frames")
    p = check.join(node, places)
    check.put(node, Time(p.axis + 2, p.inner) if isinstance(p, Time) else p)


def einsum(check: Check, node: Node) -> None:
    """Einsum: time is a letter, the same in all operands that have it, and it stays in the output."""
    shapes = [check.shape(name) for name in node.inputs]
    terms, out = equation(node, [len(s) for s in shapes])
    places: list[Place] = []
    for i, term in enumerate(terms):
        p = check.place(node, i)
        if isinstance(p, Time):
            if term[p.axis] not in out:
                check.refuse(node, "it sums over the frames of the sequence")
            p = Time(out.index(term[p.axis]), p.inner)
        places.append(p)
    axes = {p.axis for p in places if isinstance(p, Time)}
    if len(axes) > 1:
        check.refuse(node, "it multiplies frames with other frames (attention)")
    meets = sum(out[a] in term for a in axes for term in terms)
    if meets > sum(isinstance(p, Time) for p in places):
        check.refuse(node, "it combines frames with something that has no frames")
    check.put(node, check.join(node, places))


def reduce(check: Check, node: Node) -> None:
    """Reductions, ArgMax and the like, over other axes than time."""
    p, rank = check.place(node, 0), len(check.shape(node.inputs[0]))
    if not isinstance(p, Time):
        check.put(node, p)
        return
    axes = reduction_axes(node, rank, check.graph.opset, check.graph.constants)
    if axes is None or p.axis in axes:
        check.refuse(node, "it reduces over the frames of the sequence")
    keep = len(check.shape(node.outputs[0])) == rank
    check.put(node, p if keep else Time(p.axis - sum(a < p.axis for a in axes), p.inner))


def along_axis(check: Check, node: Node) -> None:
    """Softmax, CumSum, TopK, LayerNormalization: along other axes than time; the shape stays."""
    p, rank = check.place(node, 0), len(check.shape(node.inputs[0]))
    if node.op_type == "CumSum":
        axis = cumsum_axis(node, rank, check.graph.constants)
        touched = range(rank) if axis is None else range(axis, axis + 1)
    else:
        touched = normalised_axes(node, rank, check.graph.opset)
    if isinstance(p, Time) and p.axis in touched:
        check.refuse(node, f"{node.op_type} runs over the frames of the sequence")
    for i in range(1, len(node.inputs)):
        check.without_time(node, i)
    check.put(node, p)


def per_sample(check: Check, node: Node) -> None:
    """Operators that mix everything but the batch: InstanceNormalization, GlobalAveragePool, DepthToSpace."""
    p = check.place(node, 0)
    if isinstance(p, Time) and p.axis != 0 and not (p.axis == 1 and node.op_type.startswith("Global")):
        check.refuse(node, "it mixes the frames of the sequence")
    check.put(node, p)


def batch_norm(check: Check, node: Node) -> None:
    """BatchNormalization: one scale and shift for each channel."""
    p = check.place(node, 0)
    if isinstance(p, Time) and p.axis == 1:
        check.refuse(node, "the frames of the sequence are its channels")
    if isinstance(p, Time) and is_training(node):
        check.refuse(node, "it is in training mode, which mixes the frames; call model.eval() and export again")
    check.put(node, p)


def elements(check: Check, node: Node) -> None:
    """GatherElements and ScatterElements: time aligned in all operands, and not the axis they pick along."""
    p = check.join(node, [check.place(node, i) for i in range(len(node.inputs))])
    if isinstance(p, Time):
        if p.axis == _axis(check, node):
            check.refuse(node, "it picks frames of the sequence by index")
        if any(not isinstance(check.place(node, i), Time) for i in range(len(node.inputs))):
            check.refuse(node, "it combines frames with something that has no frames")
    check.put(node, p)


def scatter(check: Check, node: Node) -> None:
    """ScatterND: what every frame gets stands beside it in the updates."""
    data, axis = check.place(node, 0), _written(check, node)
    if not isinstance(data, Time):
        check.put(node, check.join(node, [check.place(node, i) for i in range(3)]))
    elif axis is None or check.place(node, 2) != replace(data, axis=axis):
        check.refuse(node, "it writes to frames of the sequence by index")
    else:
        check.put(node, data)


def _written(check: Check, node: Node) -> int | None:
    """The axis of the updates of a ScatterND that has the frames of its data in order; None where there is none."""
    data, found = check.place(node, 0), set()
    for indices, frames in zip(check.const(node, 1), check.lengths, strict=True):
        if not isinstance(data, Time) or indices is None:
            return None
        if data.axis >= indices.shape[-1]:  # whole rows are written, and time is within them
            found.add(indices.ndim - 1 + data.axis - indices.shape[-1])
            continue
        others = np.delete(indices, data.axis, -1)
        for k in range(indices.ndim - 1):
            order = np.arange(frames).reshape([-1 if i == k else 1 for i in range(indices.ndim - 1)])
            if indices.shape[k] == frames and (indices[..., data.axis] == order).all() and (
                others == np.take(others, [0], k)
            ).all():  # fmt: skip
                found.add(k)
    return found.pop() if len(found) == 1 else None


def cell(check: Check, node: Node) -> None:
    """GRU, LSTM, RNN: forward along time, or in any direction along another axis."""
    form = recurrent(node)
    x, axis = check.place(node, 0), form.time_axis
    for i in (1, 2, 3, 7):
        check.without_time(node, i)
    if not isinstance(x, Time):
        check.without_time(node, *range(4, 7))
        check.put(node, check.join(node, [x, *(check.place(node, i) for i in (5, 6))]))
    elif x.axis == axis:
        if not form.is_forward:
            check.refuse(node, f"it is {form.direction} over time: its first output needs the last input")
        if x.inner != 1 or check.shape(node.inputs[0])[axis] != check.lengths[0]:
            check.refuse(node, "its sequence is made of frames and something else")
        check.without_time(node, 5, 6)
        _lengths(check, node)
        check.over_time.add(next(o for o in node.outputs if o))
        check.put(node, LAST)
        check.put(node, Time(axis), 0)
    elif x.axis == 1 - axis:
        batch_y, batch_h = (0, 0) if axis == 1 else (2, 1)
        check.put(node, Time(batch_h, x.inner))
        check.put(node, Time(batch_y, x.inner), 0)
    else:
        check.refuse(node, "the frames of the sequence are its features")


def reverse_sequence(check: Check, node: Node) -> None:
    """ReverseSequence of another axis than time, by lengths that are the same for all frames, or of each frame's own
    entries of the batch."""
    p, (time, batch) = check.place(node, 0), reversal(node)
    if isinstance(p, Time) and p.axis == time:
        check.refuse(node, "it turns the frames of the sequence around: its first output is the last input")
    lens = check.place(node, 1)
    along = replace(lens, axis=batch) if isinstance(lens, Time) else lens
    check.put(node, check.join(node, [p, along]))


def _lengths(check: Check, node: Node) -> None:
    """sequence_lens of a cell along time: as long as the sequence, or known before it begins."""
    short, long = check.const(node, 4)
    if (
        short is not None
        and long is not None
        and (short == check.lengths[0]).all()
        and (long == check.lengths[1]).all()
    ):
        check.full.add(next(o for o in node.outputs if o))
        return
    check.without_time(node, 4)
    if check.place(node, 4) == LAST:
        check.refuse(node, f"its sequence_lens '{node.input(4)}' are known only at the end of the sequence")


RULES = {
    **dict.fromkeys(ELEMENTWISE, broadcast),
    **dict.fromkeys(REDUCTIONS, reduce),
    **dict.fromkeys(("Reshape", "Flatten", "Squeeze", "Unsqueeze"), reshape),
    **dict.fromkeys(("Softmax", "LogSoftmax", "CumSum", "TopK", "LayerNormalization"), along_axis),
    **dict.fromkeys(("Conv", "MaxPool", "AveragePool"), conv),
    **dict.fromkeys(("InstanceNormalization", "GlobalAveragePool", "GlobalMaxPool", "GroupNormalization"), per_sample),
    **dict.fromkeys(("DepthToSpace", "SpaceToDepth"), per_sample),
    **dict.fromkeys(("GatherElements", "ScatterElements", "Scatter"), elements),
    **dict.fromkeys(RECURRENT, cell),
    "BatchNormalization": batch_norm,
    "ReverseSequence": reverse_sequence,
    "ConvTranspose": transposed,
    "ScatterND": scatter,
    "Einsum": einsum,
    "Expand": expand,
    "CastLike": cast_like,
    "Transpose": transpose,
    "Concat": concat,
    "Slice": slice_,
    "Gather": gather,
    "Split": split,
    "Pad": pad,
    "Tile": tile,
    "MatMul": matmul,
    "Gemm": gemm,
}
