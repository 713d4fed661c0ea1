"""The one door to the disk: a name has the old file or the new one, whole, whoever dies, writes beside or plants what.
What is no regular file is neither read nor written."""

from __future__ import annotations

import errno
import os
import pickle
import resource
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

import streamgru
from runtime.models import gru_model, gru_onnx
from streamgru import _disk
from streamgru._disk import make_folder, opened, read_bytes, write_bytes, write_text, writing
from streamgru.denoise import read_wav, write_wav
from streamgru.errors import FileError, StreamgruError
from streamgru.files import read_frames, write_frames

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="pipes, signals and limits of Linux")

OLD, NEW = b"old" * 100, b"n" * (4 << 20)


@pytest.fixture(scope="module")
def model():
    return gru_model()


@pytest.fixture(name="kinds")
def fixture_kinds(tmp_path):
    """What is no regular file, by what a message calls it."""
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "a folder").mkdir()
    (tmp_path / "to a fifo").symlink_to("fifo")
    (tmp_path / "to a device").symlink_to("/dev/null")
    with socket.socket(socket.AF_UNIX) as listening:
        here = Path.cwd()
        os.chdir(tmp_path)  # the name of a socket is short
        listening.bind("socket")
        os.chdir(here)
        yield {
            "a pipe": [tmp_path / "fifo", tmp_path / "to a fifo"],
            "a folder": [tmp_path / "a folder"],
            "a device": [tmp_path / "to a device", Path("/dev/zero")],
            "a socket": [tmp_path / "socket"],
        }


def sparse(path: Path, size: int = 2**40) -> Path:
    """A file that has a length and no bytes."""
    with path.open("wb") as file:
        file.truncate(size)
    return path


# whole


def test_writers_in_threads_and_processes_leave_one_whole_file(tmp_path):
    """Each writes bytes of its own to one name, over and over, while it is read."""
    path = tmp_path / "model.sgru"
    write_bytes(path, bytes([0]) * (1 << 18))
    end = time.monotonic() + 1.0

    def write(letter):
        size = (1 << 18) + 4096 * letter
        while time.monotonic() < end:
            write_bytes(path, bytes([letter]) * size)

    def threads(first):
        working = [threading.Thread(target=write, args=(first + k,)) for k in range(2)]
        for thread in working:
            thread.start()
        return working

    child = os.fork()
    if child == 0:
        for thread in threads(3):
            thread.join()
        os._exit(0)
    working, seen = threads(1), set()
    while time.monotonic() < end:
        data = path.read_bytes()
        assert data == data[:1] * ((1 << 18) + 4096 * data[0]), "two writers' bytes in one file, or half of them"
        seen.add(data[0])
    for thread in working:
        thread.join()
    assert os.waitpid(child, 0)[1] == 0
    assert len(seen) > 1
    assert list(tmp_path.iterdir()) == [path]


def test_a_killed_writer_leaves_the_old_file_or_the_whole_new_one(tmp_path):
    path, seen = tmp_path / "model.sgru", set()
    rng = np.random.default_rng(1)
    for _ in range(30):
        path.write_bytes(OLD)
        child = os.fork()
        if child == 0:
            write_bytes(path, NEW)
            signal.pause()
        try:
            time.sleep(rng.uniform(0, 0.02))
        finally:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
        seen.add({OLD: "old", NEW: "new"}.get(path.read_bytes(), "neither"))
        assert all(p.name.startswith(_disk.DRAFT) for p in tmp_path.iterdir() if p != path)
    assert seen <= {"old", "new"}


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EIO])
def test_a_disk_that_fails_at_the_last_moment(tmp_path, monkeypatch, number):
    """Room is often given out only when the bytes go to the disk."""
    path = tmp_path / "m.sgru"
    path.write_bytes(OLD)

    def fail(_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(_disk.os, "fsync", fail)
    with pytest.raises(FileError, match=rf"m\.sgru: cannot be written: {os.strerror(number)}") as caught:
        write_bytes(path, NEW)
    assert isinstance(caught.value, OSError)
    assert isinstance(caught.value, StreamgruError)
    assert (caught.value.errno, caught.value.filename) == (number, str(path))
    assert (path.read_bytes(), list(tmp_path.iterdir())) == (OLD, [path])


def test_a_full_disk(tmp_path):
    """A disk of 64 KB where one may be mounted."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "none", str(disk)]
    if os.geteuid() or subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("nothing can be mounted here")
    try:
        path = disk / "m.sgru"
        write_bytes(path, OLD)
        with pytest.raises(FileError, match="No space left") as caught:
            write_bytes(path, NEW)
        assert caught.value.errno == errno.ENOSPC
        assert (path.read_bytes(), list(disk.iterdir())) == (OLD, [path])
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_a_file_that_grows_too_long(tmp_path):
    path = tmp_path / "m.sgru"
    path.write_bytes(OLD)
    child = os.fork()
    if child == 0:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
        try:
            write_bytes(path, NEW)
        except FileError as error:
            os._exit(error.errno)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == errno.EFBIG
    assert (path.read_bytes(), list(tmp_path.iterdir())) == (OLD, [path])


@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError, ValueError])
def test_nothing_is_left_of_what_was_not_finished(tmp_path, error):
    path = tmp_path / "m"
    path.write_bytes(OLD)

    def write():
        with writing(path) as file:
            file.write(NEW)
            raise error

    with pytest.raises(error):
        write()
    assert (path.read_bytes(), list(tmp_path.iterdir())) == (OLD, [path])


# links, permissions, kinds


@pytest.mark.parametrize("leads_to", ["a file", "nowhere", "itself"])
def test_a_link_is_replaced_and_not_followed(tmp_path, leads_to):
    link, other = tmp_path / "link", tmp_path / "other"
    if leads_to == "a file":
        other.write_bytes(OLD)
    link.symlink_to("link" if leads_to == "itself" else "other")
    write_bytes(link, b"new")
    assert not link.is_symlink()
    assert link.read_bytes() == b"new"
    assert (other.read_bytes() if other.exists() else OLD) == OLD


def test_the_other_name_of_a_file_keeps_it(tmp_path):
    (tmp_path / "a").write_bytes(OLD)
    (tmp_path / "b").hardlink_to(tmp_path / "a")
    write_bytes(tmp_path / "a", b"new")
    assert (tmp_path / "b").read_bytes() == OLD


@pytest.mark.parametrize("mask", [0o022, 0o002, 0o077])
def test_a_new_file_has_the_permissions_that_the_umask_leaves(tmp_path, mask):
    before = os.umask(mask)
    try:
        write_bytes(tmp_path / "m", b"")
        (tmp_path / "link").symlink_to("other")
        write_bytes(tmp_path / "link", b"")
    finally:
        os.umask(before)
    for name in ("m", "link"):
        assert stat.S_IMODE((tmp_path / name).lstat().st_mode) == 0o666 & ~mask


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody whom a umask stops")
@pytest.mark.parametrize("mask", [0o222, 0o777])
def test_a_umask_that_forbids_writing(tmp_path, mask):
    """What is open stays so."""
    tmp_path.chmod(0o777)
    code = "import os; from pathlib import Path; from streamgru._disk import write_bytes; os.setgid(65534); " \
           f"os.setuid(65534); os.umask({mask}); write_bytes(Path('m'), b'new')"  # fmt: skip
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True)
    assert (tmp_path / "m").read_bytes() == b"new"
    assert stat.S_IMODE((tmp_path / "m").stat().st_mode) == 0o666 & ~mask


def test_a_draft_that_becomes_a_link_is_not_followed(tmp_path):
    """Permissions go to what was written, not to what the draft's name leads to by then."""
    path, other = tmp_path / "m", tmp_path / "other"
    for file, mode in ((path, 0o644), (other, 0o600)):
        file.write_bytes(OLD)
        file.chmod(mode)
    before = os.umask(0o077)
    try:
        with writing(path) as file:
            file.write(NEW)
            (draft,) = (p for p in tmp_path.iterdir() if p.name.startswith(_disk.DRAFT))
            draft.unlink()
            draft.symlink_to(other)
    finally:
        os.umask(before)
    assert (stat.S_IMODE(other.stat().st_mode), other.read_bytes()) == (0o600, OLD)


def test_a_link_of_the_system_is_left_alone(tmp_path):
    """/dev/stdout is a link to the file that the shell has opened."""
    with (tmp_path / "out").open("wb") as out:
        code = "import pathlib, streamgru._disk as disk; disk.write_bytes(pathlib.Path('/dev/stdout'), b'')"
        done = subprocess.run([sys.executable, "-c", code], stdout=out, stderr=subprocess.PIPE, text=True, check=False)
    assert "/dev/stdout: cannot be written: it is a link of the system's; a file was expected" in done.stderr
    assert Path("/dev/stdout").is_symlink()


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o444, 0o755])
def test_a_file_keeps_its_permissions(tmp_path, mode):
    (tmp_path / "m").write_bytes(OLD)
    (tmp_path / "m").chmod(mode | stat.S_ISUID)
    write_bytes(tmp_path / "m", b"new")
    assert stat.S_IMODE((tmp_path / "m").stat().st_mode) == mode


def test_what_is_no_file_is_neither_written_nor_read(kinds, tmp_path):
    before = sorted(tmp_path.iterdir())
    for kind, paths in kinds.items():
        for path in paths:
            with pytest.raises(FileError, match=f"cannot be written: it is {kind}; a file was expected"):
                write_bytes(path, NEW)
            if kind != "a socket":
                with pytest.raises(FileError, match=f"cannot be read: it is {kind}; a file was expected"):
                    opened(path)
    with pytest.raises(FileError, match="cannot be read"):  # no system opens a socket
        opened(tmp_path / "socket")
    assert sorted(tmp_path.iterdir()) == before
    assert stat.S_ISCHR(Path("/dev/null").stat().st_mode)


# names and sizes


NAMES = {"absent": "none/m", "long": "x" * 300, "long path": "x/" * 3000, "inside of a file": "file/m", "NUL": "a\0b",
         "half a character": "\ud800"}  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_names_that_no_file_can_have(tmp_path, name):
    (tmp_path / "file").write_bytes(b"")
    for call in (read_bytes, lambda path: write_bytes(path, b"x")):
        with pytest.raises(FileError) as caught:
            call(tmp_path / NAMES[name])
        assert str(caught.value).isprintable()
        assert caught.value.errno
        copy = pickle.loads(pickle.dumps(caught.value))
        assert (str(copy), copy.errno, copy.filename) == (
            str(caught.value), caught.value.errno, caught.value.filename)  # fmt: skip
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_names_that_are_no_text(tmp_path):
    path = tmp_path / "f\udcff" / "m\udcfe"
    make_folder(path.parent)
    write_text(path, "name: \udcfe")
    assert [os.fsencode(p.name) for p in path.parent.iterdir()] == [b"m\xfe"]
    assert read_bytes(path) == b"name: \\udcfe"


def test_a_name_as_long_as_can_be(tmp_path):
    """What it is written under first is not longer."""
    write_bytes(tmp_path / ("x" * 255), OLD)
    assert read_bytes(tmp_path / ("x" * 255)) == OLD


def test_a_folder_that_cannot_be(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    for name in ("file", "file/inside", "x" * 300):
        with pytest.raises(FileError, match="cannot be made"):
            make_folder(tmp_path / name)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_cannot_be_written_is_left_alone(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(FileError, match="Permission"):
        write_bytes(tmp_path / "m", NEW)
    tmp_path.chmod(0o700)


def test_a_file_is_read_up_to_the_limit_alone(tmp_path):
    (tmp_path / "m").write_bytes(OLD)
    assert read_bytes(tmp_path / "m", len(OLD)) == OLD
    with pytest.raises(FileError, match="it has 300 bytes; at most 299 are accepted"):
        read_bytes(tmp_path / "m", len(OLD) - 1)


# all who read and write


READERS = {
    "load .sgru": (".sgru", streamgru.load),
    "load mapped": (".sgru", lambda path: streamgru.load(path, mapped=True)),
    "load .onnx": (".onnx", streamgru.load),
    "load whole": (".onnx", lambda path: streamgru.load(path, mode="whole")),
    "compile": (".onnx", streamgru.compile),
    "session": (".onnx", streamgru.InferenceSession),
    "parity": (".onnx", streamgru.parity),
    "frames .npy": (".npy", lambda path: read_frames(path, gru_model().inputs)),
    "frames .npz": (".npz", lambda path: read_frames(path, gru_model().inputs)),
    "frames .csv": (".csv", lambda path: read_frames(path, gru_model().inputs)),
    "sound": (".wav", read_wav),
}


@pytest.mark.parametrize("reader", READERS)
def test_no_reader_waits_for_a_pipe_or_reads_a_giant(tmp_path, reader):
    ending, read = READERS[reader]
    os.mkfifo(tmp_path / f"pipe{ending}")
    sparse(tmp_path / f"giant{ending}")
    (tmp_path / f"device{ending}").symlink_to("/dev/zero")
    (tmp_path / f"loop{ending}").symlink_to(f"loop{ending}")
    begin = time.process_time()
    for name in ("pipe", "giant", "device", "loop", "absent"):
        with pytest.raises(StreamgruError, match=f"{name}{ending}"):
            read(tmp_path / f"{name}{ending}")
    assert time.process_time() - begin < 1


def sound(path):
    write_wav(path, 8000, np.zeros(3))


WRITERS = {
    "image": lambda path, model: model.save(path),
    "compiled image": lambda path, _: streamgru.compile(gru_onnx()[0], path),
    ".npz": lambda path, model: write_frames(path.with_suffix(".npz"), {"y": np.zeros(3)}, model.outputs),
    ".npy": lambda path, model: write_frames(path.with_suffix(".npy"), {"y": np.zeros(3)}, model.outputs),
    ".csv": lambda path, model: write_frames(path.with_suffix(".csv"), {"y": np.zeros(3)}, model.outputs),
    "sound": lambda path, _: sound(path),
}


@pytest.mark.parametrize("writer", WRITERS)
def test_every_writer_leaves_the_old_file_where_the_disk_is_full(tmp_path, model, monkeypatch, writer):
    path = tmp_path / "m"
    WRITERS[writer](path, model)
    (made,) = tmp_path.iterdir()
    made.write_bytes(OLD)

    def full(_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(_disk.os, "fsync", full)
    with pytest.raises(FileError, match="No space left"):
        WRITERS[writer](path, model)
    assert (made.read_bytes(), list(tmp_path.iterdir())) == (OLD, [made])


@pytest.mark.parametrize("writer", WRITERS)
def test_every_writer_refuses_a_pipe(tmp_path, model, writer):
    for ending in ("", ".npz", ".npy", ".csv"):
        os.mkfifo(tmp_path / f"m{ending}")
    with pytest.raises(FileError, match="it is a pipe; a file was expected"):
        WRITERS[writer](tmp_path / "m", model)


def test_a_model_whose_names_are_no_text(tmp_path):
    """Its source is text all the same."""
    onnx, image = tmp_path / "m\udcff.onnx", tmp_path / "m\udcff.sgru"
    onnx.write_bytes(gru_onnx()[0].SerializeToString())
    streamgru.compile(onnx, image)
    loaded = streamgru.load(image)
    assert loaded.metadata["source"] == "m\\udcff.onnx"
    loaded.save(tmp_path / "o\udcfe.sgru")
    assert (tmp_path / "o\udcfe.sgru").read_bytes() == loaded.image == streamgru.load(onnx).image


def test_an_archive_that_unpacks_to_more_than_the_limit(tmp_path, model, monkeypatch):
    name = model.inputs[0].name
    np.savez_compressed(tmp_path / "x.npz", **{name: np.zeros((4096, *model.inputs[0].shape), np.float32)})
    assert (tmp_path / "x.npz").stat().st_size < 4096
    monkeypatch.setattr("streamgru.files.MOST_ARRAYS", 4096)
    with pytest.raises(streamgru.DataError, match="its arrays have more than 4096 bytes"):
        read_frames(tmp_path / "x.npz", model.inputs)
