"""The parts of training by name, all of them torch's."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, nn, optim
from torch.nn import functional

from ..zoo import GateDropout
from .config import TrainConfig

# Optimisers: name -> (parameters, config) -> optimiser.

_OPTIMISERS: dict[str, Callable[[Iterable[nn.Parameter], TrainConfig], optim.Optimizer]] = {
    "gd": lambda p, c: optim.SGD(p, c.learning_rate, weight_decay=c.weight_decay),
    "sgd": lambda p, c: optim.SGD(p, c.learning_rate, weight_decay=c.weight_decay),
    "momentum": lambda p, c: optim.SGD(p, c.learning_rate, c.momentum, weight_decay=c.weight_decay),
    "nesterov": lambda p, c: optim.SGD(p, c.learning_rate, c.momentum, weight_decay=c.weight_decay, nesterov=True),
    "adagrad": lambda p, c: optim.Adagrad(p, c.learning_rate, weight_decay=c.weight_decay),
    "rmsprop": lambda p, c: optim.RMSprop(p, c.learning_rate, weight_decay=c.weight_decay),
    "adam": lambda p, c: optim.Adam(p, c.learning_rate, weight_decay=c.weight_decay),
    "adamw": lambda p, c: optim.AdamW(p, c.learning_rate, weight_decay=c.weight_decay),
}


def make_optimiser(parameters: Iterable[nn.Parameter], config: TrainConfig) -> optim.Optimizer:
    """The optimiser of a configuration."""
    return _OPTIMISERS[config.optimiser](parameters, config)


# Schedules: name -> (optimiser, config) -> schedule, stepped after each epoch.

_schedules = optim.lr_scheduler
_SCHEDULES: dict[str, Callable[[optim.Optimizer, TrainConfig], optim.lr_scheduler.LRScheduler]] = {
    "constant": lambda o, c: _schedules.ConstantLR(o, factor=1.0),
    "exponential": lambda o, c: _schedules.ExponentialLR(o, c.decay),
    "linear": lambda o, c: _schedules.LinearLR(o, 1.0, c.decay, total_iters=c.epochs),
    "step": lambda o, c: _schedules.StepLR(o, c.decay_every, c.decay),
    "cosine": lambda o, c: _schedules.CosineAnnealingLR(o, c.epochs),
    "plateau": lambda o, c: _schedules.ReduceLROnPlateau(o, factor=c.decay, patience=c.decay_every),
}


def make_schedule(optimiser: optim.Optimizer, config: TrainConfig) -> optim.lr_scheduler.LRScheduler:
    """The schedule of a configuration."""
    return _SCHEDULES[config.schedule](optimiser, config)


# Losses: of predictions and targets, means over the targets that count.


def mse(y: Tensor, target: Tensor) -> Tensor:
    """Mean (y − target)² where the target is a number."""
    known = ~target.isnan()
    return functional.mse_loss(y[known], target[known])


def huber(y: Tensor, target: Tensor) -> Tensor:
    """Mean Huber loss, quadratic up to a difference of 1, where the target is a number (Huber 1964)."""
    known = ~target.isnan()
    return functional.huber_loss(y[known], target[known])


def cross_entropy(logits: Tensor, target: Tensor) -> Tensor:
    """Mean −log softmax(logits)[target] where the target is not −100. logits [..., V], target [...] of int64."""
    return functional.cross_entropy(logits.flatten(0, -2), target.flatten(), ignore_index=-100)


LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "mse": mse,
    "huber": huber,
    "cross_entropy": cross_entropy,
}


# Initial weights.


def _truncated_normal(weight: Tensor) -> None:
    deviation = weight.shape[1] ** -0.5
    nn.init.trunc_normal_(weight, std=deviation, a=-2 * deviation, b=2 * deviation)


_INITIALISERS: dict[str, Callable[[Tensor], object]] = {
    "truncated_normal": _truncated_normal,
    "xavier": nn.init.xavier_uniform_,
    "kaiming": nn.init.kaiming_uniform_,
}


def initialise(model: nn.Module, config: TrainConfig) -> None:
    """Draw the weights of linear and recurrent layers; biases, embeddings and normalisers stay as they are."""
    if config.initialiser != "default":
        for module in model.modules():
            if isinstance(module, nn.Linear | nn.RNNBase | nn.RNNCellBase):
                for weight in module.parameters(recurse=False):
                    if weight.ndim == 2:
                        _INITIALISERS[config.initialiser](weight)
    if config.recurrent_initialiser == "orthogonal":
        with torch.no_grad():
            for block in recurrent_blocks(model):
                block.copy_(nn.init.orthogonal_(torch.empty_like(block)))


def recurrent_blocks(model: nn.Module) -> Iterator[Tensor]:
    """Each gate's [H, H] matrix for h, as a view of the weight that holds it."""
    for name, weight in model.named_parameters():
        layer, _, leaf = name.rpartition(".")
        layer = layer.rpartition(".")[2]
        if leaf.startswith("weight_hh") or (leaf == "weight" and layer.startswith("recurrent")):
            yield from weight.detach().view(-1, weight.shape[1], weight.shape[1])
        elif leaf == "weight" and layer.startswith("joint"):
            owner = model.get_submodule(name.rpartition(".")[0].rpartition(".")[0])
            hidden: Any = owner.hidden_size
            yield from weight.detach()[:, :hidden].view(-1, hidden, hidden)


# Gradients and dropout.


def clip(parameters: Iterable[nn.Parameter], config: TrainConfig) -> float:
    """Clip the gradients in place; the norm that they had."""
    given = [p for p in parameters if p.grad is not None]
    if config.clip_by == "norm" and config.clip > 0:
        return float(nn.utils.clip_grad_norm_(given, config.clip))
    norm = float(nn.utils.get_total_norm([p.grad for p in given if p.grad is not None]))
    if config.clip > 0:
        nn.utils.clip_grad_value_(given, config.clip)
    return norm


def set_dropout(model: nn.Module, config: TrainConfig) -> None:
    """Give the net's dropout the configuration's probabilities, where it has them."""
    for module in model.modules():
        if isinstance(module, GateDropout):
            if config.gate_dropout is not None:
                module.p = config.gate_dropout
        elif config.dropout is not None:
            if isinstance(module, nn.Dropout):
                module.p = config.dropout
            elif isinstance(module, nn.RNNBase) and module.num_layers > 1:
                module.dropout = config.dropout
