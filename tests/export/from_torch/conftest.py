"""Every test of the exporter begins with the same random numbers, and has a file to write."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor

from export.from_torch.nets import SEED, Net
from streamgru_export.from_torch.export import export


class Exported(NamedTuple):
    """A module after an export, what it held before, and the file."""

    net: Net
    before: dict[str, Tensor]
    path: Path


@pytest.fixture(autouse=True)
def _seeded() -> Iterator[None]:
    print(f"torch.manual_seed({SEED})")
    torch.manual_seed(SEED)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "model.onnx"


@pytest.fixture(scope="session")
def net_step(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Any], Exported]:
    """One step of a Net in training mode but for its head; exported once for all who only read the file."""

    @functools.cache
    def make(exporter: Any) -> Exported:
        torch.manual_seed(SEED)
        net = Net().train()
        net.head.eval()
        before = {name: x.clone() for name, x in net.state_dict().items()}
        path = tmp_path_factory.mktemp("net") / "model.onnx"
        export(net, (torch.randn(1, 1, 4), torch.zeros(2, 1, 8)), path, exporter=exporter)
        return Exported(net, before, path)

    return make
