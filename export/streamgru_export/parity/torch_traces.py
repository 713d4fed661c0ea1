"""The torch module as one of the implementations that a parity check compares: its traces.

torch is imported where a module is called. Rules are those of `parity_traces.py`.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from ..differences import Trace
from .traces import Arrays, Case, NotComparedError, as_frames, its_reason, stepped_trace, whole_trace

# A module stepped by its own state gives its whole run up to this; else it was stepped wrongly.
CONSISTENT = 1e-4


class TorchModule:
    """A torch module as a function of arrays, in the order of the graph's inputs and outputs.

    It runs in eval mode without gradients, and is left in the mode it was in.
    """

    def __init__(self, module: Any, inputs: Sequence[str], outputs: Sequence[str]) -> None:
        self.module, self.inputs, self.outputs = module, inputs, outputs
        forward = getattr(module, "forward", module)
        kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
        self.arity = sum(p.kind in kinds for p in inspect.signature(forward).parameters.values())

    def call(self, feeds: Mapping[str, Any], state: Sequence[Any] = ()) -> Any:
        """What the module returns. Surplus tensors go together in the last argument, as an LSTM's (h, c)."""
        try:
            import torch
        except ImportError as error:
            raise NotComparedError("torch is not installed") from error

        tensors: list[Any] = [torch.from_numpy(np.array(feeds[name])) for name in self.inputs]
        if 0 < self.arity < len(tensors):
            tensors[self.arity - 1 :] = [tuple(tensors[self.arity - 1 :])]
        training = getattr(self.module, "training", False)
        with its_reason("the module"), torch.no_grad():
            if training:
                self.module.eval()
            try:
                return self.module(*tensors, *state)
            finally:
                if training:
                    self.module.train()

    def named(self, result: Any) -> Arrays:
        """The tensors in what the module returned, under the graph's output names."""
        tensors = [tensor.detach().cpu().numpy().copy() for tensor in _leaves(result)]
        if len(tensors) < len(self.outputs):
            raise NotComparedError(f"the module gives {len(tensors)} tensors, the graph {len(self.outputs)}")
        return dict(zip(self.outputs, tensors, strict=False))


def _leaves(result: Any) -> Iterator[Any]:
    """The tensors of nested tuples, lists and dicts, in order."""
    if isinstance(result, Mapping):
        result = tuple(result.values())
    if isinstance(result, (tuple, list)):
        for part in result:
            yield from _leaves(part)
    elif result is not None:
        yield result


def module_whole(name: str, case: Case, module: TorchModule) -> Trace:
    """The module over the whole sequence in one call; over prefixes too for outputs that have no time
    axis."""
    if not case.is_sequence:
        raise NotComparedError("the graph is one step of the module, which is compared stepped")
    return whole_trace(name, case, lambda n: module.named(module.call({**case.initial_states(), **case.feed(0, n)})))


def module_stepped(name: str, case: Case, module: TorchModule) -> Trace:
    """The module a step at a time: its state fed back by the graph's names, or from its last results."""
    if case.hidden_states:
        return _module_by_its_own_state(name, case, module)
    state, results = case.initial_states(), []
    for t in range(case.steps):
        result = module.named(module.call({**state, **case.feed(t, t + 1)}))
        state = {name: result[output] for name, output in case.state_names.items()}
        results.append(result)
    return stepped_trace(name, case, results)


def _module_by_its_own_state(name: str, case: Case, module: TorchModule) -> Trace:
    """Step a module whose state the graph hides: forward(x, state=None) -> (y, state).

    Optional arguments need not be a state, so the steps must first give what the whole run gives.
    """
    extra = module.arity - len(module.inputs)
    if extra < 1:
        raise NotComparedError("the module's forward takes no state")
    state: tuple[Any, ...] = ()
    results = []
    for t in range(case.steps):
        result = module.call(case.feed(t, t + 1), state)
        if not isinstance(result, (tuple, list)) or len(result) < 2:
            raise NotComparedError("the module's forward returns no state")
        state = tuple(result[-min(extra, len(result) - 1) :])
        results.append(module.named(result))
        if t == min(2, case.steps - 1) and not _gives_whole(case, module, results):
            raise NotComparedError("the module's last results, fed back, do not continue its sequence")
    return stepped_trace(name, case, results)


def _gives_whole(case: Case, module: TorchModule, results: Sequence[Arrays]) -> bool:
    """Whether the last step equals the last step of one run over all of them."""
    whole = module.named(module.call(case.feed(0, len(results))))
    return all(
        np.allclose(
            as_frames(t, whole[t.name])[-1],
            as_frames(t, results[-1][t.name])[-1],
            rtol=CONSISTENT,
            atol=CONSISTENT,
        )
        for t in case.model.outputs
        if t.name in whole
    )
