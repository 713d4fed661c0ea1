"""How gradients go back through time: what gates, normalisers, residuals and clipping do to them.

A net of three equal cells reads T random frames, and the loss is a fixed projection of its last output, ℓ = v · y_T.
For each step back, k = 1 ... T, the figure shows

    g_k = ‖∂ℓ / ∂s_(T−k)‖      s the lowest cell's state, as the next step reads it

as a mean over sequences. It falls like λᵏ where gradients vanish and rises where they explode (Bengio et al. 1994;
Pascanu et al. 2013, https://arxiv.org/abs/1211.5063). The last panel is a plain RNN whose recurrent weights are large:
the norm of the whole gradient, sequence by sequence, before and after clipping.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor

from streamgru._disk import make_folder, write_text, writing

from ..training.config import TrainConfig
from ..training.parts import clip, recurrent_blocks
from ..zoo import CELLS, Cell, CellNet

STEPS, BATCH = 100, 16
INPUTS, HIDDEN_SIZE, LAYERS = 4, 32, 3
EXPLODING = 4.0  # what recurrent weights of the last panel are multiplied by
CLIP = 1.0

PANELS: dict[str, tuple[str, ...]] = {
    "gates": ("rnn", "gru", "lstm", "gru-output-gate"),
    "normalisers": ("gru", "gru-batch-norm", "gru-layer-norm"),
    "residuals and dropout": ("gru", "gru-residual", "gru-gate-dropout"),
    "candidates": ("gru", "gru-relu", "gru-elu", "gru-sigmoid"),
}


def make_net(name: str, seed: int) -> CellNet:
    """Three cells of a kind, in training mode."""
    torch.manual_seed(seed)
    sizes = [INPUTS, *[HIDDEN_SIZE] * LAYERS]
    cells: list[Cell] = [CELLS[name](a, b) for a, b in pairwise(sizes)]
    return CellNet(cells, 1).train()


def gradient_norms(net: CellNet, x: Tensor) -> NDArray[np.float64]:
    """g_k for k = 1 ... T−1 of x [B, T, I]: entry k − 1 is k steps before the last."""
    first = net.cells[0]
    assert isinstance(first, Cell)
    h = net.initial_state(len(x))
    lowest: list[tuple[Tensor, ...]] = []
    y = torch.zeros(())
    for t in range(x.shape[1]):
        y, h = net(x[:, t], h)
        read = tuple(state.clone() for state in (h if isinstance(h, tuple) else (h,)))
        for state in read:
            state.retain_grad()
        lowest.append(read[: first.states])
        h = read if len(read) > 1 else read[0]
    torch.autograd.backward(y.sum())
    norms = [_norm(states) for states in lowest[:-1]]
    return np.array(norms[::-1])


def _norm(states: tuple[Tensor, ...]) -> float:
    """The mean over sequences of the norm of ∂ℓ/∂s."""
    gradients = [torch.zeros_like(state) if state.grad is None else state.grad for state in states]
    return float(torch.cat(gradients, -1).norm(dim=-1).mean())


def clipped_norms(seed: int, sequences: int = 60) -> tuple[list[float], list[float]]:
    """The norms of the gradients of an exploding RNN, before clipping and after."""
    net = make_net("rnn", seed)
    with torch.no_grad():
        for block in recurrent_blocks(net):
            block.mul_(EXPLODING)
    config = TrainConfig(clip=CLIP)
    before, after = [], []
    for _ in range(sequences):
        net.zero_grad()
        y, _ = net.every_step(torch.randn(1, STEPS, INPUTS))
        torch.autograd.backward(y[:, -1].sum())
        before.append(clip(net.parameters(), config))
        gradients = [p.grad.flatten() for p in net.parameters() if p.grad is not None]
        after.append(float(torch.cat(gradients).norm()))
    return before, after


def diagnose(folder: Path, say: Callable[[str], None] = print, *, seed: int = 0) -> dict[str, Any]:
    """Measure every variant; leaves diagnose.json and diagnose.png."""
    make_folder(folder)
    names = list(dict.fromkeys(name for panel in PANELS.values() for name in panel))
    norms = {}
    for name in names:
        net = make_net(name, seed)
        norms[name] = gradient_norms(net, torch.randn(BATCH, STEPS, INPUTS))
        say(f"{name:<18} 1 step back {norms[name][0]:.1e}   10: {norms[name][9]:.1e}   50: {norms[name][49]:.1e}")
    before, after = clipped_norms(seed)
    say(f"{'clipping, rnn':<18} largest norm before {max(before):.1e}, after {max(after):.1e}")
    data = {
        "seed": seed,
        "norms": {n: v.tolist() for n, v in norms.items()},
        "clipped": {"before": before, "after": after},
    }
    write_text(folder / "diagnose.json", json.dumps(data, indent=2) + "\n")
    plot(norms, before, after, folder / "diagnose.png")
    return data


def plot(norms: dict[str, NDArray[np.float64]], before: list[float], after: list[float], path: Path) -> None:
    """A panel for each question, and one for clipping."""
    figure = Figure(figsize=(13, 7), layout="constrained")
    axes = figure.subplots(2, 3).ravel()
    for panel, (title, names) in zip(axes, PANELS.items(), strict=False):
        for name in names:
            panel.semilogy(np.arange(1, STEPS), np.maximum(norms[name], 1e-30), label=name)
        panel.set(title=title, xlabel="steps back", ylabel="gradient norm")
        panel.legend(frameon=False)
    last = axes[len(PANELS)]
    last.semilogy(before, ".", label="before")
    last.semilogy(after, ".", label=f"after, clip = {CLIP:g}")
    last.set(title="clipping", xlabel="sequence", ylabel="norm of the whole gradient")
    last.legend(frameon=False)
    axes[-1].set_axis_off()
    with writing(path) as file:
        figure.savefig(file, dpi=110)
