"""Training: every optimiser and every cell learns, and the settings do what they say."""

import dataclasses
import json
import math

import pytest
import torch
from torch import nn
from torch.optim.optimizer import register_optimizer_step_pre_hook

from streamgru_export.training.config import CHOICES, TrainConfig
from streamgru_export.training.fit import Task, TrainingError, evaluate, fit
from streamgru_export.training.parts import (
    LOSSES,
    clip,
    initialise,
    make_optimiser,
    make_schedule,
    recurrent_blocks,
    set_dropout,
)
from streamgru_export.zoo import CELLS, CellNet, GRUNet, JointGRUCell

SEED = 3
# A rate at which each optimiser learns the smoke task within the epochs given.
RATES = {
    "gd": 0.7, "sgd": 0.5, "momentum": 0.1, "nesterov": 0.1,
    "adagrad": 0.05, "rmsprop": 0.01, "adam": 0.01, "adamw": 0.01,
}  # fmt: skip


@pytest.fixture(autouse=True)
def _one_thread():
    print(f"seed {SEED}")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def smoke_task(cell="gru"):
    """Repeat the frame of two steps ago: nothing but a memory can."""
    torch.manual_seed(SEED)
    x = torch.randn(96, 12, 2)
    target = torch.cat([torch.full((96, 2, 2), math.nan), x[:, :-2]], 1)
    net = CellNet([CELLS[cell](2, 24)], 2)
    train, valid = (x[:64], target[:64]), (x[64:], target[64:])
    return Task(net, train, valid, lambda x: net.every_step(x)[0])


def halves(task, config):
    """Whether training at least halves the loss on frames that were not trained on."""
    before = evaluate(task, task.valid, config)
    run = fit(task, config)
    print(f"{before:.4f} -> {run.best:.4f} in {run.seconds:.1f} s")
    return run.best <= before / 2


@pytest.mark.parametrize("optimiser", CHOICES["optimiser"])
def test_every_optimiser_halves_the_loss(optimiser):
    epochs = {"gd": 300, "sgd": 80}.get(optimiser, 60)
    config = TrainConfig(optimiser=optimiser, learning_rate=RATES[optimiser], epochs=epochs, batch_size=16, clip=5)
    assert halves(smoke_task(), config)


@pytest.mark.parametrize("cell", CELLS)
def test_every_cell_halves_its_loss(cell):
    assert halves(smoke_task(cell), TrainConfig(learning_rate=0.02, epochs=60, batch_size=16, schedule="cosine"))


def test_full_batch_gradient_descent_takes_one_step_an_epoch():
    task = smoke_task()
    steps = []
    hook = register_optimizer_step_pre_hook(lambda *args: steps.append(1))
    fit(task, TrainConfig(optimiser="gd", epochs=3, batch_size=16))
    hook.remove()
    assert len(steps) == 3


# Clipping.


def with_gradients(*values):
    parameters = [nn.Parameter(torch.zeros(len(value))) for value in values]
    for parameter, value in zip(parameters, values, strict=True):
        parameter.grad = torch.tensor(value)
    return parameters


def test_clipping_by_norm_scales_the_whole_gradient():
    a, b = with_gradients([3.0, 0.0], [0.0, 4.0])
    assert clip([a, b], TrainConfig(clip=2.5)) == pytest.approx(5)  # what it was
    torch.testing.assert_close(a.grad, torch.tensor([1.5, 0.0]))
    torch.testing.assert_close(b.grad, torch.tensor([0.0, 2.0]))


def test_clipping_by_value_cuts_each_element():
    (a,) = with_gradients([3.0, -4.0, 0.5])
    assert clip([a], TrainConfig(clip=1, clip_by="value")) == pytest.approx(25.25**0.5)
    assert a.grad.tolist() == [1.0, -1.0, 0.5]


@pytest.mark.parametrize("config", [TrainConfig(clip=0), TrainConfig(clip=6), TrainConfig(clip=6, clip_by="value")])
def test_a_gradient_within_bounds_stays(config):
    (a,) = with_gradients([3.0, 4.0])
    assert clip([a], config) == pytest.approx(5)
    assert a.grad.tolist() == [3.0, 4.0]


@pytest.mark.parametrize("most", [0.01, 0.1])
def test_no_step_of_a_training_has_a_larger_norm_than_given(most):
    norms = []

    def watch(optimiser, *_):
        gradients = [p.grad.flatten() for group in optimiser.param_groups for p in group["params"]]
        norms.append(float(torch.cat(gradients).norm()))

    hook = register_optimizer_step_pre_hook(watch)
    run = fit(smoke_task(), TrainConfig(clip=most, epochs=5, batch_size=16))
    hook.remove()
    assert max(row["gradient_norm"] for row in run.history) > most  # there was something to clip
    assert len(norms) == 20
    assert max(norms) <= most * (1 + 1e-5)  # float32


# Settings.


@pytest.mark.parametrize("name", CHOICES)
def test_a_wrong_choice_is_refused_with_the_allowed_ones(name):
    with pytest.raises(ValueError, match=f"{name}='wrong'; one of {', '.join(CHOICES[name])} was expected"):
        TrainConfig(**{name: "wrong"})


@pytest.mark.parametrize(
    "name, value, words",
    [
        ("epochs", 0, "1 or more"),
        ("epochs", 2.5, "a whole number"),
        ("epochs", True, "a whole number"),
        ("learning_rate", 0, "a number above 0"),
        ("learning_rate", float("nan"), "a number above 0"),
        ("learning_rate", float("inf"), "a number above 0"),
        ("learning_rate", "fast", "a number"),
        ("dropout", 1.0, "at least 0 and below 1"),
        ("gate_dropout", -0.1, "at least 0 and below 1"),
        ("decay", 1.5, "above 0 and at most 1"),
        ("clip", -1, "0 or more"),
        ("resume", 3, "text"),
    ],
)
def test_a_wrong_value_is_refused_with_what_is_allowed(name, value, words):
    with pytest.raises(ValueError, match=f"{name}=.*{words} was expected"):
        TrainConfig(**{name: value})


def test_settings_come_from_words():
    config = TrainConfig().from_words(["optimiser=sgd", "learning-rate=1e-2", "epochs=7", "dropout=0.5"])
    assert config == TrainConfig(optimiser="sgd", learning_rate=0.01, epochs=7, dropout=0.5)
    assert config.from_words(["dropout=none"]).dropout is None


@pytest.mark.parametrize("word", ["speed=3", "epochs"])
def test_a_word_that_is_no_setting_is_refused(word):
    with pytest.raises(ValueError, match=r"no setting of the training; one of epochs, .*|not of the form name=value"):
        TrainConfig().from_words([word])


def test_settings_come_from_toml(tmp_path):
    pytest.importorskip("tomllib", reason="Python 3.11 has it")
    path = tmp_path / "train.toml"
    path.write_text('[train]\noptimiser = "nesterov"\nlearning_rate = 1\n')
    config = TrainConfig(epochs=5).from_toml(path)
    assert config == TrainConfig(epochs=5, optimiser="nesterov", learning_rate=1.0)
    assert isinstance(config.learning_rate, float)
    path.write_text("optimiser = 3\n")
    with pytest.raises(ValueError, match="optimiser=3; one of gd"):
        TrainConfig().from_toml(path)
    path.write_text("optimiser\n")
    with pytest.raises(ValueError, match="is no TOML"):
        TrainConfig().from_toml(path)


# Parts.


def rates(schedule, epochs=7, **options):
    config = TrainConfig(schedule=schedule, epochs=epochs, learning_rate=1.0, optimiser="sgd", **options)
    optimiser = make_optimiser([nn.Parameter(torch.zeros(1))], config)
    plan = make_schedule(optimiser, config)
    seen = []
    for _ in range(epochs):
        seen.append(optimiser.param_groups[0]["lr"])
        optimiser.step()
        plan.step(*([1.0] if schedule == "plateau" else []))
    return seen


def test_schedules_follow_their_formulas():
    epochs = range(7)
    assert rates("constant") == [1.0] * 7
    assert rates("exponential", decay=0.5) == pytest.approx([0.5**t for t in epochs])
    assert rates("linear", decay=0.3) == pytest.approx([1 - 0.7 * t / 7 for t in epochs])
    assert rates("step", decay=0.1, decay_every=3) == pytest.approx([1, 1, 1, 0.1, 0.1, 0.1, 0.01])
    assert rates("cosine") == pytest.approx([(1 + math.cos(math.pi * t / 7)) / 2 for t in epochs])
    # A loss that stays: the first is the best, two more are waited for, the next lowers the rate.
    assert rates("plateau", decay=0.1, decay_every=2) == pytest.approx([1, 1, 1, 1, 0.1, 0.1, 0.1])


def test_losses_skip_what_is_unknown():
    y = torch.tensor([1.0, 5.0, 9.0])
    target = torch.tensor([0.5, 2.0, math.nan])
    assert LOSSES["mse"](y, target).item() == pytest.approx((0.25 + 9) / 2)
    assert LOSSES["huber"](y, target).item() == pytest.approx((0.125 + 2.5) / 2)
    logits = torch.tensor([[[0.0, math.log(3)], [50.0, 0.0]]])
    assert LOSSES["cross_entropy"](logits, torch.tensor([[1, -100]])).item() == pytest.approx(math.log(4 / 3))


def test_orthogonal_recurrent_weights_keep_lengths():
    for net in (GRUNet(3, 16, 1), CellNet([CELLS["gru"](3, 16)], 1), CellNet([JointGRUCell(3, 16, reset="before")], 1)):
        initialise(net, TrainConfig(recurrent_initialiser="orthogonal"))
        blocks = list(recurrent_blocks(net))
        assert len(blocks) == (6 if isinstance(net, GRUNet) else 3)
        for block in blocks:
            torch.testing.assert_close(block @ block.T, torch.eye(16))


@pytest.mark.parametrize(
    "name, deviation, most",
    [
        ("truncated_normal", 0.88 / 64**0.5, 2 / 64**0.5),  # a normal cut at 2σ has deviation 0.88 σ
        ("xavier", (2 / (64 + 300)) ** 0.5, (6 / (64 + 300)) ** 0.5),
        ("kaiming", (2 / 64) ** 0.5, (6 / 64) ** 0.5),
    ],
)
def test_initial_weights_have_their_spread(name, deviation, most):
    torch.manual_seed(SEED)
    layer = nn.Linear(64, 300)
    bias = layer.bias.clone()
    initialise(layer, TrainConfig(initialiser=name))
    assert layer.weight.std().item() == pytest.approx(deviation, rel=0.02)
    assert layer.weight.abs().max().item() <= most * (1 + 1e-6)
    assert torch.equal(layer.bias, bias)


def test_dropout_is_set_where_it_belongs():
    net = CellNet([CELLS["gru-gate-dropout"](3, 4)], 1)
    set_dropout(net, TrainConfig(dropout=0.25, gate_dropout=0.5))
    assert (net.dropout.p, net.cells[0].drop.p) == (0.25, 0.5)
    set_dropout(net, TrainConfig())
    assert (net.dropout.p, net.cells[0].drop.p) == (0.25, 0.5)
    stack = GRUNet(3, 4, 1)
    set_dropout(stack, TrainConfig(dropout=0.25))
    assert stack.gru.dropout == 0.25


# Runs.


def weights(task):
    return torch.cat([p.detach().flatten() for p in task.model.parameters()])


def test_the_seed_decides_the_weights():
    def trained(seed):
        task = smoke_task("gru-gate-dropout")
        fit(task, TrainConfig(epochs=2, seed=seed, initialiser="xavier", gate_dropout=0.3))
        return weights(task)

    assert torch.equal(trained(1), trained(1))
    assert not torch.equal(trained(1), trained(2))


@pytest.mark.parametrize("optimiser", ["momentum", "adagrad", "rmsprop", "adamw"])
@pytest.mark.parametrize("schedule", ["exponential", "plateau"])
def test_a_resumed_run_ends_in_the_same_bits(optimiser, schedule, tmp_path):
    config = TrainConfig(optimiser=optimiser, schedule=schedule, decay_every=1, learning_rate=0.01, gate_dropout=0.2)
    whole, stopped, resumed = (smoke_task("gru-gate-dropout") for _ in range(3))
    expected = fit(whole, dataclasses.replace(config, epochs=6))
    fit(stopped, dataclasses.replace(config, epochs=3), tmp_path)
    rest = dataclasses.replace(config, epochs=6, resume=str(tmp_path / "checkpoint.pt"))
    found = fit(resumed, rest)
    assert torch.equal(weights(resumed), weights(whole))
    assert found.history == expected.history


def test_a_checkpoint_of_another_net_is_refused(tmp_path):
    fit(smoke_task("gru"), TrainConfig(epochs=1), tmp_path)
    with pytest.raises(TrainingError, match="is no checkpoint of this training"):
        fit(smoke_task("rnn"), TrainConfig(resume=str(tmp_path / "checkpoint.pt")))


def test_a_checkpoint_that_would_run_code_is_refused(tmp_path):
    torch.save({"state_dict": print}, tmp_path / "evil.pt")
    with pytest.raises(TrainingError, match="is no checkpoint of this training"):
        fit(smoke_task(), TrainConfig(resume=str(tmp_path / "evil.pt")))


def test_patience_ends_a_run_that_learns_nothing():
    task = smoke_task()
    torch.manual_seed(SEED)
    task.valid = (task.valid[0], torch.randn_like(task.valid[1]) + 30 - 60 * (torch.rand(task.valid[1].shape) < 0.5))
    run = fit(task, TrainConfig(epochs=50, patience=3, learning_rate=0.01))
    assert len(run.history) == run.best_epoch + 4 < 50


def test_the_best_weights_are_kept():
    task = smoke_task()
    config = TrainConfig(epochs=12, learning_rate=0.3, clip=0)
    run = fit(task, config)
    assert run.history[-1]["valid"] > run.best  # it got worse again
    assert evaluate(task, task.valid, config) == pytest.approx(run.best)


def test_a_loss_that_is_no_number_ends_the_run():
    with pytest.raises(TrainingError, match="try a smaller learning_rate"):
        fit(smoke_task("gru-relu"), TrainConfig(optimiser="sgd", learning_rate=1e20, clip=0))


def test_a_run_leaves_its_numbers_and_its_curve(tmp_path):
    run = fit(smoke_task(), TrainConfig(epochs=4, schedule="cosine"), tmp_path / "made")
    saved = json.loads((tmp_path / "made" / "run.json").read_text())
    assert saved["history"] == run.history
    assert saved["config"]["schedule"] == "cosine"
    assert [row["epoch"] for row in saved["history"]] == [0, 1, 2, 3]
    assert (tmp_path / "made" / "curve.png").read_bytes().startswith(b"\x89PNG")
