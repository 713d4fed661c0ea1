"""Real models on aarch64, under qemu: the bits of this machine on the golden steps, of outputs and state.

tests/qemu.sh does the same for random cells and operators.
"""

import functools
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

import streamgru
from real_models import MODELS, STEPPED, golden, load, plain

ROOT = Path(__file__).parents[1]
TOOLS = {"qemu-aarch64": "qemu-user", "aarch64-linux-gnu-gcc": "gcc-aarch64-linux-gnu libc6-dev-arm64-cross"}
MISSING = [package for tool, package in TOOLS.items() if not shutil.which(tool)]
SEED = 20261121
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not MODELS.is_dir(), reason=f"the real models are not in {MODELS}"),
    pytest.mark.skipif(bool(MISSING), reason=f"apt-get install {' '.join(MISSING)}"),
]
G2P = {"g2p, GRU": "g2p-en/decoder_gru", "g2p, GRUCell": "g2p-en/decoder_grucell", "g2p, encoder": "g2p-en/encoder"}


@pytest.fixture(name="replay", scope="session")
def fixture_replay(tmp_path_factory):
    """The runner for aarch64, built with all of c_src."""
    binary = tmp_path_factory.mktemp("aarch64") / "replay"
    command = ["tests/cc.sh", "tests/kernels/replay.c", str(binary), "aarch64-linux-gnu-gcc", "-O2", "-static"]
    subprocess.run(command, cwd=ROOT, check=True)
    return binary


@functools.cache
def model_and_frames(name):
    if name in STEPPED:
        file, batch, _ = STEPPED[name]
        return load(file, batch), golden(name)[0]
    model = load(G2P[name])
    ids = np.random.default_rng(SEED).integers(0, 29, (12, *model.inputs[0].shape))
    return model, [{model.inputs[0].name: x} for x in ids]


def replayed(model, frames, isa):
    """What this machine makes of the frames, as replay.c writes it."""
    streamgru.set_isa(isa)
    try:
        stream = model.stream()
    finally:
        streamgru.set_isa()
    found = bytearray()
    for frame in frames:
        y = stream.step(plain(frame))
        outputs = y if isinstance(y, dict) else {model.outputs[0].name: y}
        for output in model.outputs:
            found += outputs[output.name].tobytes()
    return bytes(found + stream.save())


@pytest.mark.parametrize("isa", ["neon", "ref"])
@pytest.mark.parametrize("name", [*STEPPED, *G2P])
def test_aarch64_has_the_bits_of_every_instruction_set_of_this_machine(name, isa, replay, tmp_path):
    model, frames = model_and_frames(name)
    if isa == "ref":
        frames = frames[:2]  # slow twice over
    model.save(tmp_path / "model.sgru")
    (tmp_path / "frames").write_bytes(b"".join(f[i.name].tobytes() for f in frames for i in model.inputs))
    command = ["qemu-aarch64", replay, *(tmp_path / part for part in ("model.sgru", "frames", "results")), isa]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.strip()) == (0, isa), done.stderr
    there = (tmp_path / "results").read_bytes()
    for own in streamgru.available_isas():
        assert replayed(model, frames, own) == there, own
    print(f"{name}: {len(frames)} steps, {len(there)} bytes, {isa} on aarch64 as {streamgru.available_isas()} here")
