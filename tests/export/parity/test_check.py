"""A parity check finds what is wrong, says what it could not compare, and never holds for nothing.

Models that are wrong on purpose are real ones behind a stream that errs (`Wrong`), or graphs with one
attribute changed.
"""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import sys

import numpy as np
import onnx
import pytest
import torch
from torch import nn

import streamgru
from real_models import MODELS
from streamgru.cli import main
from streamgru_export import export
from streamgru_export.lost_reset import suspicious_grus, with_linear_before_reset
from streamgru_export.zoo import GRUNet

SEED = 5
TOLERANCE = 2e-6
INPUTS, HIDDEN, OUTPUTS, LAYERS = 3, 12, 2, 2
ORACLE, STEP, RUN = "float64 oracle", "streamgru step", "streamgru run"
# Steps (the oracle takes 30 ms for one of GTCRN's), and the tolerance: sums of hundreds of products that reach into
# the tens cost float32 more than the default. onnxruntime is 2e-6 to 1.1e-5 off float64 on the ones with 1e-5 and 2e-5.
REAL = {
    "gtcrn/gtcrn_simple": (20, 2e-6),
    "nkf-aec/nkf_kgnet_step": (200, 2e-6),
    "nsnet2/nsnet2_state_ts_op17": (200, 1e-5),
    "nsnet2/nsnet2_seq_ts_op17": (200, 1e-5),
    "rnnoise-2018/rnnoise_stream": (500, 1e-5),
    "rnnoise-2018/rnnoise_seq": (500, 1e-5),
    "g2p-en/encoder": (200, 2e-5),
    "g2p-en/decoder_gru": (200, 1e-5),
    "g2p-en/decoder_grucell": (200, 1e-5),
}


def make_net(seed=SEED):
    torch.manual_seed(seed)
    return GRUNet(INPUTS, HIDDEN, OUTPUTS, LAYERS).eval()


@pytest.fixture(scope="module")
def net():
    return make_net()


@pytest.fixture(scope="module")
def folder(net, tmp_path_factory):
    """step.onnx with its state outside, sequence.onnx with its state inside, both of one net; step.sgru."""
    folder = tmp_path_factory.mktemp("parity")
    x = torch.zeros(1, 1, INPUTS)
    export(net, (x, net.initial_state()), folder / "step.onnx", stream="step", exporter="legacy")
    export(net, (x.expand(1, 4, INPUTS),), folder / "sequence.onnx", stream="sequence", exporter="legacy")
    streamgru.load(folder / "step.onnx").save(folder / "step.sgru")
    return folder


class Wrong(streamgru.Model):
    """A model whose streams err: `spoil(step, y)` changes what step number `step` gives; `run` errs only if
    told."""

    def __init__(self, model, spoil, run_too=True):
        vars(self).update(vars(model))
        self._model, self._spoil, self._run_too = model, spoil, run_too

    def stream(self, **options):
        return WrongStream(self._model.stream(**options), self._spoil, self._run_too)


class WrongStream:
    def __init__(self, stream, spoil, run_too):
        self._stream, self._spoil, self._run_too, self._steps = stream, spoil, run_too, 0

    @property
    def state(self):
        return self._stream.state

    def step(self, x):
        self._steps += 1
        return self._spoil(self._steps - 1, self._stream.step(x))

    def run(self, x):
        y = self._stream.run(x)
        first, self._steps = self._steps, self._steps + len(y)
        return np.stack([self._spoil(first + t, v) for t, v in enumerate(y)]) if self._run_too else y


def off_at(step, by):
    """A spoiler that adds `by` to the last element of one step's output."""

    def spoil(t, y):
        y = y.copy()
        if t == step:
            y.flat[-1] += np.float32(by)
        return y

    return spoil


# What is compared


def test_a_step_graph_is_compared_with_everything_that_takes_its_state(folder, net):
    report = streamgru.parity(folder / "step.onnx", net, steps=60)
    assert report.ok, report.conclusion
    assert [c.difference.reference for c in report.checks] == [ORACLE, "torch stepped", "onnxruntime stepped"]
    assert set(report.not_compared) == {"torch whole", "onnxruntime whole"}
    assert report.reference == ORACLE
    assert {d.candidate for d in report.differences} == {STEP, RUN, "torch stepped", "onnxruntime stepped"}
    for difference in report.differences:
        assert 0 < difference.max_abs < TOLERANCE
        assert {o.output: o.steps for o in difference.outputs} == {"y": 60, "h_out": 1}


def test_a_sequence_graph_is_compared_whole_and_the_module_stepped_too(folder, net):
    report = streamgru.parity(folder / "sequence.onnx", net, steps=60)
    assert report.ok, report.conclusion
    compared = [c.difference.reference for c in report.checks]
    assert compared == [ORACLE, "torch whole", "torch stepped", "onnxruntime whole"]
    assert "no state to feed back" in report.not_compared["onnxruntime stepped"]
    # y has no time axis: whole runs say only what it is after their last step, so several lengths are run
    steps = next(d for d in report.differences if d.candidate == STEP).outputs[0].steps
    assert 12 <= steps <= 24


def test_a_module_of_torch_itself_whose_state_the_graph_hides(tmp_path):
    torch.manual_seed(SEED)
    gru = nn.GRU(INPUTS, HIDDEN).eval()
    export(gru, (torch.zeros(4, 1, INPUTS),), tmp_path / "gru.onnx", stream="sequence", exporter="legacy")
    report = streamgru.parity(tmp_path / "gru.onnx", gru, steps=30)
    assert report.ok, report.conclusion
    assert {"torch whole", "torch stepped"} <= {c.difference.reference for c in report.checks}


def test_an_image_is_compared_by_the_graph_it_names(folder, net):
    report = streamgru.parity(folder / "step.sgru", net, steps=20)
    assert report.ok
    assert len(report.checks) == 3


@pytest.mark.parametrize("name", REAL)
@pytest.mark.skipif(not MODELS.is_dir(), reason=f"no models in {MODELS}; set STREAMGRU_MODELS")
def test_real_models(name):
    steps, tolerance = REAL[name]
    report = streamgru.parity(MODELS / f"{name}.onnx", steps=steps, tolerance=tolerance)
    assert report.ok, report.text()
    assert ORACLE in {c.difference.reference for c in report.checks}


# What is found


def test_an_error_is_found_where_it_is(folder, net):
    model = Wrong(streamgru.load(folder / "step.onnx"), off_at(37, 1e-3))
    report = streamgru.parity(model, net, steps=60, onnx=folder / "step.onnx")
    assert not report.ok
    assert [check.ok for check in report.checks] == [False, False, False]
    for check in report.checks:
        worst = check.difference.worst
        assert (worst.output, worst.step, worst.index) == ("y", 37, (0, OUTPUTS - 1))
        assert check.difference.max_abs == pytest.approx(1e-3, rel=1e-2)
    with pytest.raises(streamgru.ParityError, match="step 37"):
        report.raise_for_verdict()


def test_an_error_just_within_the_tolerance_holds_and_just_beyond_does_not(folder, net):
    model = streamgru.load(folder / "step.onnx")
    within, beyond = (
        streamgru.parity(Wrong(model, off_at(3, by)), net, steps=10, tolerance=1e-4) for by in (0.9e-4, 1.2e-4)
    )
    assert within.ok, within.conclusion
    assert not beyond.ok


def test_run_must_give_the_bits_of_step(folder, net):
    model = streamgru.load(folder / "step.onnx")

    def last_bit(t, y):
        return np.nextafter(y, np.float32(9))

    report = streamgru.parity(Wrong(model, last_bit, run_too=False), net, steps=10)
    assert report.reasons == (f"{RUN} does not give the bits of {STEP}",)


def test_another_module_is_found_out(folder):
    report = streamgru.parity(folder / "step.onnx", make_net(seed=SEED + 1), steps=20)
    assert [check.ok for check in report.checks] == [True, False, True]
    assert "torch stepped" in report.reasons[0]


def test_a_module_that_does_not_fit_is_no_parity(folder):
    report = streamgru.parity(folder / "step.onnx", nn.Linear(7, 1), steps=5)
    assert not report.ok
    assert report.verdict == "not proved"
    assert "the module was not compared" in report.reasons[0]
    assert "the module failed" in report.not_compared["torch stepped"]


def test_an_argument_that_is_no_state_is_not_fed_back(folder):
    class Offset(GRUNet):
        def forward(self, x, offset=None):  # returns (y, h), but takes no state
            y, h = super().forward(x)
            return (y if offset is None else y + offset.sum()), h

    torch.manual_seed(SEED)
    module = Offset(INPUTS, HIDDEN, OUTPUTS, LAYERS).eval()
    report = streamgru.parity(folder / "sequence.onnx", module, steps=20)
    assert "do not continue its sequence" in report.not_compared["torch stepped"]
    assert report.ok, report.conclusion


def test_the_module_runs_in_eval_mode_and_is_left_as_it_was(folder):
    class Dropped(GRUNet):
        def forward(self, x, h=None):
            y, h = super().forward(x, h)
            return nn.functional.dropout(y, 0.5, self.training), h

    torch.manual_seed(SEED)
    module = Dropped(INPUTS, HIDDEN, OUTPUTS, LAYERS).train()
    assert streamgru.parity(folder / "step.onnx", module, steps=5).ok
    assert module.training


# linear_before_reset


@pytest.fixture
def lost(folder, tmp_path):
    """The step graph as onnxscript before 0.7.1 wrote it: its GRUs have linear_before_reset=0."""
    model = onnx.load(folder / "step.onnx")
    for node in model.graph.node:
        kept = [a for a in node.attribute if a.name != "linear_before_reset"]
        assert node.op_type != "GRU" or len(kept) < len(node.attribute)
        del node.attribute[:]
        node.attribute.extend(kept)
    onnx.save(model, tmp_path / "lost.onnx")
    return tmp_path / "lost.onnx"


def test_a_lost_linear_before_reset_is_named_and_proved(lost, net):
    report = streamgru.parity(lost, net, steps=50)
    assert not report.ok
    assert {c.difference.reference: c.ok for c in report.checks} == {
        ORACLE: True,
        "torch stepped": False,
        "onnxruntime stepped": True,  # it reproduces the mistake
    }
    reason = report.reasons[0]
    for node in onnx.load(lost).graph.node:
        assert node.op_type != "GRU" or f"'{node.name}'" in reason
    assert "linear_before_reset is 0" in reason
    assert "agrees with the module" in reason
    assert "onnxscript 0.7.1 or later" in reason  # how to mend it
    assert "set linear_before_reset=1" in reason
    assert report.warnings == ()  # it is said once


def test_a_lost_linear_before_reset_is_found_whoever_wrote_the_file(lost, net):
    model = onnx.load(lost)
    model.producer_name = "some tool"
    for node in model.graph.node:
        node.name = ""
    onnx.save(model, lost)
    reason = streamgru.parity(lost, net, steps=50).reasons[0]
    assert "GRU node (unnamed, output '" in reason
    assert "agrees with the module" in reason


def test_what_the_message_says_mends_it(lost, net):
    onnx.save(with_linear_before_reset(onnx.load(lost)), lost)
    assert streamgru.parity(lost, net, steps=50).ok


def test_another_module_does_not_pass_for_a_lost_attribute(lost):
    (warning,) = streamgru.parity(lost, make_net(seed=SEED + 1), steps=50).warnings
    assert "still differs from the module" in warning


def test_without_the_module_a_lost_attribute_is_only_suspected(lost):
    report = streamgru.parity(lost, steps=20)
    assert report.ok
    assert len(report.warnings) == 1


def test_without_the_graph_the_suspicion_of_the_compiler_is_passed_on(lost, tmp_path, monkeypatch):
    with pytest.warns(UserWarning, match="linear_before_reset"):
        model = streamgru.load(lost)
    forget_peers(monkeypatch)
    monkeypatch.setitem(sys.modules, "streamgru_export.oracle.model", None)
    report = streamgru.parity(model, steps=5, onnx=lost)
    assert "linear_before_reset=0" in report.warnings[0]


def test_other_producers_may_reset_before_the_product(lost):
    model = onnx.load(lost)
    assert len(suspicious_grus(model)) == LAYERS
    assert suspicious_grus(with_linear_before_reset(model)) == []
    model.producer_name = "keras"
    assert suspicious_grus(model) == []


# What cannot be compared


def forget_peers(monkeypatch):
    """The files that need the package of a peer are imported anew."""
    for name in (
        "parity.oracle_graph",
        "oracle.model",
        "parity.ort_graph",
        "ort",
        "parity.torch_module",
        "torch_modes",
    ):
        monkeypatch.delitem(sys.modules, f"streamgru_export.{name}", raising=False)


@pytest.mark.parametrize(
    "package,lost",
    [
        ("onnxruntime", {"onnxruntime whole", "onnxruntime stepped"}),
        ("onnx", {ORACLE}),
        ("torch", {"torch whole", "torch stepped"}),
    ],
)
def test_a_missing_package_is_said(package, lost, folder, net, monkeypatch):
    model = streamgru.load(folder / "step.sgru")
    forget_peers(monkeypatch)
    monkeypatch.setitem(sys.modules, package, None)  # import raises ImportError
    report = streamgru.parity(model, net, steps=10, onnx=folder / "step.onnx")
    assert lost <= set(report.not_compared)
    assert any(package in report.not_compared[name] for name in lost)
    assert report.ok == (package != "torch")  # a module was given, so it must be compared
    assert len(report.checks) == 2


def test_nothing_compared_is_no_parity(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    model = streamgru.load(folder / "step.sgru")
    model.metadata = {**model.metadata, "source": "gone.onnx"}
    report = streamgru.parity(model, steps=5)
    assert (report.ok, report.checks, report.reference) == (False, (), None)
    assert (report.verdict, report.exit_code) == ("not proved", 4)
    assert report.line == "NOT PROVED: gone.onnx: nothing was compared"
    assert report.reasons == ("nothing was compared",)
    assert "gone.onnx" in report.not_compared[ORACLE]
    assert "nothing was compared" in report.text()
    json.loads(report.to_json())


def test_a_graph_that_changed_since_is_not_taken(folder, tmp_path):
    model = streamgru.load(folder / "step.onnx")
    other = tmp_path / "changed.onnx"
    other.write_bytes((folder / "sequence.onnx").read_bytes())
    model.metadata = {**model.metadata, "source": str(other)}
    report = streamgru.parity(model, steps=5)
    assert "no longer what was compiled" in report.not_compared[ORACLE]
    assert streamgru.parity(model, steps=5, onnx=folder / "step.onnx").ok


def test_without_an_oracle_the_rounding_is_not_known(folder, net, monkeypatch):
    model = streamgru.load(folder / "step.sgru")
    forget_peers(monkeypatch)
    monkeypatch.setitem(sys.modules, "streamgru_export.oracle.model", None)
    report = streamgru.parity(model, net, steps=10, onnx=folder / "step.onnx")
    assert report.rounding is None
    assert report.reference == "torch stepped"
    assert all(check.allowed == TOLERANCE for check in report.checks)


def test_the_verdict_is_by_the_stated_tolerance_and_rounding_is_told(folder, net):
    report = streamgru.parity(folder / "step.onnx", net, steps=20)
    shown = max(d.scaled for d in report.differences if d.candidate not in (STEP, RUN))
    assert report.rounding == shown
    ours = max(check.difference.scaled for check in report.checks)
    assert streamgru.parity(folder / "step.onnx", net, steps=20, tolerance=ours).ok
    strict = streamgru.parity(folder / "step.onnx", net, steps=20, tolerance=ours / 2)
    assert not strict.ok
    assert "are themselves" in strict.reasons[-1]


# How far


def test_a_peer_that_is_cut_off_makes_a_partial_certificate(folder, net):
    report = streamgru.parity(folder / "step.onnx", net, steps=200, oracle_seconds=0)
    assert (report.verdict, report.ok, report.exit_code) == ("partial", False, 3)
    far = {subject.name: subject for subject in report.subjects}
    ended = far[ORACLE].reached
    assert ended == 1
    assert report.reasons == (f"{ORACLE} ended after {ended} step: its time limit of 0 s",)
    assert all(subject.reached == 200 and not subject.ended for name, subject in far.items() if name != ORACLE)
    assert report.reference == "torch stepped"  # the first that ran to the end: drift is over all steps
    assert report.differences[0].windows[-1].last == 199
    (oracle,) = (d for d in report.differences if d.candidate == ORACLE)
    assert (oracle.steps, oracle.windows[-1].last) == (ended, ended - 1)
    with pytest.raises(streamgru.ParityError, match="is partial: float64 oracle ended after") as caught:
        report.raise_for_verdict()
    assert caught.value.verdict == "partial"


def test_a_partial_certificate_says_so_everywhere(folder):
    report = streamgru.parity(folder / "step.onnx", steps=200, oracle_seconds=0)
    ended = next(subject.reached for subject in report.subjects if subject.name == ORACLE)
    assert report.line.startswith(f"PARTIAL: step.onnx: {ORACLE} ended after {ended} step")
    assert f"{ORACLE} ({ended} steps), onnxruntime stepped (200 steps)" in report.conclusion
    lines = report.text().splitlines()
    assert "PARTIAL" in lines[0]
    assert any(line.split()[:5] == ["float64", "oracle", f"{ended}", "of", "200"] for line in lines)
    answer = json.loads(report.to_json())
    assert (answer["verdict"], answer["ok"]) == ("partial", False)
    oracle = {"name": ORACLE, "reached": ended, "compared": ended, "ended": "its time limit of 0 s"}
    assert oracle in answer["subjects"]
    assert next(check for check in answer["checks"] if check["reference"] == ORACLE)["steps"] == ended


@pytest.mark.parametrize("options,code,said", [
    (["--steps", "5"], 0, "holds: "), (["--steps", "5", "--tolerance", "1e-12"], 1, "FAILS: "),
    (["--steps", "5", "--oracle-seconds", "0"], 3, "PARTIAL: "),
])  # fmt: skip
def test_the_exit_code_is_the_verdict(options, code, said, folder, capsys):
    assert main(["parity", str(folder / "step.onnx"), "--ci", *options]) == code
    assert capsys.readouterr().out.startswith(said)


def test_the_exit_code_of_what_is_not_proved(folder, tmp_path, capsys):
    lonely = tmp_path / "lonely.sgru"
    lonely.write_bytes((folder / "step.sgru").read_bytes())
    assert main(["parity", str(lonely), "--steps", "5"]) == 4
    assert "NOT PROVED" in capsys.readouterr().out


def test_a_whole_run_of_the_oracle_is_cut_off_too(folder):
    report = streamgru.parity(folder / "sequence.onnx", steps=300, oracle_seconds=0)
    (oracle,) = (subject for subject in report.subjects if subject.name == ORACLE)
    assert report.verdict == "partial"
    assert oracle.reached == 1
    assert oracle.ended == "its time limit of 0 s"


def test_all_that_run_to_the_end_hold(folder, net):
    report = streamgru.parity(folder / "step.onnx", net, steps=50)
    assert {(s.reached, s.compared, s.ended) for s in report.subjects} == {(50, 50, "")}
    assert report.exit_code == 0
    assert report.conclusion == f"Parity holds over 50 steps against {ORACLE}, torch stepped, onnxruntime stepped"


def test_an_output_that_is_known_at_some_lengths_alone_is_counted_so(folder):
    report = streamgru.parity(folder / "sequence.onnx", steps=60)
    (oracle,) = (subject for subject in report.subjects if subject.name == ORACLE)
    assert (oracle.reached, str(oracle)) == (60, f"{oracle.compared} of 60")
    assert oracle.compared < 30
    assert f"{ORACLE} ({oracle.compared} of 60 steps)" in report.conclusion


def test_what_differs_outweighs_what_was_cut_off(folder):
    model = Wrong(streamgru.load(folder / "step.onnx"), off_at(1, 1e-3))
    report = streamgru.parity(model, steps=200, oracle_seconds=0, onnx=folder / "step.onnx")
    assert (report.verdict, report.exit_code) == ("does not hold", 1)
    assert "step 1" in report.reasons[0]
    assert "ended after" in report.reasons[-1]


# What is fed in


def test_frames_of_ones_own(folder, net):
    X = np.random.default_rng(SEED).standard_normal((25, 1, 1, INPUTS)).astype(np.float32)
    report = streamgru.parity(folder / "step.onnx", net, inputs=X)
    assert (report.ok, report.steps, report.seed) == (True, 25, None)
    sequence = streamgru.parity(folder / "sequence.onnx", net, inputs={"x": X[:, 0, 0][None]})
    assert (sequence.ok, sequence.steps) == (True, 25)


@pytest.mark.parametrize(
    "inputs",
    [
        np.zeros((5, 1, 1, INPUTS + 1), np.float32),
        np.zeros(INPUTS, np.float32),
        np.zeros((0, 1, 1, INPUTS), np.float32),
        {"z": np.zeros((5, 1, 1, INPUTS), np.float32)},
    ],
    ids=["frame", "axes", "no frames", "name"],
)
def test_frames_that_do_not_fit_are_refused(inputs, folder):
    with pytest.raises(streamgru.ShapeError):
        streamgru.parity(folder / "step.onnx", inputs=inputs)


def test_a_seed_gives_the_same_frames_again(folder):
    hashes = [streamgru.parity(folder / "step.onnx", steps=5, seed=s).hashes["frames"] for s in (1, 1, 2)]
    assert hashes[0] == hashes[1] != hashes[2]


def test_what_was_asked_wrongly_is_refused(folder):
    with pytest.raises(ValueError, match="steps"):
        streamgru.parity(folder / "step.onnx", steps=0)
    with pytest.raises(ValueError, match="'torch whole' was not run: no module was given"):
        streamgru.parity(folder / "step.onnx", steps=5, reference="torch whole")
    with pytest.raises(ValueError, match="float64 oracle"):
        streamgru.parity(folder / "step.onnx", steps=5, reference="numpy")
    with pytest.raises(streamgru.OptionError, match=r"reference='torch hole'.*did you mean 'torch whole'\?"):
        streamgru.parity(folder / "step.onnx", steps=5, reference="torch hole")
    with pytest.raises(streamgru.OptionError, match=r"parity has no option 'bloc'; did you mean 'block'\?"):
        streamgru.parity(folder / "step.onnx", steps=5, bloc=2)


def test_the_reference_can_be_chosen(folder, net):
    report = streamgru.parity(folder / "step.onnx", net, steps=5, reference="onnxruntime stepped")
    assert {d.reference for d in report.differences} == {"onnxruntime stepped"}
    assert len(report.differences) == 4


# What it tells


def test_text_fits_a_screen(folder, net):
    for name in ("step.onnx", "sequence.onnx"):
        lines = streamgru.parity(folder / name, net, steps=30).text().splitlines()
        assert len(lines) <= 40
        assert max(map(len, lines)) <= 100
        assert "HOLDS" in lines[0]


def test_text_of_a_failure_starts_with_the_reason(folder):
    lines = streamgru.parity(folder / "step.onnx", make_net(seed=SEED + 1), steps=10).text().splitlines()
    assert "DOES NOT HOLD" in lines[0]
    assert lines[1].strip().startswith("torch stepped: off by")


def test_json_holds_the_numbers_of_the_report(folder, net):
    report = streamgru.parity(folder / "step.onnx", net, steps=30)
    answer = json.loads(report.to_json())
    assert (answer["ok"], answer["steps"], answer["seed"], answer["tolerance"]) == (True, 30, 0, TOLERANCE)
    assert [d["max_abs"] for d in answer["differences"]] == [d.max_abs for d in report.differences]
    assert len(answer["differences"][0]["windows"]) == 10
    assert set(answer["hashes"]) == {"sgru", "onnx", "frames", "module"}
    assert all(len(digest) == 64 for digest in answer["hashes"].values())
    assert {"isa", "cpu", "onnxruntime", "torch"} <= set(answer["environment"])
    assert [t["name"] for t in answer["latency"]] == [STEP, "onnxruntime run"]


def test_all_pairs_are_in_the_table(folder, net):
    report = streamgru.parity(folder / "step.onnx", net, steps=20)
    names = list(report.traces)
    assert len(names) == 5
    pairs = {frozenset((d.candidate, d.reference)) for d in report.pairs}
    assert pairs == {frozenset((a, b)) for a in names for b in names if a != b}
    assert len(report.pairs) == 10
    (ours,) = (d for d in report.pairs if (d.candidate, d.reference) == (STEP, ORACLE))
    assert ours.max_abs == next(c.difference.max_abs for c in report.checks if c.difference.reference == ORACLE)
    assert [p["between"] for p in report.to_dict()["pairs"]] == [[d.candidate, d.reference] for d in report.pairs]


def test_the_certificate_names_the_very_files(folder, net, tmp_path):
    torch.save(net.state_dict(), tmp_path / "net.pt")
    report = streamgru.parity(
        folder / "step.sgru", net, steps=20, weights=tmp_path / "net.pt", onnx=folder / "step.onnx"
    )
    report.save(tmp_path / "made" / "report")
    saved = json.loads((tmp_path / "made" / "report" / "parity.json").read_text())
    files = {"onnx": folder / "step.onnx", "sgru": folder / "step.sgru", "weights": tmp_path / "net.pt"}
    expected = {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in files.items()}
    assert {name: saved["hashes"][name] for name in files} == expected
    page = (tmp_path / "made" / "report" / "parity.html").read_text()
    assert all(digest in page for digest in expected.values())
    assert "All pairs" in page
    assert re.findall(r"(?:src|href)\s*=\s*[\"'](?!data:|#)", page) == []  # it asks for nothing


def test_the_line_of_a_verdict_is_one_line(folder, net):
    holds = streamgru.parity(folder / "step.onnx", net, steps=20)
    fails = streamgru.parity(folder / "step.onnx", make_net(seed=SEED + 1), steps=20)
    assert holds.line.startswith("holds: step.onnx: 20 steps, at most ")
    assert holds.hashes["onnx"][:12] in holds.line
    assert fails.line.startswith("FAILS: step.onnx: torch")
    assert "\n" not in holds.line + fails.line


def test_json_stays_json_where_a_difference_is_infinite(folder):
    def poison(t, y):
        return np.full_like(y, np.nan)

    model = Wrong(streamgru.load(folder / "step.onnx"), poison)
    report = streamgru.parity(model, steps=5, onnx=folder / "step.onnx")
    assert not report.ok

    def refuse(constant):
        raise AssertionError(f"{constant} is no JSON")

    checks = json.loads(report.to_json(), parse_constant=refuse)["checks"]
    assert checks[0]["scaled"] == "inf"


def test_importing_parity_loads_nothing_but_numpy_and_cffi():
    heavy = {"onnx", "onnxruntime", "torch", "matplotlib"}
    code = f"import streamgru, sys; streamgru.parity; print({heavy} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


@pytest.mark.parametrize("scale", [1e-6, 0.0])
def test_what_zeros_would_pass_for_proves_nothing(folder, tmp_path, scale):
    """An output in amperes: what a stream that forgets gives is within an absolute tolerance of it too."""
    proto = onnx.load(folder / "sequence.onnx")
    name = proto.graph.output[0].name
    for node in proto.graph.node:
        node.output[:] = ["large" if o == name else o for o in node.output]
    proto.graph.node.append(onnx.helper.make_node("Mul", ["large", "scale"], [name]))
    proto.graph.initializer.append(onnx.numpy_helper.from_array(np.float32(scale), "scale"))
    onnx.save(proto, tmp_path / "small.onnx")
    report = streamgru.parity(tmp_path / "small.onnx", steps=20)
    assert report.verdict == "not proved"
    assert f"the output {name!r} is " in report.reasons[0]
    assert streamgru.parity(folder / "sequence.onnx", steps=20).ok  # the advice: the same, scaled up


def test_frames_that_give_no_finite_number_prove_nothing(folder):
    frames = np.full((1, 5, INPUTS), np.nan, np.float32)
    report = streamgru.parity(folder / "sequence.onnx", inputs=frames, nonfinite="pass")
    assert report.verdict != "holds"
    assert any("has no finite number in any frame" in reason for reason in report.reasons)
    assert not any("our stream gives what the graph would give" in reason for reason in report.reasons)


def test_a_tolerance_that_all_would_pass_proves_nothing(folder):
    assert streamgru.parity(folder / "sequence.onnx", steps=5, tolerance=1e9).verdict == "not proved"


def test_a_module_that_fails_is_quoted(folder):
    class Fails(nn.Module):
        def forward(self, x):
            raise RuntimeError("its own words")

    report = streamgru.parity(folder / "sequence.onnx", Fails(), steps=5)
    assert report.verdict == "not proved"
    assert "its own words" in report.reasons[0]


def test_what_a_module_does_is_not_said_of_the_graph(folder):
    class Forgets(nn.Module):
        def forward(self, x):
            return x[..., :OUTPUTS], torch.zeros(LAYERS, 1, HIDDEN)

    report = streamgru.parity(folder / "sequence.onnx", Forgets(), steps=5)
    assert any(reason.startswith("the module keeps no memory along axis") for reason in report.reasons)


@pytest.mark.parametrize(
    "odd",
    [
        lambda x: (x[..., :OUTPUTS], torch.zeros(len(x), len(x))),
        lambda x: (x.sum(), x.sum()),
        lambda x: (x.reshape(-1), x.reshape(-1)),
        lambda x: (x[:1], x[..., None]),
        lambda x: (x.T, x),
        lambda x: (x > 0, x.long()),
        lambda x: (x[:0], x[:0]),
        lambda x: ("y", "h"),
    ],
)
def test_a_module_may_give_anything(folder, odd):
    class Odd(nn.Module):
        def forward(self, x):
            return odd(x)

    report = streamgru.parity(folder / "sequence.onnx", Odd(), steps=5)
    assert report.verdict in ("not proved", "does not hold")
    assert report.reasons
