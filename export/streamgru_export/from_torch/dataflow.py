"""What a module does with its inputs, seen from one run on the example: which result depends on which input, which
continues which state, and where Python reads the values of a tensor.

It watches the calls of torch's functions; it reads no source but the line that it names, and exports nothing.
Numbers would not do: at one time step a GRU's result and its next state are equal.
"""

from __future__ import annotations

import linecache
import sys
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree

from .signature import FlatModule

TORCH = str(Path(torch.__file__).parent)

Inputs = frozenset[int]  # positions among the flat inputs
NO_INPUTS: Inputs = frozenset()

LAYERS = frozenset(("gru", "lstm", "rnn_tanh", "rnn_relu"))  # (x, h, weights ...) -> (frames, states ...)
CELLS = frozenset(("gru_cell", "lstm_cell", "rnn_tanh_cell", "rnn_relu_cell"))  # (x, h, weights ...) -> states
PACK = "_pack_padded_sequence"  # (x, lengths, ...)

# The same numbers at another place, or as another dtype.
MOVES = frozenset((
    "__get__", "__getitem__", "__setitem__", "_pad_packed_sequence",
    "cat", "chunk", "clone", "concat", "contiguous", "cpu", "detach", "double", "expand",
    "flatten", "float", "flip", "hsplit", "hstack", "index_select", "movedim", "narrow", "permute", "reshape",
    "select", "split", "squeeze", "stack", "swapaxes", "t", "to", "transpose", "type", "unbind", "unflatten",
    "unsqueeze", "view", "view_as", "vstack",
))  # fmt: skip
MASKS = frozenset(("__mul__", "__rmul__", "mul", "multiply", "masked_fill", "where"))  # a state, where it is not reset
NEW = frozenset(("empty_like", "full_like", "new_empty", "new_ones", "new_zeros", "ones_like", "zeros_like"))
READS = frozenset((
    "__bool__", "__complex__", "__contains__", "__float__", "__index__", "__int__", "__array__", "allclose", "equal",
    "is_nonzero", "item", "numpy", "tolist",
))  # fmt: skip


@dataclass(frozen=True)
class Facts:
    """What is known of one tensor."""

    depends: Inputs = NO_INPUTS  # the inputs whose values it depends on
    ends: Inputs = NO_INPUTS  # the states whose successor, as a layer made it, it depends on
    same: Inputs = NO_INPUTS  # the inputs that it is, or part of, but for a mask
    continues: Inputs = NO_INPUTS  # the states whose successor it is, or part of, but for a mask
    frames: bool = False  # whether it is a layer's result for its frames, or part of it
    origin: int = 0  # equal for tensors that the same functions made of the same tensors


@dataclass(frozen=True)
class Place:
    """A line of a program."""

    file: str
    line: int

    def __str__(self) -> str:
        code = linecache.getline(self.file, self.line).strip()
        return f"{Path(self.file).name}:{self.line}" + (f": `{code}`" if code else "")


@dataclass(frozen=True)
class Read:
    """A place where Python reads a tensor's values."""

    function: str  # __bool__, item, tolist ...
    inputs: Inputs  # whose values
    place: Place
    answer: bool  # whether what was read counts as true


@dataclass(frozen=True)
class Flow:
    """What one run of a module showed."""

    results: tuple[Facts, ...]
    states: Mapping[int, Place]  # the inputs that reach a recurrent layer's initial state, and where
    cells: Inputs  # those of them that reach a cell's
    successors: Mapping[int, tuple[Tensor, ...]]  # what layers made of these states
    lengths: Inputs  # the inputs that the lengths of packed sequences depend on
    packs: bool  # whether it packs sequences at all
    reads: tuple[Read, ...]

    @property
    def used(self) -> Inputs:
        """The inputs whose values a result depends on."""
        return NO_INPUTS.union(*(facts.depends for facts in self.results))

    @property
    def origins(self) -> tuple[int, ...]:
        """Equal for two runs that computed the same."""
        return tuple(facts.origin for facts in self.results)


def watch(module: FlatModule, examples: Sequence[Tensor], answers: Mapping[int, bool] | None = None) -> Flow:
    """Run a module on the example and see where the inputs go.

    Parameters
    ----------
    answers : mapping, optional
        What the n-th read of a truth value shall give, in place of the truth.
    """
    with torch.no_grad(), _Watch(module, examples, answers or {}) as watching:
        results = module(*examples)
    return Flow(
        results=tuple(watching.of(y) for y in results),
        states=watching.states,
        cells=watching.cells,
        successors={i: tuple(made) for i, made in watching.successors.items()},
        lengths=watching.lengths,
        packs=watching.packs,
        reads=tuple(watching.reads),
    )


class _Watch(TorchFunctionMode):
    """Keeps the facts of every tensor it sees, and the tensors, so that no two have one id."""

    def __init__(self, module: FlatModule, examples: Sequence[Tensor], answers: Mapping[int, bool]) -> None:
        super().__init__()
        self._tensors: dict[int, tuple[Tensor, Facts]] = {}
        self._written: dict[int, Facts] = {}  # by storage: what was written into it, through any view
        self._answers = answers
        self.states: dict[int, Place] = {}
        self.successors: defaultdict[int, list[Tensor]] = defaultdict(list)
        self.lengths = self.cells = NO_INPUTS
        self.packs = False
        self.reads: list[Read] = []
        for name, x in module.state_dict(keep_vars=True).items():
            self._keep(x, Facts(origin=hash(name)))
        for i, x in enumerate(examples):
            own = frozenset([i])
            self._keep(x, Facts(depends=own, same=own, origin=hash(("input", i))))

    def of(self, x: Tensor) -> Facts:
        """What is known of a tensor."""
        _, facts = self._tensors.get(id(x), (x, Facts(origin=id(x))))
        written = self._written.get(_storage(x))
        if written is None:
            return facts
        origin = hash((facts.origin, written.origin))
        return replace(facts, depends=facts.depends | written.depends, ends=facts.ends | written.ends, origin=origin)

    def _keep(self, x: Tensor, facts: Facts) -> None:
        self._tensors[id(x)] = x, facts

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        options = kwargs or {}
        result = func(*args, **options)
        name = getattr(func, "__name__", "")
        given = [self.of(x) for x in pytree.tree_leaves((args, options)) if isinstance(x, Tensor)]
        if name in READS:
            return self._read(name, given, result)
        found = self._facts(name, args, options, given)
        if name in LAYERS:
            self._recur(args, found, result)
        elif name in CELLS:
            self._recur_cell(args, found, result)
        elif isinstance(result, Tensor) and any(result is x for x in args[:1]):
            self._write(result, found)
        else:
            self._note(name, args, found, result)
        return result

    def _facts(self, name: str, args: Sequence[Any], options: Mapping[str, Any], given: Sequence[Facts]) -> Facts:
        """Of what `name` makes of these arguments."""
        plain = [repr(x) for x in pytree.tree_leaves((args, options)) if not isinstance(x, Tensor)]
        origin = hash((name, *plain, *(facts.origin for facts in given)))
        if name in NEW:
            return Facts(origin=origin)
        kept = name in MOVES or name in MASKS
        return Facts(
            depends=NO_INPUTS.union(*(f.depends for f in given)),
            ends=NO_INPUTS.union(*(f.ends for f in given)),
            same=NO_INPUTS.union(*(f.same for f in given)) if kept else NO_INPUTS,
            continues=NO_INPUTS.union(*(f.continues for f in given)) if kept else NO_INPUTS,
            frames=name in MOVES and any(f.frames for f in given),
            origin=origin,
        )

    def _note(self, name: str, args: Sequence[Any], found: Facts, result: Any) -> None:
        """Facts of what a function made: one tensor or several."""
        if name == "__setitem__":
            self._write(args[0], found)
        if name == PACK:
            self.packs = True
            self.lengths |= self.of(args[1]).depends
        for k, x in enumerate(pytree.tree_leaves(result)):
            if isinstance(x, Tensor):
                self._keep(x, replace(found, origin=hash((found.origin, k))))

    def _write(self, x: Tensor, found: Facts) -> None:
        """A function that changes its first argument: what shares its memory changes with it."""
        self._keep(x, found)
        self._written[_storage(x)] = found

    def _recur(self, args: Sequence[Any], found: Facts, result: Any) -> None:
        """A layer's result begins with its frames; the arguments before `bias`, the first truth value, are the
        initial state and the weights."""
        self._note("", args, replace(found, frames=True), result[0])
        bias = next(k for k, x in enumerate(args) if isinstance(x, bool))
        self._continue(args[bias - 2], found, result[1:])

    def _recur_cell(self, args: Sequence[Any], found: Facts, result: Any) -> None:
        self.cells |= NO_INPUTS.union(*(self.of(h).same for h in pytree.tree_leaves(args[1])))
        self._continue(args[1], found, result)

    def _continue(self, initial: Any, found: Facts, final: Any) -> None:
        for k, (before, after) in enumerate(zip(pytree.tree_leaves(initial), pytree.tree_leaves(final), strict=True)):
            same = self.of(before).same | self.of(before).continues
            for i in same:
                self.states.setdefault(i, _place(own=True))
                self.successors[i].append(after)
            origin = hash((found.origin, "state", k))
            self._keep(after, replace(found, continues=same, ends=found.ends | same, origin=origin))

    def _read(self, name: str, given: Sequence[Facts], result: Any) -> Any:
        inputs = NO_INPUTS.union(*(facts.depends for facts in given))
        place = _place()
        if not inputs or place.file.startswith(TORCH):  # a layer's own reads are those of sizes
            return result
        self.reads.append(Read(name, inputs, place, name == "__bool__" and result))
        return self._answers.get(len(self.reads) - 1, result)


def _storage(x: Tensor) -> int:
    return x.untyped_storage()._cdata if x.layout is torch.strided else id(x)


def _place(*, own: bool = False) -> Place:
    """Where the function that is being watched was called; `own`: in code that is not torch's own."""
    skipped = (__file__, TORCH) if own else (__file__,)
    frame = sys._getframe(1)
    while frame.f_back is not None and frame.f_code.co_filename.startswith(skipped):
        frame = frame.f_back
    return Place(frame.f_code.co_filename, frame.f_lineno)
