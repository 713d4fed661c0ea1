"""Behaviours of the exporter. Expected values come from the PyTorch module, run here once more; the graphs
are run by onnxruntime, not by what the exporter used to verify them.

Where a behaviour does not depend on torch's exporter, the legacy one is used: it is twenty times faster.
"""

from __future__ import annotations

import importlib.metadata
import json
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations

from streamgru.errors import ExportError
from streamgru_export.from_torch import export as torch_export
from streamgru_export.from_torch import exporters as torch_env
from streamgru_export.from_torch.export import export

SEED = 20
TOLERANCE = 1e-5  # float32 against float32, a few hundred products deep
EXPORTERS = ["dynamo", "legacy"]


@pytest.fixture(autouse=True)
def _seeded() -> Iterator[None]:
    print(f"torch.manual_seed({SEED})")
    torch.manual_seed(SEED)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "model.onnx"


class Net(nn.Module):
    """A stacked GRU and a Linear on its last frame."""

    def __init__(self, batch_first: bool = True) -> None:
        super().__init__()
        self.gru = nn.GRU(4, 8, 2, batch_first=batch_first, dropout=0.5)
        self.head = nn.Linear(8, 3)

    def forward(self, x: Tensor, h: Tensor | None = None) -> tuple[Tensor, Tensor]:
        y, h = self.gru(x, h)
        return self.head(y[:, -1] if self.gru.batch_first else y[-1]), h


class Loop(nn.Module):
    """A GRUCell in a Python loop over time."""

    def __init__(self) -> None:
        super().__init__()
        self.gru = nn.GRU(4, 4, batch_first=True)  # something for the search for time to watch
        self.cell = nn.GRUCell(4, 8)

    def forward(self, x: Tensor) -> Tensor:
        x, _ = self.gru(x)
        h = x.new_zeros(x.shape[0], 8)
        frames = []
        for t in range(x.shape[1]):
            h = self.cell(x[:, t], h)
            frames.append(h)
        return torch.stack(frames, 1)


class Lambda(nn.Module):
    """A module from its parts and a function of them."""

    def __init__(self, call: Callable[..., Any], **parts: Any) -> None:
        super().__init__()
        self.call = call
        for name, part in parts.items():
            if isinstance(part, Tensor):
                self.register_buffer(name, part)
            else:
                setattr(self, name, part)


class OneInput(Lambda):
    def forward(self, x: Tensor) -> Any:
        return self.call(self, x)


class Step(Lambda):
    def forward(self, x: Tensor, h: Tensor) -> Any:
        return self.call(self, x, h)


def run(path: Path, *inputs: Tensor) -> list[np.ndarray]:
    session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    names = [node.name for node in session.get_inputs()]
    return session.run(None, {n: x.numpy() for n, x in zip(names, inputs, strict=True)})


def flat(result: Any) -> list[Tensor]:
    return [result] if isinstance(result, Tensor) else [y for part in result for y in flat(part)]


def assert_agrees(path: Path, module: nn.Module, *example: Any) -> None:
    """The file gives what the module gives in eval mode, in number, shape and value."""
    training = module.training
    with torch.no_grad():
        expected = flat(module.eval()(*example))
    module.train(training)
    actual = run(path, *flat(example))
    assert [y.shape for y in actual] == [tuple(y.shape) for y in expected]
    for got, want in zip(actual, expected, strict=True):
        np.testing.assert_allclose(got, want.numpy(), rtol=0, atol=TOLERANCE)


def declared(path: Path) -> dict[str, list[int | str]]:
    graph = onnx.load(path).graph
    return {
        v.name: [d.dim_param or d.dim_value for d in v.type.tensor_type.shape.dim]
        for v in [*graph.input, *graph.output]
    }


def operators(path: Path) -> list[str]:
    return [node.op_type for node in onnx.load(path).graph.node]


def properties(path: Path) -> dict[str, str]:
    return {p.key: p.value for p in onnx.load(path).metadata_props}


# ---------------------------------------------------------------- sequence graphs


@pytest.mark.parametrize("exporter", EXPORTERS)
@pytest.mark.parametrize("batch_first", [True, False])
@pytest.mark.parametrize("layers, bidirectional", [(1, False), (2, True)])
@pytest.mark.filterwarnings("ignore:bidirectional")
def test_plain_gru_runs_at_every_length_and_batch(
    path: Path, exporter: Any, batch_first: bool, layers: int, bidirectional: bool
) -> None:
    gru = nn.GRU(4, 8, layers, batch_first=batch_first, bidirectional=bidirectional)
    directions = 1 + bidirectional

    def example(time: int, batch: int) -> tuple[Tensor, Tensor]:
        x = torch.randn(batch, time, 4) if batch_first else torch.randn(time, batch, 4)
        return x, torch.randn(layers * directions, batch, 8)

    result = export(gru, example(5, 2), path, dynamic_batch=True, exporter=exporter)
    assert result.kind == "sequence"
    assert result.time_axis == {"input": int(batch_first), "y": int(batch_first)}
    assert result.state == (("h_in", "h_out"),)
    for time, batch in [(1, 1), (5, 2), (10, 2), (7, 3)]:
        assert_agrees(path, gru, *example(time, batch))


def test_time_stays_dynamic_after_other_exports_in_the_process(path: Path) -> None:
    """torch keeps a GRU's static decomposition in a dispatch cache: the next export lost its time axis."""
    cache = torch.ops.aten.gru.input._dispatch_cache
    cache.clear()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.export.export(nn.GRU(4, 8), (torch.randn(5, 1, 4),))
    assert cache, "this torch no longer caches the dispatch: the workaround may go"
    gru = nn.GRU(4, 8, batch_first=True)
    export(gru, torch.randn(1, 5, 4), path)
    assert declared(path)["input"] == [1, "time", 4]
    assert_agrees(path, gru, torch.randn(1, 12, 4))
    assert not cache, "the next export in this process would use the decomposition of this one"


def test_no_length_of_the_example_is_left_in_shapes(path: Path) -> None:
    """Stale lengths gave Reshape(Y, [5, -1, 16]): T=10, B=2 came out as (5, 4, 16), without an error."""
    gru = nn.GRU(4, 16)
    export(gru, torch.randn(5, 2, 4), path, dynamic_batch=True)
    assert declared(path) == {
        "input": ["time", "batch", 4],
        "y": ["time", "batch", 16],
        "h_n": [1, "batch", 16],
    }
    graph = onnx.load(path).graph
    assert {v.name for v in graph.value_info} <= {w.name for w in graph.initializer}  # only weights keep inner shapes
    assert_agrees(path, gru, torch.randn(10, 2, 4))


@pytest.mark.parametrize("exporter", EXPORTERS)
def test_an_example_of_size_one_keeps_its_axes_dynamic(path: Path, exporter: Any) -> None:
    gru = nn.GRU(4, 8, batch_first=True)
    example = torch.randn(1, 1, 4), torch.randn(1, 1, 8)
    result = export(gru, example, path, stream="sequence", dynamic_batch=True, exporter=exporter)
    assert result.kind == "sequence"
    assert declared(path)["input"] == ["batch", "time", 4]
    assert_agrees(path, gru, torch.randn(3, 6, 4), torch.randn(1, 3, 8))


@pytest.mark.parametrize("exporter", EXPORTERS)
def test_net_with_a_head_on_the_last_frame(path: Path, exporter: Any) -> None:
    net = Net()
    result = export(net, torch.randn(1, 5, 4), path, exporter=exporter, output_names=["logits", "h_n"])
    assert (result.kind, result.state, result.outputs) == ("sequence", (), ("logits", "h_n"))
    assert result.time_axis == {"x": 1}
    for time in (1, 5, 10, 13):
        assert_agrees(path, net, torch.randn(1, time, 4))


def test_gru_before_attention(path: Path) -> None:
    def call(self: Any, x: Tensor) -> Tensor:
        y, _ = self.gru(x)
        return self.mha(y, y, y, need_weights=False)[0]

    net = OneInput(call, gru=nn.GRU(4, 8, batch_first=True), mha=nn.MultiheadAttention(8, 2, batch_first=True))
    export(net, torch.randn(1, 5, 4), path)
    assert_agrees(path, net, torch.randn(1, 10, 4))
    path.unlink()
    refused(path, net, torch.randn(1, 5, 4), "its length is fixed in the graph", exporter="legacy")


def test_attention_inside_a_step_has_an_onnx_form_in_the_legacy_exporter(path: Path) -> None:
    """Its fast path has none; it is switched off for the export, and on again."""
    encoder = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    net = Step(lambda self, x, h: (self.encoder(x), self.cell(x[:, 0], h)), encoder=encoder, cell=nn.GRUCell(8, 6))
    example = torch.randn(1, 3, 8), torch.zeros(1, 6)
    export(net, example, path, exporter="legacy", stream="step")
    assert torch.backends.mha.get_fastpath_enabled()
    assert_agrees(path, net, *example)


def test_unbatched_sequence(path: Path) -> None:
    gru = nn.GRU(4, 8)
    assert export(gru, torch.randn(5, 4), path).time_axis == {"input": 0, "y": 0}
    assert_agrees(path, gru, torch.randn(9, 4))


def test_token_ids(path: Path) -> None:
    net = OneInput(
        lambda self, x: self.gru(self.embedding(x))[0],
        embedding=nn.Embedding(11, 4),
        gru=nn.GRU(4, 8, batch_first=True),
    )
    export(net, torch.randint(0, 11, (1, 6)), path, exporter="legacy")
    assert_agrees(path, net, torch.randint(0, 11, (1, 9)))


def test_a_length_the_module_refuses_is_reported_as_not_verified(path: Path) -> None:
    net = OneInput(
        lambda self, x: self.gru(self.conv(x).transpose(1, 2))[0],
        conv=nn.Conv1d(4, 4, 3, stride=2),
        gru=nn.GRU(4, 8, batch_first=True),
    )
    with pytest.warns(UserWarning, match="not verified at T=1"):
        result = export(net, torch.randn(1, 4, 8), path, exporter="legacy")
    assert result.time_axis == {"x": 2, "y": 1}
    assert declared(path)["y"] == [1, "y_time", 8]
    assert_agrees(path, net, torch.randn(1, 4, 21))


def test_time_axis_of_a_module_without_recurrent_layers_can_be_given(path: Path) -> None:
    conv = OneInput(lambda self, x: self.conv(x), conv=nn.Conv1d(4, 4, 3, padding=1))
    result = export(conv, torch.randn(1, 4, 6), path, exporter="legacy", time_axis=-1)
    assert (result.kind, result.time_axis) == ("sequence", {"x": 2, "y": 2})
    assert_agrees(path, conv, torch.randn(1, 4, 17))


def test_bidirectional_over_time_is_exported_whole_with_a_warning(path: Path) -> None:
    gru = nn.GRU(4, 8, bidirectional=True)
    with pytest.warns(UserWarning, match="cannot stream"):
        result = export(gru, torch.randn(5, 1, 4), path, exporter="legacy")
    assert any("cannot stream" in w for w in result.warnings)


# ---------------------------------------------------------------- step graphs


@pytest.mark.parametrize("exporter", EXPORTERS)
def test_steps_fed_with_their_state_give_what_the_module_gives_for_the_sequence(path: Path, exporter: Any) -> None:
    gru = nn.GRU(4, 60, 2, batch_first=True)  # more than 8192 weights: the default exporter leaves them unfolded
    result = export(gru, (torch.randn(1, 1, 4), torch.zeros(2, 1, 60)), path, exporter=exporter)
    assert (result.kind, result.state, result.time_axis) == ("step", (("h_in", "h_out"),), {})
    assert declared(path)["input"] == [1, 1, 4]
    x, h = torch.randn(1, 20, 4), torch.zeros(2, 1, 60).numpy()
    frames = []
    for t in range(20):
        y, h = run(path, x[:, t : t + 1], torch.from_numpy(h))
        frames.append(y)
    with torch.no_grad():
        want, h_want = gru(x)
    np.testing.assert_allclose(np.concatenate(frames, 1), want.numpy(), rtol=0, atol=TOLERANCE)
    np.testing.assert_allclose(h, h_want.numpy(), rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("exporter", EXPORTERS)
def test_gru_cell_is_a_step_whose_result_is_its_state(path: Path, exporter: Any) -> None:
    cell = nn.GRUCell(4, 8)
    result = export(cell, (torch.randn(2, 4), torch.randn(2, 8)), path, exporter=exporter)
    assert (result.kind, result.inputs, result.outputs) == ("step", ("input", "h_in"), ("h_out",))
    assert_agrees(path, cell, torch.randn(2, 4), torch.randn(2, 8))


@pytest.mark.parametrize("exporter", EXPORTERS)
def test_lstm_state_is_a_pair(path: Path, exporter: Any) -> None:
    lstm = nn.LSTM(4, 8)
    example = torch.randn(1, 1, 4), (torch.randn(1, 1, 8), torch.randn(1, 1, 8))
    result = export(lstm, example, path, exporter=exporter)
    assert result.state == (("h_in", "h_out"), ("c_in", "c_out"))
    assert result.outputs == ("y", "h_out", "c_out")
    assert not result.warnings
    assert_agrees(path, lstm, *example)


def test_sequence_lstm(path: Path) -> None:
    lstm = nn.LSTM(4, 8, batch_first=True)
    state = torch.randn(1, 1, 8), torch.randn(1, 1, 8)
    result = export(lstm, [torch.randn(1, 5, 4), state], path)
    assert (result.kind, result.time_axis) == ("sequence", {"input": 1, "y": 1})
    assert_agrees(path, lstm, torch.randn(1, 8, 4), state)


def test_step_with_a_dynamic_batch(path: Path) -> None:
    net = Net()
    export(net, (torch.randn(1, 1, 4), torch.zeros(2, 1, 8)), path, dynamic_batch=True)
    assert declared(path)["h_in"] == [2, "batch", 8]
    assert_agrees(path, net, torch.randn(5, 1, 4), torch.randn(2, 5, 8))


def test_list_of_states(path: Path) -> None:
    class Stack(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.cells = nn.ModuleList([nn.GRUCell(4, 8), nn.GRUCell(8, 6)])

        def forward(self, x: Tensor, states: list[Tensor]) -> dict[str, Any]:
            a = self.cells[0](x, states[0])
            b = self.cells[1](a, states[1])
            return {"gain": torch.sigmoid(b), "states": [a, b]}

    example = torch.randn(1, 4), [torch.randn(1, 8), torch.randn(1, 6)]
    result = export(Stack(), example, path, exporter="legacy")
    assert result.inputs == ("x", "states_0_in", "states_1_in")
    assert result.outputs == ("gain", "states_0_out", "states_1_out")
    assert result.state == (("states_0_in", "states_0_out"), ("states_1_in", "states_1_out"))


def test_bidirectional_over_frequency_inside_a_frame_is_a_step(path: Path) -> None:
    def call(self: Any, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:  # x [1, T=1, F=6, C=4]
        bands, _ = self.over_bands(x[:, 0])
        y, h = self.over_time(bands.reshape(1, 1, 48), h)
        return y, h

    net = Step(call, over_bands=nn.GRU(4, 4, batch_first=True, bidirectional=True), over_time=nn.GRU(48, 8))
    assert export(net, (torch.randn(1, 1, 6, 4), torch.zeros(1, 1, 8)), path, exporter="legacy").kind == "step"


def test_gru_module_without_memory_of_its_own_is_left_to_the_caller(path: Path) -> None:
    linear = nn.Linear(4, 3)
    result = export(linear, torch.randn(1, 4), path, exporter="legacy")
    assert (result.kind, result.state) == ("step", ())


# ---------------------------------------------------------------- names, states, metadata


def test_example_by_argument_name(path: Path) -> None:
    result = export(Net(), {"h": torch.zeros(2, 1, 8), "x": torch.randn(1, 1, 4)}, path, exporter="legacy")
    assert result.inputs == ("x", "h_in")


@pytest.mark.parametrize(
    "argument, name",
    [
        ("h", "h_in"),
        ("hx", "h_in"),
        ("h0", "h_in"),
        ("h_in", "h_in"),
        ("h_prev", "h_in"),
        ("gru_state", "gru_state_in"),
        ("hidden", "hidden_in"),
        ("convCache", "convCache_in"),
    ],
)
def test_a_state_is_recognised_by_its_name(path: Path, argument: str, name: str) -> None:
    source = f"class M(Base):\n def forward(self, x, {argument}): return self.call(self, x, {argument})"
    scope: dict[str, Any] = {"Base": Lambda}
    exec(source, scope)  # an argument's name is what is under test
    module = scope["M"](lambda self, x, h: (2 * x, self.cell(x, h)), cell=nn.GRUCell(4, 8))
    result = export(module, (torch.randn(1, 4), torch.zeros(1, 8)), path, exporter="legacy")
    assert result.state == ((name, name.removesuffix("_in") + "_out"),)
    assert result.outputs[0] == "y"


def test_given_names_and_state_are_kept(path: Path) -> None:
    net = Step(lambda self, x, h: (self.cell(x, h), x), cell=nn.GRUCell(8, 8))
    result = export(
        net,
        (torch.randn(1, 8), torch.zeros(1, 8)),
        path,
        exporter="legacy",
        input_names=["frame", "memory"],
        output_names=["memory_next", "echo"],
        state=[("memory", "memory_next")],
    )
    assert (result.inputs, result.outputs) == (("frame", "memory"), ("memory_next", "echo"))
    assert result.state == (("memory", "memory_next"),)
    assert list(declared(path)) == ["frame", "memory", "memory_next", "echo"]


def test_a_state_of_any_name_can_be_given(path: Path) -> None:
    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.cell = nn.GRUCell(4, 8)

        def forward(self, x: Tensor, q: Tensor) -> Tensor:
            return self.cell(x, q)

    example = torch.randn(1, 4), torch.zeros(1, 8)
    result = export(Odd(), example, path, exporter="legacy", state=[("q", "q_next")])
    assert result.state == (("q", "q_next"),)


def test_state_called_alike_on_both_sides_gets_two_names(path: Path) -> None:
    net = Step(lambda self, x, h: {"y": 2 * x, "h": self.cell(x, h)}, cell=nn.GRUCell(4, 8))
    example = torch.randn(1, 4), torch.zeros(1, 8)
    result = export(net, example, path, exporter="legacy", state=[("h", "h")])
    assert result.state == (("h_in", "h_out"),)


def test_a_state_is_continued_by_the_output_of_its_name(path: Path) -> None:
    """And not by the last output of its shape."""
    net = Step(lambda self, x, h: {"h_new": self.a(x, h), "z": self.b(x, h)}, a=nn.GRUCell(4, 8), b=nn.GRUCell(4, 8))
    example = torch.randn(1, 4), torch.zeros(1, 8)
    result = export(net, example, path, exporter="legacy")
    assert (result.outputs, result.state) == (("h_out", "z"), (("h_in", "h_out"),))
    given = export(net, example, path, exporter="legacy", output_names=["h_next", "z"])
    assert given.state == (("h_in", "h_next"),)


def test_a_guessed_state_does_not_take_the_output_another_is_named_after(path: Path) -> None:
    class Pair(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.GRUCell(4, 8), nn.GRUCell(4, 8)

        def forward(self, x: Tensor, h: Tensor, memory: Tensor) -> tuple[Tensor, Tensor]:
            return self.b(x, memory), self.a(x, h)

    example = torch.randn(1, 4), torch.zeros(1, 8), torch.ones(1, 8)
    result = export(Pair(), example, path, exporter="legacy", output_names=["other", "h_out"])
    assert result.state == (("h_in", "h_out"), ("memory_in", "other"))


def test_named_tuple_names_the_outputs(path: Path) -> None:
    class Result(NamedTuple):
        gain: Tensor
        vad: Tensor

    net = OneInput(lambda self, x: Result(self.a(x), self.b(x)), a=nn.Linear(4, 3), b=nn.Linear(4, 1))
    assert export(net, torch.randn(1, 4), path, exporter="legacy").outputs == ("gain", "vad")


def test_several_outputs_without_names(path: Path) -> None:
    net = OneInput(lambda self, x: (self.a(x), [self.b(x), None]), a=nn.Linear(4, 3), b=nn.Linear(4, 1))
    assert export(net, torch.randn(1, 4), path, exporter="legacy").outputs == ("y", "y1")


@pytest.mark.parametrize("exporter", EXPORTERS)
def test_the_same_tensor_may_be_result_and_state(path: Path, exporter: Any) -> None:
    def call(self: Any, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        h = self.cell(x, h)
        return h, h

    net = Step(call, cell=nn.GRUCell(4, 8))
    example = torch.randn(1, 4), torch.zeros(1, 8)
    result = export(net, example, path, exporter=exporter)
    assert (result.outputs, result.warnings) == (("y", "h_out"), ())
    assert_agrees(path, net, *example)


def test_ambiguous_state_is_warned_about(path: Path) -> None:
    net = Step(lambda self, x, h: (self.a(x, h), self.b(x, h)), a=nn.GRUCell(4, 8), b=nn.GRUCell(4, 8))
    with pytest.warns(UserWarning, match=r"outputs \[0, 1\] all have the shape of the state"):
        result = export(net, (torch.randn(1, 4), torch.zeros(1, 8)), path, exporter="legacy")
    assert result.outputs == ("y", "h_out")


def test_state_input_without_an_output_is_warned_about(path: Path) -> None:
    net = Step(lambda self, x, h: self.gru(x, h)[0], gru=nn.GRU(4, 8))
    with pytest.warns(UserWarning, match="'h' reads as a state"):
        result = export(net, (torch.randn(5, 1, 4), torch.zeros(1, 1, 8)), path, exporter="legacy")
    assert result.state == ()


def test_metadata_is_in_the_file(path: Path) -> None:
    metadata = {"sample_rate": 16000, "labels": ["yes", "no"], "unit": "dB", "mean": np.float32([0.5, 2])}
    export(nn.GRU(4, 8), torch.randn(5, 1, 4), path, exporter="legacy", metadata=metadata)
    found = {key: json.loads(v) if v[:1] in '[{"0123456789' else v for key, v in properties(path).items()}
    assert found["streamgru.kind"] == "sequence"
    assert found["streamgru.time_axis"] == {"input": 0, "y": 0}
    assert found["streamgru.state"] == []
    assert found["streamgru.meta.sample_rate"] == 16000
    assert found["streamgru.meta.labels"] == ["yes", "no"]
    assert found["streamgru.meta.unit"] == "dB"
    assert found["streamgru.meta.mean"] == [0.5, 2.0]


@pytest.mark.parametrize("exporter", EXPORTERS)
def test_weights_have_the_modules_names_and_no_source_paths(path: Path, exporter: Any) -> None:
    export(Net(), (torch.randn(1, 1, 4), torch.zeros(2, 1, 8)), path, exporter=exporter)
    assert "head.weight" in {w.name for w in onnx.load(path).graph.initializer}
    assert __file__.encode() not in path.read_bytes()


# ---------------------------------------------------------------- the module is copied, never changed


@pytest.mark.parametrize("exporter", EXPORTERS)
def test_training_mode_is_exported_as_eval_and_left_as_it_was(path: Path, exporter: Any) -> None:
    net = Net().train()
    net.head.eval()
    before = {name: x.clone() for name, x in net.state_dict().items()}
    export(net, (torch.randn(1, 1, 4), torch.zeros(2, 1, 8)), path, exporter=exporter)
    assert "Dropout" not in operators(path)
    assert (net.training, net.gru.training, net.head.training) == (True, True, False)
    assert all(torch.equal(x, before[name]) for name, x in net.state_dict().items())
    assert all(p.requires_grad for p in net.parameters())


PARAMETRIZATIONS: dict[str, Callable[[nn.Module, str], nn.Module]] = {
    "weight_norm": parametrizations.weight_norm,
    "spectral_norm": parametrizations.spectral_norm,
    "orthogonal": parametrizations.orthogonal,
    "weight_norm hook": nn.utils.weight_norm,
    "spectral_norm hook": nn.utils.spectral_norm,
}


@pytest.mark.parametrize("exporter", EXPORTERS)
@pytest.mark.parametrize("kind", PARAMETRIZATIONS)
@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_parametrizations_become_plain_weights(path: Path, kind: str, exporter: Any) -> None:
    net = Net()
    PARAMETRIZATIONS[kind](net.gru, "weight_hh_l0")
    PARAMETRIZATIONS[kind](net.head, "weight")
    net(torch.randn(1, 3, 4))  # leaves computed weights in the module, which torch refuses to copy
    parameters = [name for name, _ in net.named_parameters()]
    example = torch.randn(1, 1, 4), torch.zeros(2, 1, 8)
    export(net, example, path, exporter=exporter)
    assert not {"ReduceL2", "Div", "Sqrt", "MatMul"} & set(operators(path))
    assert [name for name, _ in net.named_parameters()] == parameters
    assert_agrees(path, net, *example)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16])
def test_other_precisions_are_exported_in_float32_with_a_warning(path: Path, dtype: torch.dtype) -> None:
    net = Net().to(dtype)
    with pytest.warns(UserWarning, match=f"in {str(dtype).removeprefix('torch.')}: exported, and verified"):
        export(
            net,
            (torch.randn(1, 1, 4, dtype=dtype), torch.zeros(2, 1, 8, dtype=dtype)),
            path,
            exporter="legacy",
        )
    assert {t.data_type for t in onnx.load(path).graph.initializer} <= {
        onnx.TensorProto.FLOAT,
        onnx.TensorProto.INT64,
    }
    assert net.head.weight.dtype == dtype


def test_compiled_module_is_exported_as_the_module_it_wraps(path: Path) -> None:
    gru = nn.GRU(4, 8)
    export(torch.compile(gru), torch.randn(5, 1, 4), path, exporter="legacy")  # type: ignore[arg-type]
    assert_agrees(path, gru, torch.randn(7, 1, 4))


def test_nothing_of_torch_is_changed_after_an_export(path: Path) -> None:
    gru = nn.GRU(4, 8)
    x = torch.randn(5, 1, 4)
    before = gru(x)[0]
    kernels = dict(torch.ops.aten.gru.input.py_kernels)
    export(gru, x, path)
    assert torch.equal(gru(x)[0], before)
    assert torch.ops.aten.gru.input.py_kernels == kernels
    assert torch.is_grad_enabled()
    gru(x)[0].sum().backward()


# ---------------------------------------------------------------- what cannot be exported faithfully is
# refused


def refused(path: Path, module: Any, example: Any, match: str, **options: Any) -> None:
    """An ExportError that says `match`, no warning instead, and nothing left in the folder."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(ExportError, match=match):
            export(module, example, path, **options)
    assert [p.name for p in path.parent.iterdir()] == []


def test_python_loop_over_time_is_refused_by_the_default_exporter(path: Path) -> None:
    refused(path, Loop(), torch.randn(1, 5, 4), "fixed in the module's Python code")


def test_python_loop_traced_by_the_legacy_exporter_fails_the_verification(path: Path) -> None:
    """It declares the axis dynamic, and runs the first five steps of nine without an error."""
    refused(path, Loop(), torch.randn(1, 5, 4), "It is right at T=5, B=1", exporter="legacy")


def test_python_loop_over_a_cell_can_be_a_step(path: Path) -> None:
    net = Step(lambda self, x, h: self.cell(x, h), cell=nn.GRUCell(4, 8))
    assert export(net, (torch.randn(1, 4), torch.zeros(1, 8)), path, exporter="legacy").kind == "step"


def copied(self: Any, x: Tensor) -> Tensor:
    y, h = self.gru(x, self.memory)
    self.memory.copy_(h)
    return y


def assigned(self: Any, x: Tensor) -> Tensor:
    y, self.memory = self.gru(x, self.memory)
    return y


def in_a_list(self: Any, x: Tensor) -> Tensor:
    y, self._held[0] = self.gru(x, self._held[0])
    return y


@pytest.mark.parametrize("exporter", EXPORTERS)
@pytest.mark.parametrize("call, name", [(copied, "memory"), (assigned, "memory"), (in_a_list, r"_held\[0\]")])
def test_state_in_the_module_is_refused(path: Path, call: Any, name: str, exporter: Any) -> None:
    net = OneInput(call, gru=nn.GRU(4, 8), memory=torch.zeros(1, 1, 8), _held=[torch.zeros(1, 1, 8)])
    refused(path, net, torch.randn(1, 1, 4), f"changes {name}.*state kept inside", exporter=exporter)


def test_a_counter_in_the_module_is_only_warned_about(path: Path) -> None:
    def call(self: Any, x: Tensor) -> Tensor:
        self.calls += 1
        return self.linear(x)

    net = OneInput(call, linear=nn.Linear(4, 3), calls=torch.zeros((), dtype=torch.int64))
    with pytest.warns(UserWarning, match="changes calls"):
        export(net, torch.randn(1, 4), path, exporter="legacy")
    assert net.calls == 0


def test_randomness_in_eval_mode_is_refused(path: Path) -> None:
    net = OneInput(lambda self, x: nn.functional.dropout(self.linear(x)), linear=nn.Linear(4, 30))
    refused(path, net, torch.randn(1, 4), "draws random numbers")


@pytest.mark.filterwarnings("ignore")  # torch says that this quantisation is going away
@pytest.mark.parametrize("exporter", EXPORTERS)
def test_a_quantised_module_is_refused_by_its_layer(path: Path, exporter: Any) -> None:
    """Both exporters fail on it, in the words of torch's C++."""
    quantised = torch.ao.quantization.quantize_dynamic(Net().eval(), {nn.GRU}, dtype=torch.qint8)
    with pytest.raises(ExportError, match=r"gru is quantised \(torch\.ao.*GRU\).*export the float module"):
        export(quantised, (torch.randn(1, 1, 4), torch.zeros(2, 1, 8)), path, exporter=exporter)
    assert not list(path.parent.iterdir())


def test_packed_sequences_are_refused_with_a_way_out(path: Path) -> None:
    def call(self: Any, x: Tensor) -> Tensor:
        packed = nn.utils.rnn.pack_padded_sequence(x, torch.tensor([x.shape[1]]), batch_first=True)
        y, _ = nn.utils.rnn.pad_packed_sequence(self.gru(packed)[0], batch_first=True)
        return y

    net = OneInput(call, gru=nn.GRU(4, 8, batch_first=True))
    refused(path, net, torch.randn(1, 5, 4), "no packed sequences")


def test_plain_rnn_needs_the_legacy_exporter_for_a_dynamic_time(path: Path) -> None:
    rnn = nn.RNN(4, 8)
    refused(path, rnn, torch.randn(5, 1, 4), 'unrolls nn.RNN.*exporter="legacy"')
    export(rnn, torch.randn(5, 1, 4), path, exporter="legacy")
    assert_agrees(path, rnn, torch.randn(9, 1, 4))


@pytest.mark.parametrize(
    "module, example",
    [
        (Net(), torch.randn(1, 1, 4)),
        (nn.GRUCell(4, 8), torch.randn(1, 4)),
    ],
)
def test_step_without_a_state_is_refused(path: Path, module: nn.Module, example: Tensor) -> None:
    refused(path, module, example, "forget everything between two calls", stream="step")


def test_bidirectional_step_is_refused(path: Path) -> None:
    example = torch.randn(1, 1, 4), torch.zeros(2, 1, 8)
    refused(path, nn.GRU(4, 8, bidirectional=True), example, "cannot know the frames to come")


def test_sequence_without_a_time_axis_is_refused(path: Path) -> None:
    example = torch.randn(1, 4), torch.zeros(1, 8)
    refused(path, nn.GRUCell(4, 8), example, "no axis of the inputs", stream="sequence")


def test_batch_fixed_in_the_code_is_refused(path: Path) -> None:
    net = OneInput(lambda self, x: self.gru(x, torch.zeros(1, 2, 8))[0], gru=nn.GRU(4, 8))
    refused(path, net, torch.randn(5, 2, 4), "refuses twice the batch", dynamic_batch=True)


def test_an_argument_forward_ignores_is_not_dropped_silently(path: Path) -> None:
    net = Step(lambda self, x, h: self.linear(x), linear=nn.Linear(4, 3))
    refused(path, net, (torch.randn(1, 4), torch.zeros(1, 8)), "forward\\(\\) does not use", exporter="legacy")


# ---------------------------------------------------------------- the verification


def tampered(monkeypatch: pytest.MonkeyPatch, change: Callable[[onnx.ModelProto], None]) -> None:
    """Let torch's exporter write a graph that `change` has spoilt."""
    import onnx_ir as ir

    genuine = torch_env.run_exporter

    def spoilt(*args: Any, **kwargs: Any) -> Any:
        proto = ir.to_proto(genuine(*args, **kwargs))
        change(proto)
        return ir.from_proto(proto)

    monkeypatch.setattr(torch_export, "run_exporter", spoilt)


def drop_linear_before_reset(model: onnx.ModelProto) -> None:
    for node in model.graph.node:
        kept = [a for a in node.attribute if a.name != "linear_before_reset"]
        del node.attribute[:]
        node.attribute.extend(kept)


def test_lost_linear_before_reset_is_found_and_named(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tampered(monkeypatch, drop_linear_before_reset)
    example = torch.randn(1, 1, 4), torch.zeros(1, 1, 8)
    refused(
        path,
        nn.GRU(4, 8),
        example,
        "(?s)differs from the module.*has linear_before_reset=0",
        exporter="legacy",
    )


def test_a_failed_export_leaves_the_previous_file_alone(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tampered(monkeypatch, drop_linear_before_reset)
    path.write_bytes(b"the model in use")
    with pytest.raises(ExportError):
        export(nn.GRU(4, 8), torch.randn(5, 1, 4), path, exporter="legacy")
    assert path.read_bytes() == b"the model in use"
    assert list(path.parent.iterdir()) == [path]


def test_a_wrong_weight_is_located(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def change(model: onnx.ModelProto) -> None:
        bias = next(w for w in model.graph.initializer if w.name.endswith("head.bias"))
        values = onnx.numpy_helper.to_array(bias).copy()
        values[1] += 0.25
        bias.CopyFrom(onnx.numpy_helper.from_array(values, bias.name))

    tampered(monkeypatch, change)
    match = r"output 'y' differs from the module by 0\.25 at index \(0, 1\).*\(T=5, B=1, seed 0\)"
    refused(path, Net(), torch.randn(1, 5, 4), match, exporter="legacy")


def test_a_state_that_is_not_computed_is_found(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With equal shapes nothing else would notice: the first step is right, the next ones are not."""

    def change(model: onnx.ModelProto) -> None:
        for node in model.graph.node:
            for k, name in enumerate(node.output):
                node.output[k] = "unused" if name == "h_out" else name
        model.graph.node.append(onnx.helper.make_node("Identity", ["h_in"], ["h_out"]))

    tampered(monkeypatch, change)
    net = Step(lambda self, x, h: (self.linear(h), self.cell(x, h)), linear=nn.Linear(8, 3), cell=nn.GRUCell(4, 8))
    refused(path, net, (torch.randn(1, 4), torch.zeros(1, 8)), "output 'h_out' differs", exporter="legacy")


def test_the_tolerance_decides(path: Path) -> None:
    example = torch.randn(1, 1, 4), torch.zeros(2, 1, 8)
    result = export(Net(), example, path, exporter="legacy")
    assert 0 < result.max_abs_error <= TOLERANCE
    path.unlink()
    refused(path, Net(), example, "raise tolerance=", exporter="legacy", tolerance=1e-12)


def test_nan_in_the_graph_alone_is_a_difference(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def change(model: onnx.ModelProto) -> None:
        bias = next(w for w in model.graph.initializer if w.name.endswith("bias"))
        bias.CopyFrom(onnx.numpy_helper.from_array(np.float32([np.nan] * 3), bias.name))

    tampered(monkeypatch, change)
    refused(path, nn.Linear(4, 3), torch.randn(1, 4), "differs from the module by nan", exporter="legacy")


def test_weights_too_large_for_one_file_stand_beside_it(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch_export, "SINGLE_FILE_BYTES", 0)
    gru = nn.GRU(4, 60)
    export(gru, torch.randn(5, 1, 4), path)
    assert sorted(p.name for p in path.parent.iterdir()) == ["model.onnx", "model.onnx.data"]
    assert_agrees(path, gru, torch.randn(8, 1, 4))


def test_weights_beside_the_file_are_not_left_behind_either(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch_export, "SINGLE_FILE_BYTES", 0)
    refused(path, Net(), torch.randn(1, 5, 4), "raise tolerance=", exporter="legacy", tolerance=1e-12)


# ---------------------------------------------------------------- the environment


def with_onnxscript(monkeypatch: pytest.MonkeyPatch, version: str | None) -> None:
    def lookup(_name: str) -> str:
        if version is None:
            raise importlib.metadata.PackageNotFoundError("onnxscript")
        return version

    monkeypatch.setattr(importlib.metadata, "version", lookup)


@pytest.mark.parametrize("version", ["0.5.7", "0.6.2", "0.7.0", "0.7.1.dev20260301"])
def test_onnxscript_that_writes_wrong_grus_is_refused(
    path: Path, monkeypatch: pytest.MonkeyPatch, version: str
) -> None:
    with_onnxscript(monkeypatch, version)
    match = rf"onnxscript {version} exports nn.GRU with linear_before_reset=0.*pip install 'onnxscript>=0.7.1'"
    refused(path, nn.GRU(4, 8), torch.randn(5, 1, 4), match)


@pytest.mark.parametrize("version", ["0.7.1", "0.10.0", "1.0"])
def test_later_onnxscript_is_accepted(monkeypatch: pytest.MonkeyPatch, version: str) -> None:
    with_onnxscript(monkeypatch, version)
    torch_env.check_onnxscript()


def test_missing_onnxscript_is_reported(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with_onnxscript(monkeypatch, None)
    refused(path, nn.GRU(4, 8), torch.randn(5, 1, 4), "onnxscript is not installed")


# ---------------------------------------------------------------- bad input

X, H = torch.randn(1, 1, 4), torch.zeros(1, 1, 8)


@pytest.mark.parametrize(
    "example, options, match",
    [
        ((X, H, H), {}, "does not fit GRU.forward"),
        ({"frame": X}, {}, "does not fit GRU.forward"),
        (3, {}, "the example is of type int"),
        ((), {}, "does not fit GRU.forward"),
        ({"input": None}, {}, "holds no tensor"),
        (torch.randn(1, 1, 5), {}, "fails on the example"),
        ((X, H), {"input_names": ["x"]}, "this module has 2 tensor inputs"),
        ((X, H), {"input_names": ["x", "x"]}, "give 2 different names"),
        ((X, H), {"output_names": ["y"]}, "this module has 2 outputs"),
        ((X, H), {"state": [("z", "h")]}, "names the input 'z'; the inputs are input, hx"),
        (
            (X, H),
            {"state": [("hx", "z")], "output_names": ["y", "h"]},
            "names the output 'z'; the outputs are y, h",
        ),
        ((X, H), {"state": [("input", "x")]}, "no output left for it has its shape"),
        ((X, H), {"time_axis": 3}, "it has 3 axes"),
        ((X, H), {"time_axis": 2}, "refuses an example twice as long"),
    ],
)
def test_bad_arguments_are_named(path: Path, example: Any, options: dict[str, Any], match: str) -> None:
    refused(path, nn.GRU(4, 8), example, match, **{"exporter": "legacy", **options})


def test_what_is_no_module_is_refused(path: Path) -> None:
    refused(path, lambda x: x, X, "expected a torch.nn.Module")


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_scripted_module_is_refused(path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        scripted = torch.jit.script(nn.Linear(4, 3))
    refused(path, scripted, X, "scripted or traced")


def test_a_result_that_is_no_tensor_is_refused(path: Path) -> None:
    net = OneInput(lambda self, x: {"y": x, "length": 3})
    refused(path, net, X, r"returns int at \['length'\]")


def test_a_path_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="does not exist"):
        export(nn.GRU(4, 8), X, tmp_path / "none" / "model.onnx")
    with pytest.raises(ExportError, match="is a folder"):
        export(nn.GRU(4, 8), X, tmp_path)
