"""A model as C files: no warning where it is built, no more code than it needs, and this machine's bits on others."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

import streamgru
from export.graphs import gru_weights, model, node
from real_models import MODELS
from runtime.models import gru_model, gru_onnx
from streamgru.cli import main
from streamgru.codes import Code
from streamgru.layout import HEADER, OPERATOR
from streamgru_export.compiler.compile import compile as compile_onnx
from streamgru_export.embed.amalgamate import amalgamate
from streamgru_export.embed.embed import embed

ROOT = Path(__file__).parents[3]
COMPILERS = ["gcc", "clang-19" if shutil.which("clang-19") else "clang"]
STRICT = "-pedantic -Wall -Wextra -Wconversion -Werror"
SEED = 20261121
M4F = "cortex-m4"
BARE = {"cortex-m3": "mps2-an385", M4F: "mps2-an386", "cortex-m55": "mps3-an547"}
LINUX = {
    "aarch64": ("aarch64-linux-gnu-gcc", "qemu-aarch64", "ref,neon"),
    "armv7": ("arm-linux-gnueabihf-gcc", "qemu-arm", "ref"),
    "riscv64": ("riscv64-linux-gnu-gcc", "qemu-riscv64", "ref"),
}
ALLOWED = {"U", "memcpy", "memmove", "memset", "memcmp", "_GLOBAL_OFFSET_TABLE_"}


def need(*tools):
    missing = [tool for tool in tools if not shutil.which(tool)]
    if missing:
        pytest.skip(f"{', '.join(missing)} not installed")


def gru32():
    return gru_model(32, 32)


def gru32_i8():
    return streamgru.Model(compile_onnx(gru_onnx(32, 32)[0], weights="i8").image)


def rnnoise(weights="f32"):
    if not MODELS.is_dir():
        pytest.skip(f"the real models are not in {MODELS}; $STREAMGRU_MODELS says where they are")
    return streamgru.load(MODELS / "rnnoise-2018" / "rnnoise_stream.onnx", weights=weights)


def rnnoise_i8():
    return rnnoise("i8")


def many_operators():
    """An LSTM among operators of every family, and the functions of double precision."""
    r = np.random.default_rng(SEED)
    nodes = [
        node("LSTM", ["x", "W", "R", "B"], ["h"], hidden_size=8),
        node("Squeeze", ["h", "one"], ["rows"]),
        node("Sin", ["rows"], ["sin"]),
        node("Mod", ["sin", "divisor"], ["mod"], fmod=1),
        node("Erf", ["mod"], ["erf"]),
        node("Softmax", ["erf"], ["soft"], axis=-1),
        node("MatMul", ["soft", "M"], ["product"]),
        node("LayerNormalization", ["product", "scale"], ["normal"], axis=-1),
        node("ReduceMax", ["normal"], ["top"], axes=[2], keepdims=1),
        node("TopK", ["normal", "k"], ["largest", "ids"], axis=-1),
        node("Concat", ["normal", "top", "largest"], ["y"], axis=-1),
    ]
    constants = {
        **gru_weights(r, 8, 8, gates=4),
        "one": np.array([1]),
        "k": np.array([3]),
        "divisor": np.array(0.3, np.float32),
        "M": r.standard_normal((8, 8)).astype(np.float32),
        "scale": np.ones(8, np.float32),
    }
    return streamgru.Model(compile_onnx(model(nodes, {"x": ["time", 1, 8]}, ["y"], constants)).image)


MADE = [gru32, gru32_i8, rnnoise, rnnoise_i8, many_operators]


def bare_image(codes):
    """As much of an image as the choice of sources looks at: these operators, their parameters zeros."""
    words = np.zeros(30, "<u4")
    records = np.zeros(len(codes), OPERATOR)
    records["code"], records["n_params"] = codes, len(words)
    header = np.zeros(1, HEADER)  # no tensors
    header["n_ops"], header["ops"] = len(codes), HEADER.itemsize
    header["n_words"], header["words"] = len(words), HEADER.itemsize + records.nbytes
    return header.tobytes() + records.tobytes() + words.tobytes()


def make(folder, *arguments):
    done = subprocess.run(["make", "-C", folder, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr  # semihosting speaks to standard error


def output(*command):
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def text_bytes(tool, path):
    return int(output(tool, path).split()[6])


# Kernels of every instruction set take long to compile: one model by each compiler always, the rest in the slow tests.
MODELS_AND_KERNELS = [(made, "ref", compiler) for made in MADE for compiler in COMPILERS] + [
    pytest.param(made, "ref,avx2,avx512,neon", compiler, marks=[pytest.mark.slow] * (made is not often))
    for compiler, often in zip(COMPILERS, (many_operators, rnnoise_i8), strict=True)
    for made in MADE
]


@pytest.mark.parametrize("made, kernels, compiler", MODELS_AND_KERNELS)
def test_it_builds_as_c99_without_a_warning_and_gives_the_same_bits(made, kernels, compiler, tmp_path):
    need(compiler)
    embed(made(), tmp_path, kernels=kernels.split(","))
    assert "PASS" in make(tmp_path, "run", f"CC={compiler}", f"CFLAGS=-O1 {STRICT}")
    assert set(output("nm", "-u", tmp_path / "build" / "host" / "streamgru.o").split()) <= ALLOWED


@pytest.mark.parametrize("codes", [[], pytest.param(list(Code), marks=pytest.mark.slow)], ids=["none", "all"])
@pytest.mark.parametrize("compiler", COMPILERS)
def test_no_operator_and_all_operators_compile(codes, compiler, tmp_path):
    need(compiler)
    (tmp_path / "streamgru.c").write_text(amalgamate(bare_image(codes), ["avx2", "avx512", "neon"]))
    flags = ["-std=c99", "-O1", "-ffp-contract=off", *STRICT.split(), f"-I{ROOT / 'c_src'}"]
    subprocess.run([compiler, *flags, "-c", "streamgru.c"], cwd=tmp_path, check=True)


def test_one_other_bit_fails(tmp_path):
    embed(gru32(), tmp_path)
    recording = (tmp_path / "recording.c").read_text()
    at = recording.rindex("0x") + 17
    (tmp_path / "recording.c").write_text(recording[:at] + f"{int(recording[at], 16) ^ 1:X}" + recording[at + 1 :])
    make(tmp_path, "all")
    done = subprocess.run([tmp_path / "build" / "host" / "replay"], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "an output differs from the host's\nFAIL" in done.stdout


def test_it_has_no_operator_kernel_or_function_that_the_model_does_not_need():
    core = amalgamate(gru32().image)
    assert re.findall(r"^const sgru_op_def (\w+)", core, re.MULTILINE) == ["sgru_op_gru"]
    assert "_mm256" not in core
    assert "SGRU_LEFT_OUT(taps_##isa)" in core
    assert "SGRU_LEFT_OUT(sgru_affine_i8_##integers)" in core
    assert "SGRU_LEFT_OUT(sgru_affine_i8_##integers)" not in amalgamate(gru32_i8().image)
    assert "SGRU_LEFT_OUT(affine_##isa)" not in core
    assert "sgru_rare_unary(unsigned f, size_t n, const float *x, float *y)\n{" not in core


def test_a_model_that_needs_what_was_left_out_is_refused(tmp_path):
    embed(gru32(), tmp_path)
    embed(many_operators(), tmp_path / "other")
    for file in ("model.c", "model.h"):
        shutil.copy(tmp_path / "other" / file, tmp_path)
    make(tmp_path, "all")
    done = subprocess.run([tmp_path / "build" / "host" / "replay"], capture_output=True, text=True, check=False)
    assert "an operator this library does not have" in done.stdout


def test_the_image_in_it_is_the_file(tmp_path):
    made = gru32()
    embed(made, tmp_path)
    words = re.findall(r"0x([0-9A-F]{16})", (tmp_path / "model.c").read_text())
    assert b"".join(int(word, 16).to_bytes(8, "little") for word in words) == made.image


def test_the_command_tells_flash_and_ram_beforehand(tmp_path, capsys):
    gru32().save(tmp_path / "model.sgru")
    command = ["embed", str(tmp_path / "model.sgru"), "--out", str(tmp_path / "c"), "--json"]
    assert main(command) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["image_bytes"] == (tmp_path / "model.sgru").stat().st_size
    assert told["stream_bytes"] == gru32().sizes["stream"]
    assert sorted(told["files"]) == sorted(path.name for path in (tmp_path / "c").iterdir())
    assert main([*command[:-1], "--kernels", "ref,sse"]) == 1
    assert "there are no kernels sse: choose among avx2, avx512, neon, ref" in capsys.readouterr().err


def test_cmake_builds_it_too(tmp_path):
    need("cmake")
    embed(gru32(), tmp_path)
    subprocess.run(["cmake", "-B", "build", "."], cwd=tmp_path, check=True, capture_output=True)
    subprocess.run(["cmake", "--build", "build"], cwd=tmp_path, check=True, capture_output=True)
    subprocess.run(["ctest", "--test-dir", "build"], cwd=tmp_path, check=True, capture_output=True)


@pytest.mark.slow
@pytest.mark.parametrize("made", MADE)
@pytest.mark.parametrize("target", BARE)
@pytest.mark.parametrize("level", ["-Os", "-O3"])
def test_a_bare_cortex_m_gives_the_same_bits(made, target, level, tmp_path):
    need("arm-none-eabi-gcc", "qemu-system-arm")
    embed(made(), tmp_path)
    make(tmp_path, "all", f"TARGET={target}", "MORE=" + STRICT)
    assert "PASS" in make(tmp_path, "run", f"TARGET={target}", f"MORE={level} {STRICT}")


@pytest.mark.slow
@pytest.mark.parametrize("made", MADE)
@pytest.mark.parametrize("machine", LINUX)
def test_another_linux_gives_the_same_bits(made, machine, tmp_path):
    compiler, emulator, kernels = LINUX[machine]
    need(compiler, emulator)
    embed(made(), tmp_path, kernels=kernels.split(","))
    more = f"MORE={STRICT}"
    assert "PASS" in make(tmp_path, "run", f"CC={compiler}", f"RUN={emulator}", "LDFLAGS=-static", more)


@pytest.mark.slow
@pytest.mark.parametrize("made", [gru32, gru32_i8, rnnoise, rnnoise_i8])
def test_a_cortex_m4f_needs_little_more_than_was_told(made, tmp_path):
    need("arm-none-eabi-gcc")
    told = embed(made(), tmp_path)
    print(make(tmp_path, "size", f"TARGET={M4F}"))
    build = tmp_path / "build" / M4F
    code = text_bytes("arm-none-eabi-size", build / "streamgru.o")
    assert code < 20 * 1024
    assert abs(told.code_bytes - code) < 0.25 * code
    assert text_bytes("arm-none-eabi-size", build / "model.o") == told.image_bytes
    assert not re.search("__aeabi_d|__.*df|fmaf", output("arm-none-eabi-nm", build / "replay"))  # doubles, libm
