"""What every recipe ends with: a shipped model, its parity, and figures that a person can judge."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

import streamgru
import streamgru_export
from streamgru._disk import writing

from ..frames import Given
from ..from_torch.signature import Example
from ..training.fit import Run


@dataclass
class Outcome:
    """What a recipe found.

    Attributes
    ----------
    name : str
    folder : Path
        Where everything was left.
    criterion : str
        What the result is to be, in words.
    met : bool
        It is.
    figures : dict
        Name -> number.
    parity : dict
        Model -> report.
    run : Run
        The training.
    text : str
        Something to read.
    """

    name: str
    folder: Path
    criterion: str
    met: bool
    figures: dict[str, float]
    parity: dict[str, streamgru.ParityReport]
    run: Run
    text: str = ""

    @property
    def ok(self) -> bool:
        """The criterion is met and parity holds."""
        return self.met and all(report.ok for report in self.parity.values())

    def to_dict(self) -> dict[str, Any]:
        """The outcome as plain data."""
        return {
            "ok": self.ok,
            "recipe": self.name,
            "folder": str(self.folder),
            "criterion": self.criterion,
            "met": self.met,
            "figures": self.figures,
            "parity": {name: report.to_dict() for name, report in self.parity.items()},
            "training": self.run.to_dict(),
            "text": self.text,
        }

    def summary(self) -> str:
        """The outcome on one screen."""
        width = max(map(len, self.figures))
        lines = [f"  {name:<{width}}  {value:.4g}" for name, value in self.figures.items()]
        lines += [f"  parity of {name}: {report.conclusion}" for name, report in self.parity.items()]
        if self.text:
            lines += ["", self.text, ""]
        lines.append(f"{'yes' if self.met else 'NO'}: {self.criterion}. Trained in {self.run.seconds:.0f} s.")
        lines.append(f"In {self.folder}/: {', '.join(sorted(path.name for path in self.folder.iterdir()))}")
        return "\n".join(lines)


def ship(
    net: nn.Module,
    example: Example,
    folder: Path,
    name: str,
    *,
    inputs: Given | None = None,
    mode: Literal["stream", "whole"] = "stream",
    tolerance: float = 2e-6,
    **about: Any,
) -> tuple[streamgru.Model, streamgru.ParityReport]:
    """Export a step, compile it, and prove it: name.pt, name.onnx, name.sgru and name.html.

    Parameters
    ----------
    net, example
        As :func:`streamgru_export.export` takes them.
    folder : Path
    name : str
        Of the files.
    inputs : optional
        Frames for the proof, as :func:`streamgru.parity` takes them; random ones otherwise.
    mode : "stream" or "whole"
        As :func:`streamgru_export.compile`.
    tolerance : float
        Of the proof, as :func:`streamgru.parity` takes it.
    **about
        Further arguments of the export: `output_names`, `sample_rate`, `labels`, `normalisation`, `metadata`.
    """
    with writing(folder / f"{name}.pt") as file:  # the weights as shipped, which --weights takes
        torch.save(net.state_dict(), file)
    onnx, sgru = folder / f"{name}.onnx", folder / f"{name}.sgru"
    streamgru_export.export(net, example, onnx, stream="step", **about)
    streamgru_export.compile(onnx, sgru, mode=mode)
    report = streamgru.parity(sgru, module=net, onnx=onnx, inputs=inputs, tolerance=tolerance)
    report.save_html(folder / f"{name}.html")
    return streamgru.load(sgru), report
