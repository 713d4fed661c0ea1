"""What goes into and comes out of a module: flat tensors with names, the state pairs, the time and batch
axes.

It does not export anything. What a signature cannot say (which axis is time, which axes may change) is found
by running the module on a longer example: nothing here knows one architecture from another.
"""

from __future__ import annotations

import copy
import inspect
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from streamgru.errors import ExportError

Example: TypeAlias = "Tensor | Sequence[object] | Mapping[str, object]"  # what forward() is called with

# A name is a state's if one of its words is one of these: h, h0, hx, h_prev, gru_state, hiddenState,
# conv_cache ...
_STATE_WORDS = frozenset(
    ("h", "c", "hx", "cx", "hc", "hidden", "cell", "state", "states", "cache", "caches", "carry", "memory")
)
_ENDINGS = r"_(in|out|prev|next|new)$"


@dataclass(frozen=True)
class Interface:
    """The tensors of the exported graph, in order. Positions count the flat inputs and outputs from 0."""

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    examples: tuple[Tensor, ...]
    states: tuple[tuple[int, int], ...]  # (input, output) positions
    time_axes: Mapping[int, int]  # input position -> its dynamic time axis; empty for a step graph
    batch_axes: Mapping[int, int]  # input position -> its dynamic batch axis; empty for a fixed batch

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


def is_state_name(name: str) -> bool:
    """Whether a name reads as a recurrent state's: one of its words is h, state, hidden, cache ..."""
    return any(word.lower() in _STATE_WORDS for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+", name))


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


@dataclass(frozen=True)
class StateNames:
    """Which inputs are states, which outputs continue them, and the names that follow."""

    pairs: tuple[tuple[int, int], ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    notices: tuple[str, ...]


def find_states(
    inputs: Sequence[str],
    examples: Sequence[Tensor],
    keys: Sequence[str | None],
    results: Sequence[Tensor],
    *,
    input_names: Sequence[str] | None,
    output_names: Sequence[str] | None,
    state: Sequence[tuple[str, str]] | None,
) -> StateNames:
    """Pair the state inputs with the outputs that continue them, and name everything.

    Without `state`, an input is a state if its name reads as one and an output has its shape and dtype: the
    output of its name, else the last that is free, as modules return their state after their result.
    """
    names_in = _given(input_names, len(examples), "input_names", "tensor inputs") or list(inputs)
    names_out = _given(output_names, len(results), "output_names", "outputs")
    wanted = _wanted(names_in, inputs, state)
    fixed: list[str | None] = [*(names_out or keys)]
    if state is not None and names_out is not None:
        _check_outputs(wanted, names_out)
    pairs: dict[int, int] = {}
    for i, name in wanted.items():
        o = _named_output((name,) if name else (names_in[i], inputs[i]), fixed)
        if o is not None and o not in pairs.values() and _alike(examples[i], results[o]):
            pairs[i] = o
    notices: list[str] = []
    for i in reversed([i for i in wanted if i not in pairs]):
        free = [o for o, y in enumerate(results) if o not in pairs.values() and _alike(examples[i], y)]
        named = wanted[i] is not None and wanted[i] in fixed  # the caller's output has another shape: no other will do
        if free and not named:
            pairs[i] = free[-1]
        elif state is not None:
            raise ExportError(_unmatched(names_in[i], wanted[i], examples[i], results))
        else:
            notices.append(
                f"input '{names_in[i]}' reads as a state, but no output has its shape "
                f"{tuple(examples[i].shape)}: it is exported as an ordinary input"
            )
    if state is None:
        for i, o in pairs.items():
            if _named_output((names_in[i], inputs[i]), fixed) != o:
                notices += _ambiguity(names_in[i], o, results, pairs.values())
    ordered = tuple(sorted(pairs.items()))
    if input_names is None and state is None:
        names_in = _suffix_states(names_in, ordered)
    outs = names_out or _output_names(keys, names_in, ordered, wanted)
    names_in, outs = _unique(names_in, outs, ordered)
    return StateNames(ordered, tuple(names_in), tuple(outs), tuple(notices))


def _given(names: Sequence[str] | None, count: int, argument: str, what: str) -> list[str] | None:
    if names is not None and (len(names) != count or len(set(names)) != count):
        raise ExportError(f"{argument} is {list(names)}; this module has {count} {what}: give {count} different names")
    return None if names is None else list(names)


def _wanted(
    names: Sequence[str], arguments: Sequence[str], state: Sequence[tuple[str, str]] | None
) -> dict[int, str | None]:
    """Positions of the inputs to pair, with the output's name where the caller gave it."""
    if state is None:
        found = [
            i for i, (n, a) in enumerate(zip(names, arguments, strict=True)) if is_state_name(n) or is_state_name(a)
        ]
        return dict.fromkeys(found)
    wanted: dict[int, str | None] = {}
    for name, output in state:
        if name not in names and name not in arguments:
            raise ExportError(f"state= names the input '{name}'; the inputs are {', '.join(names)}")
        wanted[names.index(name) if name in names else arguments.index(name)] = output
    return dict(sorted(wanted.items()))


def _check_outputs(wanted: Mapping[int, str | None], outputs: Sequence[str]) -> None:
    for name in wanted.values():
        if name not in outputs:
            raise ExportError(f"state= names the output '{name}'; the outputs are {', '.join(outputs)}")


def _named_output(names: Sequence[str], outputs: Sequence[str | None]) -> int | None:
    """The output of one of these names, or so but for the ending: `h_out` and `h_new` continue `h_in`."""
    stems = [output and re.sub(_ENDINGS, "", output) for output in outputs]
    for name in names:
        for known, wanted in ((outputs, name), (stems, re.sub(_ENDINGS, "", name))):
            if wanted in known:
                return known.index(wanted)
    return None


def _alike(a: Tensor, b: Tensor) -> bool:
    return a.shape == b.shape and a.dtype == b.dtype


def _unmatched(name: str, output: str | None, x: Tensor, results: Sequence[Tensor]) -> str:
    shapes = ", ".join(f"{tuple(y.shape)} {y.dtype}" for y in results)
    return (
        f"state= pairs the input '{name}' with the output '{output}': no output left for it has its shape "
        f"{tuple(x.shape)} and dtype {x.dtype}; the outputs are {shapes}. Return the new state from forward()"
    )


def _ambiguity(name: str, chosen: int, results: Sequence[Tensor], taken: Iterable[int]) -> list[str]:
    """A notice where another output could as well continue this state.

    An output that merely repeats a state's values, as a one-layer GRU's y repeats h, is no rival.
    """
    used = set(taken)
    rivals = [o for o, y in enumerate(results) if o not in used and _alike(y, results[chosen])]
    rivals = [o for o in rivals if not any(torch.equal(results[o], results[u]) for u in used)]
    if not rivals:
        return []
    return [
        f"outputs {[*rivals, chosen]} all have the shape of the state '{name}'; output {chosen} is taken to "
        "continue it. If that is wrong, pass output_names=[...] and state=[(input, output)]"
    ]


def _suffix_states(names: Sequence[str], pairs: Sequence[tuple[int, int]]) -> list[str]:
    """`h`, `hx`, `h0`, `h_prev`, `h_in` become `h_in`; a name that would then appear twice stays."""
    renamed = list(names)
    for i, _ in pairs:
        stem = re.sub(r"_(in|prev)$", "", names[i])
        stem = {"hx": "h", "cx": "c"}.get(stem, stem)
        if re.fullmatch(r"[hc]_?0", stem) and not any(n != names[i] and n.startswith(stem[0]) for n in names):
            stem = stem[0]
        if f"{stem}_in" not in renamed:
            renamed[i] = f"{stem}_in"
    return renamed


def _output_names(
    keys: Sequence[str | None],
    inputs: Sequence[str],
    pairs: Sequence[tuple[int, int]],
    wanted: Mapping[int, str | None],
) -> list[str]:
    """The caller's name for a state, else `<state>_out`, else the key in what was returned, else y, y1."""
    continued = {o: wanted.get(i) or re.sub("_in$", "", inputs[i]) + "_out" for i, o in pairs}
    names: list[str] = []
    for o, key in enumerate(keys):
        plain = sum(k is None and p not in continued for p, k in enumerate(keys[:o]))
        names.append(continued.get(o) or key or ("y" if plain == 0 else f"y{plain}"))
    return names


def _unique(inputs: list[str], outputs: list[str], pairs: Sequence[tuple[int, int]]) -> tuple[list[str], list[str]]:
    """A value has one name in ONNX: a state called alike on both sides gets `_in` and `_out`."""
    for i, o in pairs:
        if inputs[i] == outputs[o]:
            inputs[i], outputs[o] = f"{inputs[i]}_in", f"{outputs[o]}_out"
    for o, name in enumerate(outputs):
        if name in inputs or name in outputs[:o]:
            outputs[o] = f"{name}_{o}" if f"{name}_{o}" not in [*inputs, *outputs] else f"output_{o}"
    return inputs, outputs


def _title(module: nn.Module) -> str:
    return type(module).__name__
