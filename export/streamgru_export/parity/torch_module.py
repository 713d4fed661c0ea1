"""The torch module as one of the implementations that a parity check compares. Rules are those of `traces.py`.

It is compared in the dtype that `export` writes, which is float32: a module in float16 or bfloat16 is copied and its
copy made float32, for its numbers are float32 numbers too. A module in float64 is run as it is.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from streamgru._types import Array

from ..differences import Trace
from ..torch_modes import eval_mode
from .traces import Arrays, Case, NotComparedError, as_frames, its_reason, stepped_trace, whole_trace

# A module stepped by its own state gives its whole run up to this; else it was stepped wrongly.
CONSISTENT = 1e-4


class TorchModule:
    """A torch module as a function of arrays, in the order of the graph's inputs and outputs.

    It runs in eval mode without gradients, and is left in the mode it was in.

    Attributes
    ----------
    remarks : list of str
        What a reader of the certificate should know of the module's dtype.
    """

    def __init__(
        self, module: Callable[..., object], inputs: Sequence[str], outputs: Sequence[str], bound: Arrays | None = None
    ) -> None:
        self.inputs, self.outputs, self.bound = inputs, outputs, bound or {}
        self.remarks: list[str] = []
        self.module = self._in_float32(module)
        # What to feed: floats as the parameters are, or as the frames are where that is not what it takes.
        self._dtypes: list[torch.dtype | None] = [*_dtypes(self.module)[:1], None, *_dtypes(self.module)[1:]]
        forward = getattr(module, "forward", module)
        kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
        self.arity = sum(p.kind in kinds for p in inspect.signature(forward).parameters.values())

    def run(self, feeds: Mapping[str, Array]) -> Arrays:
        """One call of the module, by the graph's names."""
        return self._named(self._call(feeds))

    def whole(self, name: str, case: Case) -> Trace:
        """The whole sequence in one call; prefixes too for outputs that have no time axis."""
        if not case.is_sequence:
            raise NotComparedError("the graph is one step of the module, which is compared stepped")
        return whole_trace(name, case, lambda n: self.run({**case.initial_states(), **case.feed(0, n)}))

    def stepped(self, name: str, case: Case) -> Trace:
        """A step at a time: the state fed back by the graph's names, or from the module's last results."""
        if case.hidden_states:
            return self._by_its_own_state(name, case)
        state, results = case.initial_states(), []
        for t in range(case.steps):
            result = self.run({**state, **case.feed(t, t + 1)})
            state = {name: result[output] for name, output in case.state_names.items()}
            results.append(result)
        return stepped_trace(name, case, results)

    def _by_its_own_state(self, name: str, case: Case) -> Trace:
        """Step a module whose state the graph hides: forward(x, state=None) -> (y, state).

        Optional arguments need not be a state, so the steps must first give what the whole run gives.
        """
        extra = self.arity - len(self.inputs)
        if extra < 1:
            raise NotComparedError("the module's forward takes no state")
        state: tuple[object, ...] = ()
        results = []
        for t in range(case.steps):
            result = self._call(case.feed(t, t + 1), state)
            if not isinstance(result, (tuple, list)) or len(result) < 2:
                raise NotComparedError("the module's forward returns no state")
            state = tuple(result[-min(extra, len(result) - 1) :])
            results.append(self._named(result))
            if t == min(2, case.steps - 1) and not self._gives_whole(case, results):
                raise NotComparedError("the module's last results, fed back, do not continue its sequence")
        return stepped_trace(name, case, results)

    def _gives_whole(self, case: Case, results: Sequence[Arrays]) -> bool:
        """Whether the last step equals the last step of one run over all of them."""
        whole = self._named(self._call(case.feed(0, len(results))))
        pairs = [
            (as_frames(t, whole[t.name])[-1], as_frames(t, results[-1][t.name])[-1])
            for t in case.model.outputs
            if t.name in whole
        ]
        return all(a.shape == b.shape and np.allclose(a, b, rtol=CONSISTENT, atol=CONSISTENT) for a, b in pairs)

    def _in_float32(self, module: Callable[..., object]) -> Callable[..., object]:
        """The module, or a float32 copy of one that holds less."""
        narrow = [dtype for dtype in _dtypes(module) if dtype.itemsize < torch.float32.itemsize]
        if not narrow or not isinstance(module, torch.nn.Module):
            return module
        listed = " and ".join(str(dtype).removeprefix("torch.") for dtype in narrow)
        self.remarks.append(f"the module is in {listed}: it is compared in float32, as it is exported")
        with its_reason("a float32 copy of the module"):
            return copy.deepcopy(module).float()

    def _call(self, feeds: Mapping[str, Array], state: Sequence[object] = ()) -> object:
        """What the module returns. Its first call settles the dtype."""
        failures: list[NotComparedError] = []
        for dtype in self._dtypes:
            try:
                result = self._call_in(dtype, feeds, state)
            except NotComparedError as reason:
                failures.append(reason)
                continue
            self._dtypes = [dtype]
            return result
        raise failures[0]

    def _call_in(self, dtype: torch.dtype | None, feeds: Mapping[str, Array], state: Sequence[object]) -> object:
        """The same with floats of this dtype. Surplus tensors go together in the last argument, as an LSTM's (h, c)."""
        fed = {**self.bound, **feeds}
        with its_reason("the module"), torch.no_grad(), eval_mode(self.module):
            tensors: list[Any] = [_fed(fed[name], dtype) for name in self.inputs]
            if 0 < self.arity < len(tensors):
                tensors[self.arity - 1 :] = [tuple(tensors[self.arity - 1 :])]
            return self.module(*tensors, *state)

    def _named(self, result: object) -> Arrays:
        """The tensors in what the module returned, under the graph's output names."""
        tensors = list(_leaves(result))
        if len(tensors) < len(self.outputs):
            raise NotComparedError(f"the module gives {len(tensors)} tensors, the graph {len(self.outputs)}")
        return {name: self._array(name, tensor) for name, tensor in zip(self.outputs, tensors, strict=False)}

    def _array(self, name: str, tensor: Tensor) -> Array:
        """The same numbers; NumPy has no bfloat16, but float32 has them all."""
        narrow = tensor.is_floating_point() and tensor.dtype.itemsize < torch.float32.itemsize
        remark = f"the module gives {name} in {str(tensor.dtype).removeprefix('torch.')}, rounded to that"
        if narrow and remark not in self.remarks:
            self.remarks.append(remark)
        tensor = tensor.detach().cpu()
        array: Array = (tensor.float() if narrow else tensor).numpy().copy()
        return array


def _dtypes(module: Callable[..., object]) -> list[torch.dtype]:
    """Of its floats, in order: parameters first."""
    if not isinstance(module, torch.nn.Module):
        return []
    tensors = (*module.parameters(), *module.buffers())
    return list(dict.fromkeys(tensor.dtype for tensor in tensors if tensor.is_floating_point()))


def _fed(array: Array, dtype: torch.dtype | None) -> Tensor:
    """A tensor of its own memory; floats in this dtype, where there is one."""
    tensor = torch.from_numpy(np.array(array))
    return tensor.to(dtype) if tensor.is_floating_point() else tensor


def _leaves(result: Any) -> Iterator[Tensor]:
    """The tensors of nested tuples, lists and dicts, in order."""
    if isinstance(result, Mapping):
        result = tuple(result.values())
    if isinstance(result, (tuple, list)):
        for part in result:
            yield from _leaves(part)
    elif isinstance(result, Tensor):
        yield result
    elif result is not None:
        raise NotComparedError(f"the module returns a {type(result).__name__} where the graph has a tensor")
