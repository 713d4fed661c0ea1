"""torch set as a measurement or a proof needs it, and left as it was. For `with`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import inference_mode

__all__ = ["eval_mode", "inference_mode", "one_thread"]


@contextmanager
def one_thread() -> Iterator[None]:
    """torch on one thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


@contextmanager
def eval_mode(module: object) -> Iterator[None]:
    """A module in eval mode; whatever is no module has no mode."""
    if not (isinstance(module, torch.nn.Module) and module.training):
        yield
        return
    module.eval()
    try:
        yield
    finally:
        module.train()
