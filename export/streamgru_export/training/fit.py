"""Training: a plain loop over torch's own parts, the same every time it is run.

A :class:`Task` is a net, its data, and how the net reads them; `TrainConfig` says how to train; :func:`fit` does
it and gives a :class:`Run`. Each epoch draws its random numbers from (seed, epoch) alone, so a run resumed from a
checkpoint goes on to the very weights of one that was never stopped.
"""

from __future__ import annotations

import json
import math
import pickle
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure
from torch import Tensor, nn
from torch.optim.lr_scheduler import ReduceLROnPlateau
from tqdm import tqdm

from streamgru._disk import make_folder, opened, write_text, writing
from streamgru.errors import StreamgruError

from .config import TrainConfig
from .parts import LOSSES, clip, initialise, make_optimiser, make_schedule, set_dropout

EVALUATION_BATCH = 256
Data = tuple[Tensor, ...]


class TrainingError(StreamgruError):
    """The training cannot go on: the loss is no number any more, or a checkpoint does not fit."""


@dataclass
class Task:
    """What is to be learnt.

    Attributes
    ----------
    model : torch.nn.Module
    train, valid : tuple of Tensor
        The inputs of `predict`, and last the target; the first axis of each is the examples.
    predict : callable
        Of a batch's inputs: what the loss compares with the target. By default the model.
    """

    model: nn.Module
    train: Data
    valid: Data
    predict: Callable[..., Tensor] | None = None

    def loss(self, batch: Data, config: TrainConfig) -> Tensor:
        """The mean loss of a batch."""
        predict = self.predict or self.model
        return LOSSES[config.loss](predict(*batch[:-1]), batch[-1])


@dataclass
class Run:
    """What a training did.

    Attributes
    ----------
    config : TrainConfig
    history : list of dict
        For each epoch: `epoch`; `loss`, the mean over its batches; `valid`, the loss on the validation data
        after it; `learning_rate`; `gradient_norm`, the largest before clipping.
    best_epoch : int
        The one of the lowest `valid`, whose weights the model has.
    seconds : float
        Of this call.
    """

    config: TrainConfig
    history: list[dict[str, float]] = field(default_factory=list)
    best_epoch: int = 0
    seconds: float = 0.0

    @property
    def best(self) -> float:
        """The lowest validation loss."""
        return self.history[self.best_epoch]["valid"] if self.history else math.inf

    def to_dict(self) -> dict[str, Any]:
        """The run as plain data."""
        return {**asdict(self), "torch": torch.__version__}

    def save(self, folder: Path) -> None:
        """Write run.json and curve.png."""
        write_text(folder / "run.json", json.dumps(self.to_dict(), indent=2) + "\n")
        self.plot(folder / "curve.png")

    def plot(self, path: Path) -> None:
        """The losses, and the learning rate below them."""
        figure = Figure(figsize=(9, 6), layout="constrained")
        losses, rates = figure.subplots(2, sharex=True, height_ratios=(3, 1))
        epochs = [row["epoch"] for row in self.history]
        for name, color in (("loss", "0.5"), ("valid", "C0")):
            losses.plot(epochs, [row[name] for row in self.history], color=color, label=name)
        losses.axvline(self.best_epoch, color="C1", lw=1, label="best")
        losses.set_ylabel(self.config.loss)
        losses.set_yscale("log")
        losses.legend(frameon=False)
        rates.plot(epochs, [row["learning_rate"] for row in self.history], color="0.3")
        rates.set(ylabel="learning rate", xlabel="epoch")
        with writing(path) as file:
            figure.savefig(file, dpi=110)


def fit(task: Task, config: TrainConfig, folder: Path | None = None, *, fresh: bool = True) -> Run:
    """Train a task's model, and leave it in eval mode with the weights of its best epoch.

    Parameters
    ----------
    task : Task
    config : TrainConfig
    folder : Path, optional
        Where checkpoint.pt, run.json and curve.png go; made where it is missing.
    fresh : bool
        Draw the initial weights as `config` says; False keeps those that the model has.

    Returns
    -------
    Run

    Raises
    ------
    TrainingError
        The loss or a gradient is no number any more, or the checkpoint to resume from does not fit.
    """
    begin = time.perf_counter()
    torch.manual_seed(config.seed)
    if fresh:
        initialise(task.model, config)
    set_dropout(task.model, config)
    trainer = _Trainer(task, config)
    if config.resume:
        trainer.restore(Path(config.resume))
    if folder is not None:
        make_folder(folder)
    trainer.train(folder / "checkpoint.pt" if folder else None)
    trainer.run.seconds = time.perf_counter() - begin
    if folder is not None:
        trainer.run.save(folder)
    return trainer.run


class _Trainer:
    """A training under way: all that a checkpoint holds."""

    def __init__(self, task: Task, config: TrainConfig) -> None:
        self.task, self.config = task, config
        self.optimiser = make_optimiser(task.model.parameters(), config)
        self.schedule = make_schedule(self.optimiser, config)
        self.run = Run(config)
        self.best_weights = _copied(task.model)

    def train(self, checkpoint: Path | None) -> None:
        """Epoch after epoch, to the last or to the end of patience."""
        config, history = self.config, self.run.history
        bar = tqdm(range(len(history), config.epochs), "training", unit="epoch", disable=None, leave=False)
        for epoch in bar:
            if config.patience and epoch - self.run.best_epoch > config.patience:
                break
            history.append(self.epoch(epoch))
            valid = history[-1]["valid"]
            if valid <= self.run.best:
                self.run.best_epoch, self.best_weights = epoch, _copied(self.task.model)
            if isinstance(self.schedule, ReduceLROnPlateau):
                self.schedule.step(valid)
            else:
                self.schedule.step()
            bar.set_postfix(loss=f"{history[-1]['loss']:.4g}", valid=f"{valid:.4g}")
            if checkpoint is not None and (epoch + 1) % config.checkpoint_every == 0:
                self.save(checkpoint)
        if checkpoint is not None:
            self.save(checkpoint)
        self.task.model.load_state_dict(self.best_weights)
        self.task.model.eval()

    def epoch(self, epoch: int) -> dict[str, float]:
        """One pass over the training data, and the validation after it."""
        torch.manual_seed(self.config.seed * 1_000_003 + epoch)
        rate = float(self.optimiser.param_groups[0]["lr"])
        self.task.model.train()
        losses, norms = zip(*(self.step(batch, epoch) for batch in self.batches()), strict=True)
        mean = sum(losses) / len(losses)
        row = {"epoch": epoch, "loss": mean, "valid": evaluate(self.task, self.task.valid, self.config)}
        return {**row, "learning_rate": rate, "gradient_norm": max(norms)}

    def batches(self) -> Iterator[Data]:
        """The training data in a random order, cut to batches."""
        count = len(self.task.train[0])
        size = count if self.config.optimiser == "gd" else self.config.batch_size
        order = torch.randperm(count)
        for first in range(0, count, size):
            yield tuple(tensor[order[first : first + size]] for tensor in self.task.train)

    def step(self, batch: Data, epoch: int) -> tuple[float, float]:
        """One step of the optimiser; the loss, and the gradient's norm before clipping."""
        self.optimiser.zero_grad()
        loss = self.task.loss(batch, self.config)
        torch.autograd.backward(loss)
        norm = clip(self.task.model.parameters(), self.config)
        if not (math.isfinite(loss.item()) and math.isfinite(norm)):
            raise TrainingError(
                f"epoch {epoch}: the loss is {loss.item()}, its gradient's norm {norm}; "
                f"try a smaller learning_rate (now {self.config.learning_rate}) or clip (now {self.config.clip})"
            )
        self.optimiser.step()
        return loss.item(), norm

    def save(self, path: Path) -> None:
        """Write a checkpoint: tensors and plain values, never half of it."""
        with writing(path) as file:
            torch.save(
                {
                    "state_dict": self.task.model.state_dict(),
                    "best": self.best_weights,
                    "best_epoch": self.run.best_epoch,
                    "optimiser": self.optimiser.state_dict(),
                    "schedule": _plain(self.schedule.state_dict()),
                    "history": self.run.history,
                    "config": asdict(self.config),
                },
                file,
            )

    def restore(self, path: Path) -> None:
        """Go on from a checkpoint."""
        try:
            with opened(path) as file:
                saved = torch.load(file, map_location="cpu", weights_only=True)
            self.task.model.load_state_dict(saved["state_dict"])
            self.optimiser.load_state_dict(saved["optimiser"])
        except (KeyError, TypeError, ValueError, RuntimeError, pickle.UnpicklingError) as error:
            raise TrainingError(f"{path} is no checkpoint of this training: {error}") from error
        self.schedule.load_state_dict(saved["schedule"])
        self.best_weights, self.run.best_epoch = saved["best"], saved["best_epoch"]
        self.run.history = saved["history"]


def evaluate(task: Task, data: Data, config: TrainConfig) -> float:
    """The mean loss over examples, in eval mode."""
    task.model.eval()
    total = 0.0
    with torch.no_grad():
        for first in range(0, len(data[0]), EVALUATION_BATCH):
            batch = tuple(tensor[first : first + EVALUATION_BATCH] for tensor in data)
            total += task.loss(batch, config).item() * len(batch[0])
    return total / len(data[0])


def _copied(model: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def _plain(state: dict[str, Any]) -> dict[str, Any]:
    """What a checkpoint of plain values can hold."""
    kinds = (int, float, str, bool, list, dict, type(None))
    return {name: value for name, value in state.items() if isinstance(value, kinds)}
