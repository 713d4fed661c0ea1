"""Modules, checkpoints and examples from the words of a command line."""

from __future__ import annotations

import pickle
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from streamgru.errors import OptionError
from streamgru_export.from_torch.loading import example, load_module

SOURCE = """
import torch

net = torch.nn.Linear(3, 2)
answer = 42


def build(inputs=3, outputs=2, bias=True):
    return torch.nn.Linear(inputs, outputs, bias)


def nothing():
    return "no module"
"""


@pytest.fixture(name="nets")
def fixture_nets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A file in the current folder, of a name that no other test uses."""
    name = f"nets_of_{tmp_path.name}".replace("-", "_")
    (tmp_path / f"{name}.py").write_text(SOURCE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))  # what is added to it goes again
    return name


def test_a_module_is_taken_as_it_is_and_a_factory_is_called(nets: str) -> None:
    assert isinstance(load_module(f"{nets}:net"), nn.Linear)
    made = load_module(f"{nets}:build", '{"inputs": 5, "bias": false}')
    assert (made.in_features, made.out_features, made.bias) == (5, 2, None)


def test_what_is_loaded_is_in_eval_mode(nets: str) -> None:
    assert not load_module(f"{nets}:build").training


@pytest.mark.parametrize(
    "words, arguments, match",
    [
        ("build", "{}", "not of the form package.module:factory"),
        (":build", "{}", "not of the form package.module:factory"),
        ("NETS:", "{}", "not of the form package.module:factory"),
        ("NETS:absent", "{}", "absent"),
        ("NETS:answer", "{}", "int"),
        ("NETS:nothing", "{}", "gives str, not a torch.nn.Module"),
        ("NETS:build", '{"depth": 3}', "depth"),
    ],
)
def test_what_makes_no_module_is_refused(nets: str, words: str, arguments: str, match: str) -> None:
    with pytest.raises(OptionError, match=match):
        load_module(words.replace("NETS", nets), arguments)


@pytest.mark.parametrize("wrap", [lambda state: state, lambda state: {"state_dict": state, "epoch": 3}])
def test_a_checkpoint_fills_the_module(nets: str, tmp_path: Path, wrap: Any) -> None:
    trained = nn.Linear(3, 2)
    torch.save(wrap(trained.state_dict()), tmp_path / "net.pt")
    loaded = load_module(f"{nets}:build", weights=tmp_path / "net.pt")
    assert all(torch.equal(x, trained.state_dict()[name]) for name, x in loaded.state_dict().items())


@pytest.mark.parametrize("state", [nn.Linear(4, 2).state_dict(), {"other": torch.zeros(2)}, {}, [1, 2]])
def test_a_checkpoint_that_does_not_fit_is_refused(nets: str, tmp_path: Path, state: Any) -> None:
    torch.save(state, tmp_path / "net.pt")
    with pytest.raises(OptionError, match=r"net\.pt does not fit the module"):
        load_module(f"{nets}:build", weights=tmp_path / "net.pt")


class Runs:
    """Unpickling it would run code."""

    def __reduce__(self) -> Any:
        return Path.touch, (Path("ran"),)


def test_a_checkpoint_runs_no_code(nets: str, tmp_path: Path) -> None:
    torch.save({"state_dict": Runs()}, tmp_path / "net.pt")
    with pytest.raises(OptionError, match="no checkpoint of plain tensors"):
        load_module(f"{nets}:build", weights=tmp_path / "net.pt")
    assert not (tmp_path / "ran").exists()
    (tmp_path / "net.pkl").write_bytes(pickle.dumps(Runs()))
    with pytest.raises(OptionError, match="no checkpoint of plain tensors"):
        load_module(f"{nets}:build", weights=tmp_path / "net.pkl")
    assert not (tmp_path / "ran").exists()


def test_an_example_is_random_by_its_seed() -> None:
    first, again, other = (example("2,1,64", seed) for seed in (0, 0, 1))
    assert first.shape == (2, 1, 64)
    assert first.dtype == torch.float32
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert abs(float(first.mean())) < 4 / 128**0.5  # 128 standard normal numbers: four standard errors


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16])
def test_an_example_has_the_dtype_that_is_named(dtype: torch.dtype) -> None:
    x = example(f"3,2:{str(dtype).removeprefix('torch.')}", 0)
    assert (x.dtype, tuple(x.shape)) == (dtype, (3, 2))
    assert x.unique().numel() > 1


def test_an_example_of_integers_is_an_index_that_is_always_valid() -> None:
    assert torch.equal(example("1,4:int64", 5), torch.zeros(1, 4, dtype=torch.int64))


@pytest.mark.parametrize(
    "spec, match",
    [("1,x", "sizes separated by commas"), ("", "sizes separated by commas"), ("1,2:floot", "no dtype 'floot'"),
     ("1:nn", "no dtype 'nn'")],
)  # fmt: skip
def test_an_example_that_cannot_be_read_is_refused(spec: str, match: str) -> None:
    with pytest.raises(OptionError, match=match):
        example(spec, 0)
