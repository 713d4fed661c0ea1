"""PyTorch modules whose exports have the forms that GRUs are met in, and the road from a module to ONNX."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import onnx
import onnx_ir as ir
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from streamgru_export.from_torch.exporters import Hints, run_exporter

I, H, T = 5, 12, 6  # noqa: E741 - the field's names
BOTH = ("dynamo", "legacy")


@dataclass(frozen=True)
class Form:
    """A module and how it is exported.

    Attributes
    ----------
    number : int
        Of the list of forms: 1 GRU nodes with weights in pieces, 2 GRU nodes, 3 stacks, 4 heads and front ends,
        5 GRUCell, 6 bidirectional, 7 hand-written cells, 8 unrolled loops, 10 sequence_lens, 11 relatives of the GRU.
    make : callable
        The module.
    inputs : mapping
        Name -> example. An int64 example holds ids below 10.
    outputs : tuple of str
    kind : "sequence", "step" or "whole"
        How it is to run: streamed over time, streamed frame by frame with its own state, or whole.
    states : tuple of (input, output)
    time : mapping
        Input -> its dynamic time axis; none where the length is a number.
    holds : set of str
        Operators that the exported graph has, so that it is of the form it is said to be.
    lacks : set of str
        Operators that it does not have.
    """

    number: int
    make: Callable[[], nn.Module]
    inputs: Mapping[str, Tensor]
    outputs: tuple[str, ...] = ("y",)
    kind: str = "sequence"
    states: tuple[tuple[str, str], ...] = ()
    time: Mapping[str, int] = field(default_factory=dict)
    holds: frozenset[str] = frozenset({"GRU"})
    lacks: frozenset[str] = frozenset()
    exporters: tuple[str, ...] = BOTH


def export(form: Form, exporter: str) -> tuple[nn.Module, onnx.ModelProto]:
    """The module, with weights of a printed seed, and its graph."""
    print("seed 5")
    torch.manual_seed(5)
    module = form.make().eval()
    dynamic = [{form.time[name]: "time"} if name in form.time else {} for name in form.inputs]
    with tempfile.TemporaryDirectory() as folder:
        graph = run_exporter(
            Flat(module).eval(), tuple(form.inputs.values()), Path(folder) / "m.onnx", exporter=exporter,
            inputs=tuple(form.inputs), outputs=form.outputs, dynamic=dynamic, opset=None, hints=Hints(),
        )  # fmt: skip
        return module, ir.to_proto(graph)


class Flat(nn.Module):
    """A module as the exporter takes it."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, *inputs: Tensor) -> Any:
        return self.module(*inputs)


class Recurrent(nn.Module):
    """nn.GRU, its output alone."""

    def __init__(self, hidden: int = H, **options: Any) -> None:
        super().__init__()
        self.gru = nn.GRU(I, hidden, batch_first=True, **options)

    def forward(self, x: Tensor) -> Tensor:
        return self.gru(x)[0]


class WithState(Recurrent):
    """nn.GRU, its state in and out."""

    def forward(self, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        return self.gru(x, h)


class TwoModules(nn.Module):
    """Two GRUs whose states travel in one tensor."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.GRU(I, H), nn.GRU(H, H)

    def forward(self, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        y, a = self.one(x, h[:1])
        y, b = self.two(y, h[1:])
        return y, torch.cat([a, b])


class Words(nn.Module):
    """ids -> Embedding -> GRU -> Linear -> log softmax."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.gru, self.head = nn.Embedding(10, I), nn.GRU(I, H, batch_first=True), nn.Linear(H, 10)

    def forward(self, ids: Tensor) -> Tensor:
        return torch.log_softmax(self.head(self.gru(self.embedding(ids))[0]), -1)


class Enhancer(nn.Module):
    """A causal convolution over time, BatchNorm, GRU, a residual, LayerNorm, and a mask on the input."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv1d(I, H, 3), nn.BatchNorm1d(H)
        self.gru, self.after, self.mask = nn.GRU(H, H, batch_first=True), nn.LayerNorm(H), nn.Linear(H, I)
        self.norm.running_mean.normal_()
        self.norm.running_var.uniform_(0.5, 2)

    def forward(self, x: Tensor) -> Tensor:
        u = torch.relu(self.norm(self.conv(nn.functional.pad(x.transpose(1, 2), (2, 0))))).transpose(1, 2)
        return x * torch.sigmoid(self.mask(self.after(u + self.gru(u)[0])))


class LastOutput(nn.Module):
    """A Linear on the last hidden state: by the output's last frame, or by h_n."""

    def __init__(self, by_state: bool) -> None:
        super().__init__()
        self.gru, self.head, self.by_state = nn.GRU(I, H, 2, batch_first=True), nn.Linear(H, 3), by_state

    def forward(self, x: Tensor) -> Tensor:
        y, h = self.gru(x)
        return self.head(h[-1] if self.by_state else y[:, -1])


class Step(nn.Module):
    """A cell and a Linear: x, h -> y, h."""

    def __init__(self, cell: nn.Module) -> None:
        super().__init__()
        self.cell, self.head = cell, nn.Linear(H, 3)

    def forward(self, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        h = self.cell(x, h)
        return self.head(h), h


class Chunked(nn.Module):
    """Two Linears of 3H, chunked; (1 − z)·n + z·h, or the other way round."""

    def __init__(self, other_way: bool = False) -> None:
        super().__init__()
        self.x, self.h, self.other_way = nn.Linear(I, 3 * H), nn.Linear(H, 3 * H), other_way

    def forward(self, x: Tensor, h: Tensor) -> Tensor:
        (xr, xz, xn), (hr, hz, hn) = self.x(x).chunk(3, -1), self.h(h).chunk(3, -1)
        z, n = torch.sigmoid(xz + hz), torch.tanh(xn + torch.sigmoid(xr + hr) * hn)
        return (1 - z) * h + z * n if self.other_way else (1 - z) * n + z * h


class Joined(nn.Module):
    """Linears on [h, x], reset before the product, lerp: the textbook."""

    def __init__(self) -> None:
        super().__init__()
        self.gates, self.new = nn.Linear(H + I, 2 * H), nn.Linear(H + I, H)

    def forward(self, x: Tensor, h: Tensor) -> Tensor:
        r, z = torch.sigmoid(self.gates(torch.cat([h, x], -1))).chunk(2, -1)
        return torch.lerp(h, torch.tanh(self.new(torch.cat([r * h, x], -1))), z)


class SixLinears(nn.Module):
    """One Linear for each gate and side; h + z·(n − h)."""

    def __init__(self) -> None:
        super().__init__()
        self.x, self.h = (nn.ModuleList([nn.Linear(k, H) for _ in range(3)]) for k in (I, H))

    def forward(self, x: Tensor, h: Tensor) -> Tensor:
        r, z = (torch.sigmoid(self.x[i](x) + self.h[i](h)) for i in (0, 1))
        return h + z * (torch.tanh(self.x[2](x) + r * self.h[2](h)) - h)


class Unrolled(nn.Module):
    """A Python loop over the frames."""

    def __init__(self, cell: nn.Module) -> None:
        super().__init__()
        self.cell = cell

    def forward(self, x: Tensor) -> Tensor:
        h, out = torch.zeros(x.shape[0], H), []
        for t in range(T):
            h = self.cell(x[:, t], h)
            out.append(h)
        return torch.stack(out, 1)


class Greedy(nn.Module):
    """An encoder, and a decoder that reads its own symbols: a chain of one-step GRU nodes."""

    def __init__(self, steps: int = 4) -> None:
        super().__init__()
        self.embedding, self.encoder = nn.Embedding(10, I), nn.GRU(I, H, batch_first=True)
        self.decoder, self.head, self.steps = nn.GRU(I, H, batch_first=True), nn.Linear(H, 10), steps

    def forward(self, ids: Tensor) -> Tensor:
        h, u, out = self.encoder(self.embedding(ids))[1], ids[:, :1], []
        for _ in range(self.steps):
            y, h = self.decoder(self.embedding(u), h)
            out.append(self.head(y))
            u = out[-1].argmax(-1)
        return torch.cat(out, 1)


class Packed(nn.Module):
    """pack_padded_sequence around a GRU: lengths as an input, from long to short, or constant."""

    def __init__(self, lengths: list[int] | None = None, bidirectional: bool = True) -> None:
        super().__init__()
        self.gru, self.lengths = nn.GRU(I, H, batch_first=True, bidirectional=bidirectional), lengths

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> tuple[Tensor, Tensor]:
        n = torch.tensor(self.lengths) if lengths is None else lengths
        is_sorted = lengths is not None
        y, h = self.gru(pack_padded_sequence(x, n, batch_first=True, enforce_sorted=is_sorted))
        return pad_packed_sequence(y, batch_first=True, total_length=T)[0], h


class Gathered(nn.Module):
    """What stands for packing where there is none: the output at length − 1."""

    def __init__(self) -> None:
        super().__init__()
        self.gru = nn.GRU(I, H, batch_first=True)

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        y = self.gru(x)[0]
        return y.gather(1, (lengths - 1).view(-1, 1, 1).expand(-1, 1, H)).squeeze(1)


class Normed(nn.Module):
    """Norms inside of the cell."""

    def __init__(self, norm: Callable[[int], nn.Module]) -> None:
        super().__init__()
        self.x, self.h, self.norm_x, self.norm_h = nn.Linear(I, 3 * H), nn.Linear(H, 3 * H), norm(3 * H), norm(3 * H)

    def forward(self, x: Tensor, h: Tensor) -> Tensor:
        (xr, xz, xn), (hr, hz, hn) = self.norm_x(self.x(x)).chunk(3, -1), self.norm_h(self.h(h)).chunk(3, -1)
        z, n = torch.sigmoid(xz + hz), torch.tanh(xn + torch.sigmoid(xr + hr) * hn)
        return (1 - z) * n + z * h


class Residual(nn.Module):
    """A GRUCell with a residual on the recurrent edge, and a norm after it."""

    def __init__(self) -> None:
        super().__init__()
        self.cell, self.norm = nn.GRUCell(I, H), nn.LayerNorm(H)

    def forward(self, x: Tensor, h: Tensor) -> Tensor:
        return self.norm(0.5 * h + self.cell(x, h))


class Forgetting(nn.Module):
    """An extra gate: h' = f·h + z·n, the two not bound to sum to 1."""

    def __init__(self) -> None:
        super().__init__()
        self.x, self.h = nn.Linear(I, 4 * H), nn.Linear(H, 4 * H)

    def forward(self, x: Tensor, h: Tensor) -> Tensor:
        (xr, xz, xf, xn), (hr, hz, hf, hn) = self.x(x).chunk(4, -1), self.h(h).chunk(4, -1)
        r, z, f = torch.sigmoid(xr + hr), torch.sigmoid(xz + hz), torch.sigmoid(xf + hf)
        return f * h + z * torch.tanh(xn + r * hn)


class Minimal(nn.Module):
    """The minimal gated unit: one gate for both (Zhou et al. 2016, https://arxiv.org/abs/1603.09420)."""

    def __init__(self) -> None:
        super().__init__()
        self.f, self.n = nn.Linear(I + H, H), nn.Linear(I + H, H)

    def forward(self, x: Tensor, h: Tensor) -> Tensor:
        f = torch.sigmoid(self.f(torch.cat([x, h], -1)))
        return (1 - f) * h + f * torch.tanh(self.n(torch.cat([x, f * h], -1)))


class Dreamer(nn.Module):
    """One normalised product for all gates, the update gate biased by −1 (Hafner et al. 2020, arXiv 2010.02193)."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.norm = nn.Linear(I + H, 3 * H, bias=False), nn.LayerNorm(3 * H)

    def forward(self, x: Tensor, h: Tensor) -> Tensor:
        r, n, z = self.norm(self.layer(torch.cat([x, h], -1))).chunk(3, -1)
        z = torch.sigmoid(z - 1)
        return z * torch.tanh(torch.sigmoid(r) * n) + (1 - z) * h


def norm_of_batches(size: int) -> nn.Module:
    """BatchNorm with statistics that are not the identity."""
    norm = nn.BatchNorm1d(size)
    norm.running_mean.normal_()
    norm.running_var.uniform_(0.5, 2)
    return norm
