"""What weights of fewer bits cost: an image's outputs against those of its float32 twin, over a stream of frames."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from streamgru.codes import Code, index_of
from streamgru.errors import ModelError
from streamgru.model import Model

from ..frames import given_frames, random_frames
from .program.program import Program

FRAMES = 256  # random ones, where none are given


@dataclass(frozen=True)
class OutputError:
    """The error of one output over all frames.

    Attributes
    ----------
    rms : float
        Root of the mean square of the float32 output.
    rmse : float
        Root of the mean square of the difference.
    relative : float
        rmse / rms; of integers, the share that differs.
    """

    rms: float
    rmse: float
    relative: float


def measure(
    reference: bytes, image: bytes, program: Program, samples: Any = None, seed: int = 0
) -> dict[str, OutputError]:
    """The error of each output of `image` against `reference`, of the same graph.

    Parameters
    ----------
    samples : array, or dict of name to array, optional
        Frames as :meth:`Stream.run` takes them; by default 256 standard normal ones.
    """
    exact, rough = (Model(each, max_ops=None) for each in (reference, image))
    if samples is None:
        frames = random_frames(exact, _id_tables(program), FRAMES, seed)
    else:
        frames = given_frames(exact, samples)
    want, got = (_outputs(model, frames) for model in (exact, rough))
    return {name: _error(want[name], got[name]) for name in want}


def judge(errors: Mapping[str, OutputError], weights: str, tolerance: float, where: str) -> None:
    """Raises ModelError where an output's error passes the tolerance."""
    if all(e.relative <= tolerance for e in errors.values()):
        return
    figures = "; ".join(
        f"'{name}' {e.relative:.2%} (RMSE {e.rmse:.3g}, RMS {e.rms:.3g})"
        for name, e in sorted(errors.items(), key=lambda item: -item[1].relative)
    )
    other = "weights='f16' or " if weights == "i8" else ""
    raise ModelError(
        f"{where}: weights='{weights}' cost more than the tolerance of {tolerance:.2%} of an output's RMS: {figures}. "
        f"Compile it with {other}a larger tolerance, or give frames of your data as samples"
    )


def _outputs(model: Model, frames: Mapping[str, Any]) -> dict[str, Any]:
    """Every output over all frames."""
    given = {t.name: np.ascontiguousarray(np.moveaxis(frames[t.name], 0, t.time_axis or 0)) for t in model.inputs}
    with model.stream() as stream:
        results = stream.run(given if len(given) != 1 else next(iter(given.values())))
    return model.named(results)


def _error(want: Any, got: Any) -> OutputError:
    if want.dtype.kind != "f":
        share = float(np.mean(want != got))
        return OutputError(1.0, share, share)
    exact, difference = want.astype(np.float64), got.astype(np.float64) - want
    rms, rmse = (float(np.sqrt(np.mean(v * v))) for v in (exact, difference))
    return OutputError(rms, rmse, rmse / rms if rms > 0 else float(rmse > 0))


def _id_tables(program: Program) -> dict[str, int]:
    """Inputs that are ids: how many rows the smallest table they index has."""
    tables: dict[str, int] = {}
    for op in program.operators:
        ids = op.inputs[1] if op.code == Code.GATHER else None
        for port in program.inputs if ids is not None else []:
            if ids is not None and ids.root is port:
                rows = int(op.params[index_of(Code.GATHER, "dim")])
                tables[port.name] = min(rows, tables.get(port.name, rows))
    return tables
