"""The suite of benchmarks/ runs and writes what its tables and plots read. Its times are nobody's business here."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

SUITE = Path(__file__).parents[1] / "benchmarks" / "suite.py"
MODES = {"one step", "block of 16", "pool of 64", "pool of 1000"}
TIMES = ["median_us", "low_us", "high_us", "p99_us", "p999_us", "max_us"]
FORMATS = {"f32", "f16", "i8"}


def run(*arguments):
    done = subprocess.run([sys.executable, SUITE, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def folder(once):
    """What one GRU gives in no time."""
    return once("bench", lambda folder: run("--seconds", "0.001", "--only", "GRU 32", "--out", folder))


@pytest.fixture(scope="module")
def report(folder):
    return json.loads((folder / "suite.json").read_text())


def test_every_way_of_running_is_measured_in_every_format(report):
    groups = {group["mode"]: {row["name"] for row in group["rows"]} for group in report["groups"]}
    assert set(groups) - {"two threads"} == MODES
    assert {f"{what} {weights}" for what in ("reading", "C", "step") for weights in FORMATS} <= groups["one step"]
    assert {f"C block {weights}" for weights in FORMATS} <= groups["block of 16"]
    assert {f"C pool {weights}" for weights in FORMATS} <= groups["pool of 64"] & groups["pool of 1000"]
    assert {"GRU 32 x 32"} == {group["net"] for group in report["groups"]}


def test_a_row_holds_its_times_and_its_rounds(report):
    for group in report["groups"]:
        rounds = {len(row["rounds_us"]) for row in group["rows"]}
        assert len(rounds) == 1  # paired
        for row in group["rows"]:
            assert all(row[name] > 0 for name in TIMES)
            assert row["low_us"] <= row["median_us"] <= row["high_us"]
            assert row["p99_us"] <= row["p999_us"] <= row["max_us"]
            assert len(row["quantiles_us"]) == len(report["quantiles"])


def test_peers_compute_the_same_or_are_skipped_with_a_reason(report):
    # 1e-5: float32 sums of 64 terms in another order differ by less than 1e-6
    errors = report["errors"]["GRU 32 x 32"]
    assert "onnxruntime" in errors
    assert max(errors.values()) < 1e-5
    assert {"RTNeural", "nnet"} <= set(report["skipped"])


def test_serving_is_measured(report):
    assert report["serving"]["asyncio"]["latency_p50_us"] > 0
    assert report["serving"]["threads"]["frames_per_second_1"] > 0


def test_a_run_can_be_shown_again(folder, tmp_path):
    shown = run("--again", folder / "suite.json", "--out", tmp_path)
    assert "One step, in C" in shown
    assert "Goals:" in shown
    assert {path.name for path in tmp_path.iterdir()} == {"time_over_hidden_size.png"}
