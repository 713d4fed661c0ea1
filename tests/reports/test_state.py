"""States that were lost, kept too long, mixed up, or shared between streams."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import streamgru
from export.graphs import model, node, onnxruntime
from reports.test_export import recurrent
from reports.trial import (
    EXPORTERS,
    close,
    export_is_refused,
    exported,
    floats,
    seeded,
    steps_like,
    streamed,
    streams_as_whole,
    written,
)  # fmt: skip


def gru(op: str = "GRU", **attributes: object) -> tuple:
    w = recurrent(op, 4, 5)
    return w, node(op, ["x", "W", "R", "B"], ["Y", "Y_h"], hidden_size=5, **attributes)


def test_a_stateful_rnn_of_one_frame(tmp_path):
    """onnx/keras-onnx#620: SimpleRNN(stateful=True) fed one frame at a time began anew with each in onnxruntime."""
    w, rnn = gru("RNN")
    feeds = {"x": floats(8, 1, 4)}
    whole = onnxruntime(model([rnn], {"x": ["T", 1, 4]}, ["Y"], w), feeds)["Y"]
    one = model([rnn], {"x": [1, 1, 4]}, ["Y"], w)  # as it is converted: batch_input_shape=(1, 1, 4)
    loaded = streamgru.load(written(one, tmp_path))
    with loaded.stream() as stream:
        y = np.concatenate([stream.run(feeds["x"][t : t + 1]) for t in range(8)]).reshape(whole.shape)
    np.testing.assert_allclose(y, whole, atol=2e-6)


def test_an_initial_state_and_a_state_that_goes_on(tmp_path):
    """tensorflow/tensorflow#32299: stateful with initial_state: each prediction began with the initial state again."""
    w, _ = gru()
    constants = w | {"h0": floats(1, 1, 5)}
    cell = node("GRU", ["x", "W", "R", "B", "", "h0"], ["Y"], hidden_size=5, linear_before_reset=1)
    graph = model([cell], {"x": ["T", 1, 4]}, ["Y"], constants)
    x = floats(12, 1, 4)
    loaded = streams_as_whole(graph, {"x": x}, tmp_path)
    expected = onnxruntime(graph, {"x": x})["Y"]
    with loaded.stream() as stream:
        for _ in range(2):  # and reset goes back to the initial state, not to zeros
            parts = [stream.run(x[a : a + 3]) for a in (0, 3, 6, 9)]
            np.testing.assert_allclose(np.concatenate(parts), expected, atol=2e-6)
            stream.reset()


@pytest.mark.parametrize("op", ["GRU", "LSTM", "RNN"])
def test_each_sequence_of_a_batch_has_its_own_state(tmp_path, op):
    """alibaba/MNN#1573: the second sequence of a batch began with the state that the first had left."""
    w, cell = gru(op)
    graph = model([cell], {"x": ["T", "N", 4]}, ["Y", "Y_h"], w)
    x = floats(6, 3, 4)
    loaded = streams_as_whole(graph, {"x": x}, tmp_path, batch=3)
    together = streamed(loaded, {"x": x})
    for n in range(3):
        alone = onnxruntime(graph, {"x": x[:, n : n + 1]})
        close({k: v[..., n : n + 1, :] for k, v in together.items()}, alone)


def test_a_second_file_after_a_reset(tmp_path):
    """snakers4/silero-vad#533: the same file a second time gave other probabilities: the state was not reset."""
    w, cell = gru("LSTM")
    graph = model([cell], {"x": ["T", 1, 4]}, ["Y"], w)
    x = floats(9, 1, 4)
    with streamgru.load(written(graph, tmp_path)).stream() as stream:
        first, goes_on = stream.run(x), stream.run(x)
        twice = onnxruntime(graph, {"x": np.concatenate([x, x])})["Y"]
        np.testing.assert_allclose(np.concatenate([first, goes_on]), twice, atol=2e-6)
        stream.reset()
        assert stream.run(x).tobytes() == first.tobytes()


class Warped(nn.Module):
    """An LSTM whose states go in and do not come out."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(7, 5)

    def forward(self, x: Tensor, hx: Tensor, cx: Tensor) -> Tensor:
        return self.lstm(x, (hx, cx))[0]


class Returned(Warped):
    """They come out."""

    def forward(self, x: Tensor, hx: Tensor, cx: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        y, (hx, cx) = self.lstm(x, (hx, cx))
        return y, hx, cx


@EXPORTERS
def test_states_that_go_in_and_do_not_come_out(tmp_path, exporter):
    """opencv/opencv#21118: forward(x, hx, cx) returns its output alone."""
    example = (torch.zeros(1, 1, 7), torch.zeros(1, 1, 5), torch.zeros(1, 1, 5))
    export_is_refused(seeded(Warped), example, tmp_path, "(?s)hx.*[Rr]eturn", exporter=exporter)
    module = seeded(Returned)
    path = exported(module, example, tmp_path, exporter=exporter)
    steps_like(path, module, list(floats(9, 1, 1, 7)), example[1:])


class ConvLstm(nn.Module):
    """A convolutional LSTM that keeps its state in itself."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.hidden = nn.Conv2d(2 + 3, 12, 3, padding=1), None

    def step(self, x: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        i, f, o, g = self.conv(torch.cat([x, h], 1)).chunk(4, 1)
        c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
        return torch.sigmoid(o) * torch.tanh(c), c

    def forward(self, x: Tensor) -> Tensor:
        if self.hidden is None:
            self.hidden = (x.new_zeros(1, 3, 4, 4), x.new_zeros(1, 3, 4, 4))
        self.hidden = self.step(x, *self.hidden)
        return self.hidden[0].mean((2, 3))


class ConvLstmStep(ConvLstm):
    """Its state is an argument and a result."""

    def forward(self, x: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        h, c = self.step(x, h, c)
        return h.mean((2, 3)), h, c


@EXPORTERS
def test_a_convolutional_lstm_that_hides_its_state(tmp_path, exporter):
    """ndrplz/ConvLSTM_pytorch#21: self.hidden is None at first, then the state of the frame before."""
    export_is_refused(seeded(ConvLstm), torch.zeros(1, 2, 4, 4), tmp_path, "hidden", exporter=exporter)
    module, zeros = seeded(ConvLstmStep), torch.zeros(1, 3, 4, 4)
    path = exported(module, (torch.zeros(1, 2, 4, 4), zeros, zeros), tmp_path, exporter=exporter)
    steps_like(path, module, list(floats(6, 1, 2, 4, 4)), [zeros, zeros])


class Policy(nn.Module):
    """A recurrent actor whose exporter takes every recurrent layer for an LSTM."""

    def __init__(self, keep_c: bool) -> None:
        super().__init__()
        self.rnn, self.actor, self.keep_c = (
            nn.GRU(6, 5),
            nn.Sequential(nn.Linear(5, 8), nn.ELU(), nn.Linear(8, 2)),
            keep_c,
        )

    def forward(self, obs: Tensor, h_in: Tensor, c_in: Tensor | None = None) -> tuple[Tensor, ...]:
        x, h = self.rnn(obs.unsqueeze(0), h_in)
        actions = self.actor(x.squeeze(0))
        return (actions, h, c_in) if self.keep_c else (actions, h)


def test_a_gru_policy_exported_as_if_it_were_an_lstm(tmp_path):
    """isaac-sim/IsaacLab#3008: the exporter hands a cell state to a GRU."""
    example = (torch.zeros(1, 6), torch.zeros(1, 1, 5))
    export_is_refused(seeded(lambda: Policy(False)), (*example, torch.zeros(1, 1, 5)), tmp_path, "c_in")
    module = seeded(lambda: Policy(False))
    path = exported(module, example, tmp_path)
    steps_like(path, module, list(floats(9, 1, 6)), example[1:])


def lstm_policy(square: bool) -> tuple:
    """As rl_games writes it: names that torch made, states last, an action of the state's shape where `square`."""
    a = 5 if square else 2
    constants = recurrent("LSTM", 6, 5) | {
        "m": floats(5, a), "v": floats(5, 1), "zero": np.array([0]), "logstd": floats(1, a), "direction": np.array([1]),
    }  # fmt: skip
    nodes = [
        node("Unsqueeze", ["obs", "zero"], ["x"]),
        node("LSTM", ["x", "W", "R", "B", "", "out_state.1", "hidden_state.1"], ["Y", "65", "66"], hidden_size=5),
        node("Squeeze", ["Y", "direction"], ["u"]),
        node("MatMul", ["u", "m"], ["mu"]), node("MatMul", ["u", "v"], ["value"]),
        node("Mul", ["mu", "zero_f"], ["none"]), node("Add", ["none", "logstd"], ["log_std"]),
    ]  # fmt: skip
    constants["zero_f"] = np.float32(0)
    inputs = {"obs": [1, 6], "out_state.1": [1, 1, 5], "hidden_state.1": [1, 1, 5]}
    return model(nodes, inputs, ["mu", "log_std", "value", "65", "66"], constants)


@pytest.mark.parametrize("square", [False, True])
def test_a_policy_whose_states_have_names_that_say_nothing(tmp_path, square):
    """Denys88/rl_games#316: out_state.1 and hidden_state.1 were not fed back; their successors are called 65 and 66."""
    graph = lstm_policy(square)
    loaded = streamgru.load(written(graph, tmp_path))
    assert [t.name for t in loaded.inputs] == ["obs"]
    assert [t.name for t in loaded.outputs] == ["mu", "log_std", "value"]
    h = c = np.zeros((1, 1, 5), np.float32)
    with loaded.stream() as stream:
        for obs in floats(9, 1, 6):
            y = onnxruntime(graph, {"obs": obs, "out_state.1": h, "hidden_state.1": c})
            h, c = y.pop("65"), y.pop("66")
            close(loaded.named(stream.step(obs)), y)


class Queue(nn.Module):
    """A buffer of the last ten samples, kept in the module."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("wavbuf", torch.zeros(10))

    def forward(self, x: Tensor) -> Tensor:
        self.wavbuf = torch.cat([self.wavbuf, x])[-10:]
        return self.wavbuf * 2


class QueueStep(nn.Module):
    """The buffer is an argument and a result."""

    def forward(self, x: Tensor, wavbuf: Tensor) -> tuple[Tensor, Tensor]:
        wavbuf = torch.cat([wavbuf, x])[-10:]
        return wavbuf * 2, wavbuf


@EXPORTERS
def test_a_queue_of_samples_that_the_module_keeps(tmp_path, exporter):
    """microsoft/onnxruntime#10108: a first-in-first-out buffer; the exported graph forgets it."""
    export_is_refused(Queue(), torch.ones(5), tmp_path, "wavbuf", exporter=exporter)
    module, zeros = QueueStep(), torch.zeros(10)
    path = exported(
        module, (torch.ones(5), zeros), tmp_path, exporter=exporter, stream="step", state=[("wavbuf", "wavbuf_out")]
    )
    steps_like(path, module, list(floats(6, 5)), [zeros])


def detector() -> tuple:
    """h and c stacked in one tensor, cut, stacked again: an exported silero-vad without its convolutions."""
    constants = recurrent("LSTM", 6, 5) | {
        "zero": np.array(0), "first": np.array([0]), "one": np.array(1), "v": floats(5, 1), "direction": np.array([1]),
    }  # fmt: skip
    nodes = [
        node("Gather", ["state", "zero"], ["h0"], axis=0), node("Gather", ["state", "one"], ["c0"], axis=0),
        node("Unsqueeze", ["h0", "first"], ["h"]), node("Unsqueeze", ["c0", "first"], ["c"]),
        node("Unsqueeze", ["input", "first"], ["x"]),
        node("LSTM", ["x", "W", "R", "B", "", "h", "c"], ["Y", "h1", "c1"], hidden_size=5),
        node("Concat", ["h1", "c1"], ["stateN"], axis=0),
        node("Squeeze", ["Y", "direction"], ["s"]),
        node("MatMul", ["s", "v"], ["w"]),
        node("Sigmoid", ["w"], ["output"]),
    ]  # fmt: skip
    return model(nodes, {"input": [1, 6], "state": [2, 1, 5]}, ["output", "stateN"], constants)


def test_a_state_whose_successor_has_another_name(tmp_path):
    """livekit/agents-js#944: the state comes out as stateN; it was looked for under state and stayed zero."""
    graph = detector()
    loaded = streamgru.load(written(graph, tmp_path))
    state = np.zeros((2, 1, 5), np.float32)
    with loaded.stream() as stream:
        for x in floats(9, 1, 6):
            y = onnxruntime(graph, {"input": x, "state": state})
            state = y["stateN"]
            np.testing.assert_allclose(stream.step(x), y["output"], atol=2e-6)
        assert [t.shape for t in loaded.states] == [(2, 1, 5)]
