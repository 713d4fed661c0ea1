"""What goes into and comes out of a module: flat tensors with names.

It does not export anything, and knows no architecture from another. Which of them are states says `states.py`;
which axes are time and batch, `axes.py`.
"""

from __future__ import annotations

import copy
import inspect
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from torch import Tensor, nn
from torch.utils import _pytree as pytree

from streamgru.errors import ExportError

Example: TypeAlias = "Tensor | Sequence[object] | Mapping[str, object]"  # what forward() is called with

# A name is a state's if one of its words is one of these: h, h0, hx, h_prev, gru_state, hiddenState,
# conv_cache ...
_SURE_WORDS = frozenset(("h", "hx", "cx", "hc", "hidden", "state", "states", "carry"))
_STATE_WORDS = _SURE_WORDS | {"c", "cell", "cache", "caches", "memory"}  # these may as well be a condition, or what
# a decoder attends to


@dataclass(frozen=True)
class Interface:
    """The tensors of the exported graph, in order. Positions count the flat inputs and outputs from 0."""

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    examples: tuple[Tensor, ...]
    states: tuple[tuple[int, int], ...]  # (input, output) positions
    time_axes: Mapping[int, int]  # input position -> its dynamic time axis; empty for a step graph
    batch_axes: Mapping[int, int]  # input position -> its dynamic batch axis; empty for a fixed batch
    lengths: frozenset[int] = frozenset()  # the inputs that are lengths of packed sequences

    def size(self, axes: Mapping[int, int]) -> int:
        """The example's length along `axes`, or 1 where there are none."""
        return next((self.examples[i].shape[axis] for i, axis in axes.items()), 1)

    def shapes(self, time: int, batch: int) -> list[tuple[int, ...]]:
        """The input shapes for `time` steps and `batch` streams; an axis that is fixed keeps its size."""
        shapes = [list(x.shape) for x in self.examples]
        for axes, size in ((self.time_axes, time), (self.batch_axes, batch)):
            for i, axis in axes.items():
                shapes[i][axis] = size
        return [tuple(s) for s in shapes]


class FlatModule(nn.Module):
    """A module as a function from a flat list of tensors to a flat tuple of tensors.

    `forward`'s other arguments (None, numbers) keep the example's values.
    """

    def __init__(self, module: nn.Module, leaves: list[Any], spec: pytree.TreeSpec) -> None:
        super().__init__()
        self.module = module
        self._leaves = [None if isinstance(leaf, Tensor) else leaf for leaf in leaves]
        self._slots = [i for i, leaf in enumerate(leaves) if isinstance(leaf, Tensor)]
        self._spec = spec

    def around(self, module: nn.Module) -> FlatModule:
        """The same interface to another module."""
        flat = copy.copy(self)
        flat._modules = {"module": module}
        return flat

    def call(self, tensors: Sequence[Tensor]) -> Any:
        """What the module itself returns, nested as it is."""
        leaves = list(self._leaves)
        for slot, x in zip(self._slots, tensors, strict=True):
            leaves[slot] = x
        args, kwargs = pytree.tree_unflatten(leaves, self._spec)
        return self.module(*args, **kwargs)

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        leaves = pytree.tree_leaves(self.call(tensors))
        return tuple(leaf for leaf in leaves if leaf is not None)


def flatten(module: nn.Module, example: Example) -> tuple[FlatModule, list[str], list[Tensor]]:
    """The module behind flat inputs, the inputs' names, and the example's tensors.

    A name is the argument's in `forward`; inside a nested argument, `<argument>_<index or key>`; `h` and `c`
    for the pair of an LSTM.
    """
    bound = _bind(module, example)
    leaves, spec = pytree.tree_flatten((bound.args, bound.kwargs))
    # Both trees list the leaves in the order of the signature.
    paths = [path for path, _ in pytree.tree_flatten_with_path(dict(bound.arguments))[0]]
    tensors = [leaf for leaf in leaves if isinstance(leaf, Tensor)]
    if not tensors:
        raise ExportError(f"the example for {_title(module)} holds no tensor; give what forward() is called with")
    kept = [path for path, leaf in zip(paths, leaves, strict=True) if isinstance(leaf, Tensor)]
    return FlatModule(module, leaves, spec), _argument_names(module, kept), tensors


def _bind(module: nn.Module, example: Example) -> inspect.BoundArguments:
    """The example as arguments of `forward`: a tensor, a tuple or list of them, or a dict by name."""
    signature = inspect.signature(module.forward)
    try:
        if isinstance(example, Mapping):
            return signature.bind(**example)
        if isinstance(example, Tensor):
            return signature.bind(example)
        if isinstance(example, Sequence):
            return signature.bind(*example)
    except TypeError as exc:
        raise ExportError(f"the example does not fit {_title(module)}.forward{signature}: {exc}") from exc
    raise ExportError(
        f"the example is of type {type(example).__name__}; expected a tensor, a tuple or list of forward()'s "
        "arguments, or a dict of them by name"
    )


def _argument_names(module: nn.Module, paths: Sequence[tuple[Any, ...]]) -> list[str]:
    arguments = [path[0].key for path in paths]
    has_lstm = any(isinstance(m, (nn.LSTM, nn.LSTMCell)) for m in module.modules())
    names = []
    for path, argument in zip(paths, arguments, strict=True):
        if arguments.count(argument) == 1 and len(path) == 1:
            names.append(argument)
        elif has_lstm and is_state_name(argument) and arguments.count(argument) == 2:
            names.append("h" if arguments.index(argument) == len(names) else "c")
        else:
            names.append("_".join([argument, *(path_key(part) for part in path[1:])]))
    return names


def path_key(part: Any) -> str:
    """One step of a path: a dict's key, a named tuple's field, or a position."""
    for attribute in ("key", "name", "idx"):
        if hasattr(part, attribute):
            return str(getattr(part, attribute))
    return str(part)


def is_state_name(name: str, *, surely: bool = False) -> bool:
    """Whether a name reads as a recurrent state's: one of its words is h, state, hidden, cache ..."""
    words = _SURE_WORDS if surely else _STATE_WORDS
    return any(word.lower() in words for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+", name))


def output_keys(module: nn.Module, returned: Any) -> list[str | None]:
    """For each tensor returned, its name by dict keys and fields, or None; refuses what is no tensor."""
    keys: list[str | None] = []
    for path, leaf in pytree.tree_flatten_with_path(returned)[0]:
        if leaf is None:
            continue
        if not isinstance(leaf, Tensor):
            raise ExportError(
                f"{_title(module)}.forward returns {type(leaf).__name__} at "
                f"{pytree.keystr(path) or 'the top'}; "
                "an ONNX graph gives tensors only: return a tensor, or tensors in tuples, lists or dicts"
            )
        named = any(isinstance(part, (pytree.MappingKey, pytree.GetAttrKey)) for part in path)
        keys.append("_".join(map(path_key, path)) if named else None)
    if isinstance(module, nn.RNNBase):
        keys = [*("y", "h_n", "c_n")[: len(keys)]]
    return keys


def _title(module: nn.Module) -> str:
    return type(module).__name__
