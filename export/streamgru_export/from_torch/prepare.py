"""A module made ready for export: copied, in eval mode, in float32, without parametrizations, and known to be
stateless.

It does not export. The caller's module is never changed, not even for a moment.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize, remove_spectral_norm, remove_weight_norm
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm
from torch.utils import _pytree as pytree
from torch.utils.hooks import RemovableHandle

from streamgru.errors import ExportError

from .signature import Example, FlatModule, flatten, path_key

# nn.Module's own books, and the second list of their weights that recurrent layers keep.
_NO_MEMORY = frozenset({"_parameters", "_buffers", "_modules", "_flat_weights"})

Module = TypeVar("Module", bound=nn.Module)


def prepare(
    module: nn.Module, example: Example, tolerance: float, notices: list[str]
) -> tuple[FlatModule, list[str], list[Tensor]]:
    """A copy of the module, ready to be the reference: on the CPU, in eval mode, in float32.

    Raises
    ------
    ExportError
        It is no module that can be copied; or one whose results float32 does not give.
    """
    module = getattr(module, "_orig_mod", module)  # what torch.compile wraps
    if isinstance(module, torch.jit.ScriptModule):
        raise ExportError("this is a scripted or traced module; give the nn.Module it was made from")
    if not isinstance(module, nn.Module):
        raise ExportError(f"expected a torch.nn.Module, not a {type(module).__name__}")
    _refuse_quantised(module)
    flat, names, tensors = flatten(copy_module(module).cpu().eval(), example)
    tensors = [x.detach().cpu() for x in tensors]
    floating = [t for t in (*flat.parameters(), *flat.buffers(), *tensors) if t.is_floating_point()]
    odd = {t.dtype for t in floating} - {torch.float32}
    if odd - {torch.float64}:
        raise ExportError(_too_coarse(odd - {torch.float64}))
    if odd:
        return _in_float32(flat, tensors, tolerance, notices), names, [_as_float32(x) for x in tensors]
    return flat, names, tensors


def _too_coarse(odd: set[torch.dtype]) -> str:
    listed = " and ".join(sorted(str(d).removeprefix("torch.") for d in odd))
    return (
        f"the module or its example is in {listed}: a stream computes in float32 and does not repeat that rounding, so "
        "nothing could prove it against this module. Export the module in float32, copy.deepcopy(module).float(), with "
        "an example in float32, and prove the stream against that one"
    )


def _as_float32(x: Tensor) -> Tensor:
    return x.float() if x.is_floating_point() else x


def _in_float32(flat: FlatModule, tensors: Sequence[Tensor], tolerance: float, notices: list[str]) -> FlatModule:
    """The module in float32, where it gives what it gives in float64."""
    try:
        wide = _results(flat, tensors)
    except Exception:  # noqa: BLE001  module and example are of two dtypes
        wide = _results_in(flat, tensors, torch.float64)
    narrow = _results_in(flat, tensors, torch.float32)
    error = max((_relative(a, b) for a, b in zip(narrow, wide, strict=True)), default=0.0)
    if not error <= tolerance:
        raise ExportError(
            f"the module is in float64, and in float32, in which a stream computes, its results on the example differ "
            f"by {error:.3g} of the largest; tolerance={tolerance:g} was allowed. Scale its values so that float32 "
            "holds them, or raise tolerance="
        )
    notices.append(
        f"the module or its example is in float64: exported, and verified, in float32. On the example its results "
        f"differ by {error:.1e} of the largest"
    )
    return flat


def _results(flat: FlatModule, tensors: Sequence[Tensor]) -> list[Tensor]:
    with torch.no_grad():
        return [y.double() for y in pytree.tree_leaves(flat.call(tensors)) if isinstance(y, Tensor)]


def _results_in(flat: FlatModule, tensors: Sequence[Tensor], dtype: torch.dtype) -> list[Tensor]:
    """The same, after all is made `dtype`."""
    try:
        return _results(flat.to(dtype), [x.to(dtype) if x.is_floating_point() else x for x in tensors])
    except Exception as exc:
        raise ExportError(
            f"the module or its example is in float64, a stream computes in float32, and in {dtype} the module fails: "
            f"{type(exc).__name__}: {exc}. Let forward() keep the dtype that it is given, without double() or "
            "dtype=torch.float64: x.new_zeros(...), or dtype=x.dtype"
        ) from exc


def _relative(a: Tensor, b: Tensor) -> float:
    """The largest difference, relative to the largest number where that is above 1. NaN where one alone is NaN."""
    if not b.numel():
        return 0.0
    same = (a == b) | (a.isnan() & b.isnan())
    scale = max(1.0, float(b[b.isfinite()].abs().max())) if bool(b.isfinite().any()) else 1.0
    return float(torch.where(same, 0.0, (a - b).abs()).max()) / scale


def _refuse_quantised(module: nn.Module) -> None:
    """torch keeps a quantised layer's weights in an object that neither exporter can write."""
    for name, part in module.named_modules():
        kind = f"{type(part).__module__}.{type(part).__name__}"
        if kind.startswith(("torch.ao.nn.quantized", "torch.nn.quantized")):
            raise ExportError(
                f"{name or 'the module'} is quantised ({kind}), which has no ONNX form: "
                "export the float module that it was made from"
            )


def copy_module(module: Module) -> Module:
    """A deep copy. Computed weights, as parametrized layers keep them, are detached to allow it."""
    memo: dict[int, Any] = {}
    for part in module.modules():
        for leaf in pytree.tree_leaves(vars(part)):
            if isinstance(leaf, Tensor) and leaf.grad_fn is not None:
                memo[id(leaf)] = leaf.detach().clone()
    try:
        copied: Module = copy.deepcopy(module, memo)
    except Exception as exc:
        raise ExportError(f"cannot copy this {type(module).__name__} to export it: {exc}") from exc
    return copied


@contextmanager
def _no_projections(module: FlatModule) -> Iterator[None]:
    """Refuses to call an LSTM with a projection: ONNX has none, and the exporters fail, or write one that does not run.

    One that is not called may lend its weights.
    """

    def refuse(name: str, layer: nn.LSTM) -> RemovableHandle:
        def hook(_layer: nn.Module, _args: object) -> None:
            raise ExportError(
                f"{name.removeprefix('module.')} projects its output (proj_size={layer.proj_size}), which ONNX's LSTM "
                "does not: write one step of it with functional.linear() on its weights, and export "
                "forward(x, h, c) -> (y, h, c)"
            )

        return layer.register_forward_pre_hook(hook)

    hooks = [refuse(name, m) for name, m in module.named_modules() if isinstance(m, nn.LSTM) and m.proj_size]
    try:
        yield
    finally:
        for handle in hooks:
            handle.remove()


def run_twice(module: FlatModule, examples: Sequence[Tensor], notices: list[str]) -> Any:
    """What the module returns for the example. Refuses a module that answers differently the second time.

    ONNX has no memory between runs: the exporters freeze a buffer that forward() changes, without an error.
    """
    with torch.no_grad():
        try:
            with _no_projections(module):
                returned = module.call(examples)
        except ExportError:
            raise
        except Exception as exc:
            raise ExportError(f"the module fails on the example: {type(exc).__name__}: {exc}") from exc
        first = [y.clone() for y in pytree.tree_leaves(returned) if isinstance(y, Tensor)]
        before = _memory(module)
        again = [y.clone() for y in pytree.tree_leaves(module.call(examples)) if isinstance(y, Tensor)]
    changed = [name for name, x in _memory(module).items() if name in before and not _same(x, before[name])]
    differs = any(not _same(a, b) for a, b in zip(first, again, strict=True))
    if changed and (differs or any(before[name].is_floating_point() for name in changed)):
        raise ExportError(
            f"forward() changes {', '.join(changed)}: a state kept inside the module is lost in ONNX, "
            "every run would "
            "start from the same values. Make it an argument and a result: forward(x, h) -> (y, h)"
        )
    if differs:
        raise ExportError(
            "two runs on the same input give different results, in eval mode: forward() draws random "
            "numbers, for "
            "example by functional.dropout without training=self.training. Make it deterministic"
        )
    if changed:
        notices.append(f"forward() changes {', '.join(changed)}; the graph does not")
    return returned


def _memory(module: nn.Module) -> dict[str, Tensor]:
    """A copy of every tensor the module holds beside its parameters, by dotted name."""
    held = {name: buffer.clone() for name, buffer in module.named_buffers()}
    for prefix, part in module.named_modules():
        own = {key: value for key, value in vars(part).items() if key not in _NO_MEMORY}
        for path, leaf in pytree.tree_flatten_with_path(own)[0]:
            if isinstance(leaf, Tensor):
                held[f"{prefix}.{path_key(path[0])}{pytree.keystr(path[1:])}"] = leaf.clone()
    return {name.removeprefix("module."): x for name, x in held.items()}


def _same(a: Tensor, b: Tensor) -> bool:
    """Equal in shape, dtype and every value; NaN equals NaN."""
    return a.shape == b.shape and a.dtype == b.dtype and bool(((a == b) | ((a != a) & (b != b))).all())


def fold_parametrizations(module: FlatModule) -> FlatModule:
    """A copy with plain weights where weight_norm, spectral_norm or a parametrization computed them.

    Exported as they are, they leave a chain of nodes before every weight, or the exporter fails.
    """
    plain = copy_module(module.module)
    for part in list(plain.modules()):
        if parametrize.is_parametrized(part):
            _remove_parametrizations(part)
        for hook in list(part._forward_pre_hooks.values()):
            if isinstance(hook, WeightNorm):
                remove_weight_norm(part, hook.name)
            elif isinstance(hook, SpectralNorm):
                remove_spectral_norm(part, hook.name)
    return module.around(plain)


def _remove_parametrizations(part: nn.Module) -> None:
    """torch deletes properties from the layer's class, which copy and original share: give it its own."""
    cls = type(part)
    own = {name: value for name, value in vars(cls).items() if name not in ("__dict__", "__weakref__")}
    part.__class__ = type(cls.__name__, cls.__bases__, own)
    assert isinstance(part.parametrizations, nn.ModuleDict)
    for name in list(part.parametrizations):
        parametrize.remove_parametrizations(part, name)
