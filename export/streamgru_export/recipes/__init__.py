"""Recipes: each trains a net of the zoo on data of its own, ships it as a stream, proves it and judges the result.

A recipe is a module here with `CONFIG`, how it is trained unless told otherwise, and `run(folder, config, say)`.
Listing them imports none, and no torch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from streamgru._disk import make_folder
from streamgru._workshop import workshop
from streamgru.errors import OptionError

from ..training.config import TrainConfig

if TYPE_CHECKING:
    from .outcome import Outcome

__all__ = ["RECIPES", "Recipe", "train"]


@dataclass(frozen=True)
class Recipe:
    """A recipe by name.

    Attributes
    ----------
    summary : str
        In one line.
    module : str
        The file here.
    options : dict
        Further arguments of its `run`.
    """

    summary: str
    module: str
    options: dict[str, str] = field(default_factory=dict)


RECIPES = {
    "co2": Recipe("forecast the weekly CO2 at Mauna Loa", "co2"),
    "numbers": Recipe("write numbers in words as digits: encoder–decoder", "numbers", {"name": "numbers"}),
    "numbers-additive": Recipe("the same with Bahdanau's attention", "numbers", {"name": "numbers-additive"}),
    "numbers-dot": Recipe("the same with Luong's attention", "numbers", {"name": "numbers-dot"}),
    "characters": Recipe("write Shakespeare: a character language model", "characters"),
    "denoise": Recipe("take the noise out of speech, WAV in and WAV out", "denoise"),
    "dna": Recipe("label promoters and coding regions in DNA", "dna"),
    "anomaly": Recipe("find faults in a machine's sensors", "anomaly"),
}


def train(
    name: str,
    folder: Path,
    *,
    settings: Iterable[str] = (),
    toml: Path | None = None,
    say: Callable[[str], None] = print,
) -> Outcome:
    """Run a recipe on one thread.

    Parameters
    ----------
    name : str
        One of RECIPES.
    folder : Path
        Where its files go; made where it is missing.
    settings : iterable of str
        `name=value` of :class:`TrainConfig`; they win over `toml`, and that over the recipe's own.
    toml : Path, optional
    say : callable
        Told each step in one line.

    Raises
    ------
    OptionError
        No such recipe, or a setting that is not allowed.
    """
    if name not in RECIPES:
        raise OptionError(f"{name!r} is no recipe; one of {', '.join(RECIPES)} was expected")
    recipe = RECIPES[name]
    purpose = f"streamgru train {name}"
    module = workshop(f"recipes.{recipe.module}", purpose)
    config: TrainConfig = module.CONFIG if toml is None else module.CONFIG.from_toml(toml)
    config = config.from_words(settings)
    make_folder(folder)
    with workshop("torch_modes", purpose).one_thread():
        outcome: Outcome = module.run(folder, config, say, **recipe.options)
    return outcome
