"""Files as they are in the world: disks fill, files vanish, are cut, and many open the same one."""

import concurrent.futures
import resource
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import streamgru
from streamgru._disk import write_bytes
from streamgru.errors import ModelError, StreamgruError
from streamgru_export.compiler.compile import compile

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="signals and limits of Linux")


@pytest.fixture(name="onnx")
def fixture_onnx(tmp_path):
    from export.graphs import cell

    proto, _ = cell("GRU", np.random.default_rng(1), b=1)
    path = tmp_path / "gru.onnx"
    path.write_bytes(proto.SerializeToString())
    return path


def full_disk():
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)


def test_a_full_disk_is_an_error_of_the_command_line(onnx, tmp_path):
    command = [sys.executable, "-m", "streamgru", "compile", str(onnx), "-o", str(tmp_path / "out.sgru")]

    def tiny():
        full_disk()
        resource.setrlimit(resource.RLIMIT_FSIZE, (512, 512))

    done = subprocess.run(command, preexec_fn=tiny, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "Traceback" not in done.stderr, done.stderr
    assert list(tmp_path.iterdir()) == [onnx]


def test_a_file_that_is_read_only_can_be_loaded(onnx, tmp_path):
    path = tmp_path / "model.sgru"
    compile(onnx, path)
    path.chmod(0o400)
    assert streamgru.load(path).states


def test_a_missing_file_and_a_folder_are_errors_of_ours(tmp_path):
    for path in (tmp_path / "none.sgru", tmp_path / "none.onnx", tmp_path):
        with pytest.raises(StreamgruError):
            streamgru.load(path)


def test_a_stream_outlives_its_file(onnx, tmp_path):
    path = tmp_path / "model.sgru"
    compile(onnx, path)
    model = streamgru.load(path)
    x = np.ones(model.inputs[0].shape, np.float32)
    want = model.stream().step(x)
    path.unlink()
    np.testing.assert_equal(model.stream().step(x), want)


def test_an_empty_a_short_and_a_cut_file_are_errors_of_ours(onnx, tmp_path):
    path = tmp_path / "model.sgru"
    image = compile(onnx).image
    for size in (0, 1, 64, 127, 128, len(image) // 2, len(image) - 64, len(image) - 1):
        path.write_bytes(image[:size])
        with pytest.raises(ModelError):
            streamgru.load(path)


def test_many_load_the_same_file_at_once_while_it_is_replaced(onnx, tmp_path):
    path = tmp_path / "model.sgru"
    image = compile(onnx, path).image

    def load(_: int) -> bool:
        return streamgru.load(path).image == image

    def replace(_: int) -> bool:
        write_bytes(path, image)
        return True

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        jobs = [pool.submit(replace if i % 4 == 0 else load, i) for i in range(80)]
        assert all(job.result() for job in jobs)
    assert sorted(Path(tmp_path).iterdir()) == sorted([onnx, path])
