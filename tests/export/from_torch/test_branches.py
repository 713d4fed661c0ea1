"""A module that branches on values: found by both exporters, with the line, and the way to write it works."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from export.from_torch.nets import assert_agrees, refused
from streamgru_export.from_torch.branches import MOST, explain, find_branches
from streamgru_export.from_torch.dataflow import watch
from streamgru_export.from_torch.export import export
from streamgru_export.from_torch.signature import flatten

EXAMPLE = torch.randn(1, 1, 4), torch.zeros(1, 1, 8), torch.zeros(1)


class Policy(nn.Module):
    """Forgets where an episode starts."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.GRU(4, 8)


class Branching(Policy):
    def forward(self, x: Tensor, h: Tensor, starts: Tensor) -> tuple[Tensor, Tensor]:
        if torch.all(starts == 0):
            y, h = self.rnn(x, h)
        else:
            y, h = self.rnn(x, h * (1 - starts).view(1, -1, 1))
        return y * 2, h


class Masked(Policy):
    def forward(self, x: Tensor, h: Tensor, starts: Tensor) -> tuple[Tensor, Tensor]:
        y, h = self.rnn(x, h * (1 - starts).view(1, -1, 1))
        return y * 2, h


class Chosen(Policy):
    def forward(self, x: Tensor, h: Tensor, starts: Tensor) -> tuple[Tensor, Tensor]:
        y, h = self.rnn(x, torch.where(starts.view(1, -1, 1) == 0, h, torch.zeros_like(h)))
        return y * 2, h


class Number(Policy):
    def forward(self, x: Tensor, h: Tensor, starts: Tensor) -> tuple[Tensor, Tensor]:
        y, h = self.rnn(x, h * (1 - starts.item()))
        return y * 2, h


class Checked(Policy):
    def forward(self, x: Tensor, h: Tensor, starts: Tensor) -> tuple[Tensor, Tensor]:
        if (starts < 0).any():
            raise ValueError("starts is negative")
        y, h = self.rnn(x, h * (1 - starts).view(1, -1, 1))
        return y * 2, h


class CheckedOutside(Policy):
    def forward(self, x: Tensor, h: Tensor, starts: Tensor) -> tuple[Tensor, Tensor]:
        if not torch.onnx.is_in_onnx_export() and (starts < 0).any():
            raise ValueError("starts is negative")
        y, h = self.rnn(x, h * (1 - starts).view(1, -1, 1))
        return y * 2, h


class Counting(Policy):
    def forward(self, x: Tensor, h: Tensor, starts: Tensor) -> tuple[Tensor, Tensor]:
        if starts.any():
            self.seen = True
        y, h = self.rnn(x, h * (1 - starts).view(1, -1, 1))
        return y * 2, h


BRANCH = (
    r"(?s)branches on values of 'starts' in test_branches.py:\d+: `if torch.all\(starts == 0\):`"
    r".*torch.where\(condition, a, b\)`.*`h \* \(1 - starts\)`"
)


def test_a_branch_is_refused_before_one_of_the_two_is_traced(path: Path) -> None:
    refused(path, Branching(), EXAMPLE, BRANCH, exporter="legacy")


@pytest.mark.slow
def test_a_branch_is_no_packed_sequence_to_the_default_exporter(path: Path) -> None:
    refused(path, Branching(), EXAMPLE, BRANCH)


@pytest.mark.parametrize("exporter", ["legacy", pytest.param("dynamo", marks=pytest.mark.slow)])
@pytest.mark.parametrize("written", [Masked, Chosen])
def test_the_branch_written_with_tensors_exports(path: Path, written: type[nn.Module], exporter: Any) -> None:
    net = written()
    export(net, EXAMPLE, path, exporter=exporter)
    for starts in (0.0, 1.0):
        assert_agrees(path, net, torch.randn(1, 1, 4), torch.randn(1, 1, 8), torch.full((1,), starts))


def test_a_number_of_a_tensors_value_is_refused_by_tracing(path: Path) -> None:
    refused(path, Number(), EXAMPLE, r"makes numbers of Python's of values of 'starts'.*item\(\)", exporter="legacy")


def test_a_check_is_left_out_with_a_notice(path: Path) -> None:
    """It also refuses most random values; then the example's own are compared."""
    net = Checked()
    with pytest.warns(UserWarning, match="checks values in test_branches.py"):
        result = export(net, EXAMPLE, path, exporter="legacy")
    assert any("verified on the example's values alone" in warning for warning in result.warnings)
    assert_agrees(path, net, torch.randn(1, 1, 4), torch.randn(1, 1, 8), torch.ones(1))


@pytest.mark.slow
def test_a_check_is_to_be_skipped_for_the_default_exporter(path: Path) -> None:
    refused(path, Checked(), EXAMPLE, r"(?s)leave that out.*is_in_onnx_export\(\)`.*Pass exporter=\"legacy\"")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        export(CheckedOutside(), EXAMPLE, path)


def test_a_branch_that_computes_nothing_is_none() -> None:
    flat, names, tensors = flatten(Counting(), EXAMPLE)
    branches = find_branches(flat, tensors, watch(flat, tensors))
    assert (branches.deciding, branches.checks, len(branches.idle)) == ((), (), 1)
    assert "leave that out" in explain(branches, names)


def test_a_loop_until_it_converges_is_a_branch() -> None:
    class Loop(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            while x.abs().max() > 1e-3:
                x = x / 2
            return x

    flat, _, tensors = flatten(Loop(), torch.ones(1, 4) * 2.0**MOST)
    assert len(find_branches(flat, tensors, watch(flat, tensors)).deciding) == 1, "one line"


def test_a_module_that_reads_nothing_has_no_branches() -> None:
    flat, names, tensors = flatten(Masked(), EXAMPLE)
    branches = find_branches(flat, tensors, watch(flat, tensors))
    assert explain(branches, names) == ""
