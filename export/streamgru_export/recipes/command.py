"""What `streamgru train` answers: the list of recipes, a recipe's outcome, or one of the tables and plots."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from streamgru._workshop import workshop
from streamgru.errors import OptionError

from . import RECIPES, train

Answer = tuple[bool, dict[str, Any], str]  # what was asked holds; for machines; for people
Say = Callable[[str], None]


def answer(args: argparse.Namespace) -> Answer:
    """Do what the command line asks.

    Raises
    ------
    OptionError
        No recipe was named, or there is none of that name, or a setting is not allowed.
    """
    say: Say = (lambda line: None) if args.json else print
    for name, function in _TABLES.items():
        if getattr(args, name):
            return function(args, args.output or Path("build") / name, say)
    if args.recipe is None:
        raise OptionError("which recipe? `streamgru train --list` shows them")
    settings = [*args.set, *([f"resume={args.resume}"] if args.resume else [])]
    folder = args.output or Path("build") / args.recipe
    outcome = train(args.recipe, folder, settings=settings, toml=args.config, say=say)
    return outcome.ok, outcome.to_dict(), outcome.summary()


def _list(args: argparse.Namespace, folder: Path, say: Say) -> Answer:
    names = {name: recipe.summary for name, recipe in RECIPES.items()}
    lines = [f"{name:<18} {summary}" for name, summary in names.items()]
    return True, {"ok": True, "recipes": names}, "\n".join(lines)


def _compare(args: argparse.Namespace, folder: Path, say: Say) -> Answer:
    compare = workshop("recipes.compare", "streamgru train --compare")
    rows = compare.compare(folder, compare.CONFIG.from_words(args.set), say)
    ok = all(row.parity for row in rows)
    text = f"{compare.table(rows)}\nwrote {folder}/compare.json and compare.png"
    return ok, {"ok": ok, "rows": [asdict(row) for row in rows]}, text


def _diagnose(args: argparse.Namespace, folder: Path, say: Say) -> Answer:
    diagnose = workshop("recipes.diagnose", "streamgru train --diagnose")
    data = diagnose.diagnose(folder, say)
    return True, {"ok": True, **data}, f"wrote {folder}/diagnose.json and diagnose.png"


def _family(args: argparse.Namespace, folder: Path, say: Say) -> Answer:
    family = workshop("recipes.family", "streamgru train --family")
    rows, written = family.measure_all(folder, say)
    ok = all(row.holds for row in rows) and all(row.identical == row.inputs for row in written)
    data = {"ok": ok, "rows": [asdict(row) for row in rows], "written": [asdict(row) for row in written]}
    return ok, data, f"\n{family.table(rows, written)}\nwrote {folder}/family.md and family.json"


_TABLES: dict[str, Callable[[argparse.Namespace, Path, Say], Answer]] = {
    "list": _list,
    "compare": _compare,
    "diagnose": _diagnose,
    "family": _family,
}
