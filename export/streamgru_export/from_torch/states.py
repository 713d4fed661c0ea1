"""Which inputs of a module are states, and which results continue them.

A pair needs evidence beside its shape: names, or the way through a layer (`dataflow.py`), or a place at the end of the
results with a result left over. A result that a caller would miss is never taken for a state, and a state that goes in
and does not come out is refused.
"""

from __future__ import annotations

import ast
import inspect
import re
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from streamgru.errors import ExportError

from .dataflow import Flow
from .signature import is_state_name

_ENDINGS = r"_(in|out|prev|next|new)$"
_RESULT_NAMES = frozenset(("y", "out", "output", "outputs", "logits", "result", "results", "pred", "prediction"))


@dataclass(frozen=True)
class StateNames:
    """Which inputs are states, which outputs continue them, and the names that follow."""

    pairs: tuple[tuple[int, int], ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    notices: tuple[str, ...]


@dataclass(frozen=True)
class Signature:
    """A module's flat inputs and results, what they are called, and where they go."""

    arguments: Sequence[str]
    examples: Sequence[Tensor]
    keys: Sequence[str | None]
    results: Sequence[Tensor]
    written: Sequence[str | None]  # what forward() calls them in its return statement
    flow: Flow


def find_states(
    signature: Signature,
    *,
    input_names: Sequence[str] | None,
    output_names: Sequence[str] | None,
    state: Sequence[tuple[str, str]] | None,
) -> StateNames:
    """Pair the state inputs with the outputs that continue them, and name everything.

    Raises
    ------
    ExportError
        Names that do not fit; a state of the caller's that no output continues; a state that goes into a recurrent
        layer, or that can be nothing else by its name, and does not come out.
    """
    names_in = _given(input_names, len(signature.examples), "input_names", "tensor inputs")
    names_in = names_in or list(signature.arguments)
    names_out = _given(output_names, len(signature.results), "output_names", "outputs")
    search = _Search(signature, names_in, [*(names_out or signature.keys)], guessed=state is None)
    wanted = search.wanted(state)
    if state is not None and names_out is not None:
        _check_outputs(wanted, names_out)
    search.by_names(wanted)
    search.by_layers(wanted)
    search.by_written_names(wanted)
    search.by_place(wanted)
    for i in wanted:
        if i not in search.pairs:
            search.lost(i, wanted[i])
    search.called_alike()
    ordered = tuple(sorted(search.pairs.items()))
    if input_names is None and state is None:
        names_in = _suffix_states(names_in, ordered)
    outs = names_out or _output_names(signature.keys, names_in, ordered, wanted)
    names_in, outs = _unique(names_in, outs, ordered)
    return StateNames(ordered, tuple(names_in), tuple(outs), tuple(search.notices))


def written_names(module: nn.Module, count: int) -> list[str | None]:
    """What `forward` calls each of its `count` results in its return statement; None where it does not say."""
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(module.forward)))
    except (OSError, TypeError, SyntaxError):  # no source, or a piece of an expression
        return [None] * count
    returned = [_names(r.value) for r in ast.walk(tree) if isinstance(r, ast.Return) and r.value is not None]
    if not returned or any(len(names) != count for names in returned):
        return [None] * count
    return [names[0] if len(set(names)) == 1 else None for names in zip(*returned, strict=True)]


def _names(value: ast.expr) -> list[str | None]:
    if isinstance(value, (ast.Tuple, ast.List)):
        return [name for part in value.elts for name in _names(part)]
    return [value.id if isinstance(value, ast.Name) else None]


@dataclass
class _Search:
    """The pairs found so far; each way to find some leaves what it cannot tell to the next."""

    signature: Signature
    names: Sequence[str]  # of the inputs
    known: Sequence[str | None]  # names of the outputs
    guessed: bool  # the caller did not name the states
    pairs: dict[int, int] = field(default_factory=dict)
    notices: list[str] = field(default_factory=list)

    def wanted(self, state: Sequence[tuple[str, str]] | None) -> dict[int, str | None]:
        """Positions of the inputs to pair, with the output's name where the caller gave it."""
        arguments = self.signature.arguments
        if state is None:
            return {i: None for i in range(len(self.names)) if self._reads_as_state(i) or self._continued(i)}
        wanted: dict[int, str | None] = {}
        for name, output in state:
            if name not in self.names and name not in arguments:
                raise ExportError(f"state= names the input '{name}'; the inputs are {', '.join(self.names)}")
            wanted[self.names.index(name) if name in self.names else arguments.index(name)] = output
        return dict(sorted(wanted.items()))

    def _reads_as_state(self, i: int, *, surely: bool = False) -> bool:
        return any(is_state_name(name, surely=surely) for name in (self.names[i], self.signature.arguments[i]))

    def _continued(self, i: int) -> list[int]:
        """The outputs that a layer made of the state `i`."""
        flow = self.signature.flow
        return [o for o, facts in enumerate(flow.results) if i in facts.continues and self._alike(i, o)]

    def _alike(self, i: int, o: int) -> bool:
        a, b = self.signature.examples[i], self.signature.results[o]
        return a.shape == b.shape and a.dtype == b.dtype

    def _free(self, i: int) -> list[int]:
        """The outputs of its shape that are nobody's, and no frames of the layer whose state it is."""
        taken = self.pairs.values()
        return [o for o in range(len(self.known)) if o not in taken and self._alike(i, o) and not self._frames(i, o)]

    def _frames(self, i: int, o: int) -> bool:
        """Whether `o` is what a layer gives for its frames, where its new state is another."""
        flow, y = self.signature.flow, self.signature.results[o]
        return flow.results[o].frames and i in flow.states and not _repeats(y, flow.successors.get(i, ()))

    def by_names(self, wanted: Mapping[int, str | None]) -> None:
        """The output of the caller's name, or of the input's."""
        for i, name in wanted.items():
            o = _named_output((name,) if name else (self.names[i], self.signature.arguments[i]), self.known)
            if o is not None and o not in self.pairs.values() and self._alike(i, o):
                self.pairs[i] = o

    def _open(self, wanted: Mapping[int, str | None]) -> list[int]:
        """The inputs to pair, the last first; but where the caller's output has another shape no other will do."""
        left = [i for i in wanted if i not in self.pairs and (wanted[i] is None or wanted[i] not in self.known)]
        return left[::-1]

    def by_layers(self, wanted: Mapping[int, str | None]) -> None:
        """The output that a layer made of this state."""
        for i in self._open(wanted):
            found = [o for o in self._continued(i) if o not in self.pairs.values()]
            if found:
                self._take(i, found)

    def by_written_names(self, wanted: Mapping[int, str | None]) -> None:
        """The output that forward() calls as it calls this state."""
        for i in self._open(wanted):
            o = _named_output((self.signature.arguments[i],), self.signature.written)
            if o in self._free(i):
                self.pairs[i] = o

    def by_place(self, wanted: Mapping[int, str | None]) -> None:
        """The last of its shape, as modules return their states after their results."""
        for i in self._open(wanted):
            found = [o for o in self._free(i) if self._could_continue(i, o)]
            if found and (not self.guessed or self._leaves_a_result(wanted)):
                self._take(i, found)

    def _could_continue(self, i: int, o: int) -> bool:
        flow = self.signature.flow
        if self.guessed and self.signature.written[o] in _RESULT_NAMES:
            return False
        if i not in flow.states:
            return True
        return i in flow.results[o].ends or _repeats(self.signature.results[o], flow.successors[i])

    def _leaves_a_result(self, wanted: Mapping[int, str | None]) -> bool:
        """Whether one more pair leaves an output that is no state, and an input that is none."""
        return len(self.pairs) + 1 < len(self.known) and len(wanted) < len(self.names)

    def _take(self, i: int, found: Sequence[int]) -> None:
        """The last of these outputs; a notice where another could as well continue this state.

        An output that merely repeats a state's values, as a one-layer GRU's y repeats h, is no rival.
        """
        self.pairs[i] = found[-1]
        results = self.signature.results
        used = [results[o] for o in self.pairs.values()]
        rivals = [o for o in found[:-1] if not _repeats(results[o], used)]
        if rivals and self.guessed:
            self.notices.append(
                f"outputs {[*rivals, found[-1]]} all have the shape of the state '{self.names[i]}'; output {found[-1]} "
                "is taken to continue it. If that is wrong, pass output_names=[...] and state=[(input, output)]"
            )

    def lost(self, i: int, output: str | None) -> None:
        """A state that no output continues is refused, or noted where it may be none."""
        name, examples, results = self.names[i], self.signature.examples, self.signature.results
        if not self.guessed:
            raise ExportError(_unmatched(name, output, examples[i], results))
        if i in self.signature.flow.states:
            raise ExportError(self._not_returned(i))
        if i not in self.signature.flow.used:
            return  # no state of anything; the exporter drops it
        alike = [o for o in self._free(i) if self.signature.written[o] not in _RESULT_NAMES]
        others = any(not self._reads_as_state(k) for k in range(len(self.names)))
        if others and alike:
            raise ExportError(
                f"'{name}' reads as a state, and forward() returns nothing that must be its successor: output "
                f"{alike[-1]} has its shape, but may be a result. If it is the new state, pass "
                f"state=[({name!r}, '{_stem(name)}_out')]; if not, return the new state after the results, "
                f"`return y, {name}`; if '{name}' is an input like the others, pass state=[]"
            )
        if others and self._reads_as_state(i, surely=True):
            raise ExportError(
                f"'{name}' {tuple(examples[i].shape)} reads as a state, and no output continues it: a stream would "
                f"forget it. Return its successor after the results, `return y, {name}`; or, if '{name}' is an input "
                "like the others, pass state=[]"
            )
        self.notices.append(
            f"input '{name}' reads as a state, but no output continues it: it is exported as an ordinary input. "
            "Pass state=[] to say that it is one, or return its successor"
        )

    def called_alike(self) -> None:
        """An input beside the first that forward() takes and returns under one name may be a state: it is said."""
        if not self.guessed:
            return
        arguments = self.signature.arguments
        for i in range(1, len(arguments)):
            o = _named_output((arguments[i],), self.signature.written)
            if i not in self.pairs and o is not None and o not in self.pairs.values() and self._alike(i, o):
                name, result = self.names[i], self.signature.written[o]
                self.notices.append(
                    f"forward() takes '{name}' and returns '{result}' in its shape, and neither reads as a state: it "
                    f"is exported as an ordinary input. If it is one, pass "
                    f"state=[({name!r}, '{_stem(name)}_out')]; if not, state=[] says so"
                )

    def _not_returned(self, i: int) -> str:
        """The refusal of a state that a layer takes, with the lines to write."""
        flow, arguments = self.signature.flow, self.signature.arguments
        states = [k for k in sorted(flow.states) if self._reads_as_state(k) or k == i]
        after = ", ".join(arguments[k] for k in states)
        same = [arguments[k] for k in states if flow.states[k] == flow.states[i]]
        own = f"({', '.join(same)})" if len(same) > 1 else same[0]
        line = f"`{own} = self.cell(x, {own})`" if i in flow.cells else f"`y, {own} = self.rnn(x, {own})`"
        said = (
            f"forward() takes the state '{self.names[i]}' ({flow.states[i]}) and does not return its successor: a "
            f"stream would forget it. Return what the layer makes of it after the results, as in {line}, "
            f"`return y, {after}`"
        )
        if i in flow.cells:
            return said
        return (
            f"{said}; or pass state=[]: then it is a plain input of a sequence graph, and a stream keeps the layer's "
            "state itself, from zeros"
        )


def _repeats(y: Tensor, others: Sequence[Tensor]) -> bool:
    return any(torch.equal(y, other) for other in others)


def _given(names: Sequence[str] | None, count: int, argument: str, what: str) -> list[str] | None:
    if names is not None and (len(names) != count or len(set(names)) != count):
        raise ExportError(f"{argument} is {list(names)}; this module has {count} {what}: give {count} different names")
    return None if names is None else list(names)


def _check_outputs(wanted: Mapping[int, str | None], outputs: Sequence[str]) -> None:
    for name in wanted.values():
        if name not in outputs:
            raise ExportError(f"state= names the output '{name}'; the outputs are {', '.join(outputs)}")


def _stem(name: str) -> str:
    return re.sub(_ENDINGS, "", name)


def _named_output(names: Sequence[str], outputs: Sequence[str | None]) -> int | None:
    """The output of one of these names, or so but for the ending: `h_out` and `h_new` continue `h_in`."""
    stems = [output and _stem(output) for output in outputs]
    for name in names:
        for known, wanted in ((outputs, name), (stems, _stem(name))):
            if wanted in known:
                return known.index(wanted)
    return None


def _unmatched(name: str, output: str | None, x: Tensor, results: Sequence[Tensor]) -> str:
    shapes = ", ".join(f"{tuple(y.shape)} {y.dtype}" for y in results)
    return (
        f"state= pairs the input '{name}' with the output '{output}': no output left can continue its shape "
        f"{tuple(x.shape)} and dtype {x.dtype}; the outputs are {shapes}. Return the new state from forward()"
    )


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
