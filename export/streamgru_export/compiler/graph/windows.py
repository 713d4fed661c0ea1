"""How a kernel moves over its operand: the attributes of Conv, ConvTranspose and the pools, auto_pad spelled out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from streamgru.errors import ModelError

from .graph import Node, TensorType
from .operators import integer, integers, is_given, text

CONVOLUTIONS = ("Conv", "ConvTranspose")


@dataclass(frozen=True)
class Window:
    """A kernel on its way; a number for each spatial axis.

    Attributes
    ----------
    begins, ends : tuple of int
        What Conv and the pools add at both ends of the input, and ConvTranspose cuts off its output.
    more : tuple of int
        What a ConvTranspose adds at the end of its output.
    follows_size : bool
        begins and ends follow from the sizes of input and output: auto_pad, or output_shape.
    """

    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    begins: tuple[int, ...]
    ends: tuple[int, ...]
    more: tuple[int, ...]
    group: int
    follows_size: bool

    def reach(self, k: int) -> int:
        """From the first entry that a kernel sees along spatial axis `k` to the last."""
        return (self.kernel[k] - 1) * self.dilations[k]


def window(node: Node, types: Mapping[str, TensorType]) -> Window:
    """The window of a Conv, a ConvTranspose or a pool whose inputs and output have these types.

    Raises
    ------
    ModelError
        auto_pad is unknown or stands beside pads, or kernel_shape contradicts the weights.
    """
    kernel = _kernel(node, types)
    n = len(kernel)
    auto = text(node, "auto_pad")
    if auto not in ("NOTSET", "VALID", "SAME_UPPER", "SAME_LOWER"):
        raise ModelError(f"{node}: auto_pad '{auto}' is not known")
    flat = _spatial(node, "pads", 2 * n, 0)
    if auto != "NOTSET" and is_given(node, "pads") and (any(flat) or auto != "VALID"):
        raise ModelError(f"{node}: it has both auto_pad '{auto}' and pads {list(flat)}; ONNX allows one of them")
    strides, dilations = (_spatial(node, name, n, 1) for name in ("strides", "dilations"))
    more = _spatial(node, "output_padding", n, 0)
    group = integer(node, "group") if node.op_type in CONVOLUTIONS else 1
    follows = auto.startswith("SAME") or is_given(node, "output_shape")
    found = Window(kernel, strides, dilations, flat[:n], flat[n:], more, group, follows)
    if not follows:
        return found
    totals = _totals(node, found, types)
    less, rest = tuple(t // 2 for t in totals), tuple(t - t // 2 for t in totals)
    # The odd one: at the end with SAME_UPPER, and at the beginning where output_shape stands without auto_pad.
    begins, ends = (less, rest) if auto == "SAME_UPPER" else (rest, less)
    return Window(kernel, strides, dilations, begins, ends, more, group, follows)


def _spatial(node: Node, name: str, count: int, default: int) -> tuple[int, ...]:
    given = integers(node, name)
    if given is not None and len(given) != count:
        raise ModelError(f"{node}: its attribute '{name}' has {len(given)} numbers; {count} were expected")
    return (default,) * count if given is None else tuple(given)


def _kernel(node: Node, types: Mapping[str, TensorType]) -> tuple[int, ...]:
    given = integers(node, "kernel_shape")
    if node.op_type not in CONVOLUTIONS:
        if given is None:
            raise ModelError(f"{node}: its attribute 'kernel_shape' is missing")
        return tuple(given)
    kernel = types[node.inputs[1]].shape[2:]
    if given is not None and tuple(given) != kernel:
        raise ModelError(f"{node}: kernel_shape is {given}, and its weights have kernels of {list(kernel)}")
    return kernel


def _totals(node: Node, w: Window, types: Mapping[str, TensorType]) -> list[int]:
    """What is padded, or cut off, in all along each spatial axis."""
    size, out = (types[name].shape[2:] for name in (node.inputs[0], node.outputs[0]))
    spans = [w.reach(k) + 1 for k in range(len(w.kernel))]
    if node.op_type == "ConvTranspose":
        most = [(s - 1) * step + extra for s, step, extra in zip(size, w.strides, w.more, strict=True)]
        totals = [m + span - o for m, span, o in zip(most, spans, out, strict=True)]
        # Fewer than a stride beyond the kernels' reach are entries that no kernel adds to.
        if is_given(node, "output_shape") and any(-t >= step for t, step in zip(totals, w.strides, strict=True)):
            raise ModelError(f"{node}: its output_shape is {list(out)}, more than its kernels reach")
        return [max(0, t) for t in totals]
    lasts = [(-(-s // step) - 1) * step for s, step in zip(size, w.strides, strict=True)]
    return [max(0, last + span - s) for last, span, s in zip(lasts, spans, size, strict=True)]
