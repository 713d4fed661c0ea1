"""The one door to the disk. Whatever is written takes its name whole: the old file or the new one, whoever dies or
writes beside. Only regular files are read, of a size that is known first. What a file means is not looked at.

Writing makes a file of an unpredictable name in the same folder, which nobody else can have made or linked; it goes to
the disk, then takes the name. A link of that name is replaced itself; what it leads to is not touched.
"""

from __future__ import annotations

import errno
import os
import secrets
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from ._options import is_name
from .errors import FileError

MOST_BYTES = 2**33  # of a model, a checkpoint, a file of sound
DRAFT = ".streamgru-"  # how the name of a file begins that is not whole yet; only kill -9 leaves one
NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL  # EXCL follows no link
# A pipe does not keep us waiting, a terminal does not become ours.
READ = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOCTTY", 0)
BINARY = getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)
KINDS = {
    stat.S_IFDIR: "a folder", stat.S_IFIFO: "a pipe", stat.S_IFCHR: "a device", stat.S_IFBLK: "a device",
    stat.S_IFSOCK: "a socket",
}  # fmt: skip


def opened(path: Path, most_bytes: int = MOST_BYTES) -> BinaryIO:
    """A regular file, open for reading.

    Raises
    ------
    FileError
        The system does not give it; a pipe, device, socket or folder; longer than `most_bytes`.
    """
    with _told(path, "read"):
        fd = os.open(path, READ | BINARY)
        try:
            found = os.fstat(fd)
            _refuse_kind(path, found.st_mode, "read")
            if found.st_size > most_bytes:
                raise FileError(f"{path}: cannot be read: it has {found.st_size} bytes; at most {most_bytes} are "
                                "accepted", errno.EFBIG, path)  # fmt: skip
            return os.fdopen(fd, "rb")
        except BaseException:
            os.close(fd)
            raise


def read_bytes(path: Path, most_bytes: int = MOST_BYTES) -> bytes:
    """All of a file. Errors as :func:`opened`, and where there is not enough memory."""
    with opened(path, most_bytes) as file, _told(path, "read"):
        try:
            return file.read(os.fstat(file.fileno()).st_size)
        except MemoryError:
            raise FileError(f"{path}: cannot be read: more than there is memory for", errno.ENOMEM, path) from None


@contextmanager
def writing(path: Path) -> Iterator[BinaryIO]:
    """A file that takes the name `path` once the block has ended well; else nothing is left of it.

    A new file has the permissions that the umask leaves; one that replaces a file of the same owner has those of that.

    Raises
    ------
    FileError
        The folder is missing or closed, the disk full, or `path` is a pipe, a device, a socket or a folder.
    """
    with _told(path, "written"):
        _permissions(path)  # before anything is made
        draft = path.with_name(f"{DRAFT}{secrets.token_hex(8)}")
        try:
            with os.fdopen(os.open(draft, NEW | BINARY, 0o666), "wb") as file:
                yield file
                file.flush()
                _finish(file.fileno(), path)
            _take_name(draft, path)
        except BaseException:
            draft.unlink(missing_ok=True)
            raise


def write_bytes(path: Path, data: bytes | memoryview) -> None:
    """A file of these bytes. Errors as :func:`writing`."""
    with writing(path) as file:
        file.write(data)


def write_text(path: Path, text: str) -> None:
    """A file of this text in UTF-8; half a surrogate, as a name of a file may hold, becomes its escape."""
    write_bytes(path, text.encode("utf-8", "backslashreplace"))


def move(draft: Path, path: Path) -> None:
    """A file that is written whole takes its name, for good: it is on the disk before, the name after. Errors as
    :func:`writing`."""
    with _told(path, "written"):
        fd = os.open(draft, os.O_RDWR | BINARY)
        try:
            _finish(fd, path)
        finally:
            os.close(fd)
        _take_name(draft, path)


def _finish(fd: int, path: Path) -> None:
    """An open draft gets the permissions that the file of that name is to have, and goes to the disk. By its number:
    its name may lead elsewhere by now."""
    mode = _permissions(path)
    if mode is not None and mode != stat.S_IMODE(os.fstat(fd).st_mode):
        os.fchmod(fd, mode)
    os.fsync(fd)


def _take_name(draft: Path, path: Path) -> None:
    draft.replace(path)
    _sync_folder(path.parent)


@contextmanager
def folder_of_drafts(path: Path) -> Iterator[Path]:
    """A folder beside `path` for files on their way there; it goes with what is left in it. Errors as
    :func:`writing`."""
    with _told(path, "written"), tempfile.TemporaryDirectory(prefix=DRAFT, dir=path.parent) as folder:
        yield Path(folder)


def make_folder(path: Path) -> None:
    """A folder, and those above it, where they are missing. FileError where there can be none."""
    with _told(path, "made"):
        path.mkdir(parents=True, exist_ok=True)


@contextmanager
def _told(path: Path, what: str) -> Iterator[None]:
    """An error of the system is one of ours that names the file."""
    if not is_name(path):
        raise FileError(f"{path}: cannot be {what}: no file has such a name", errno.EINVAL, path)
    try:
        yield
    except FileError:
        raise
    except OSError as error:
        raise FileError(f"{path}: cannot be {what}: {error.strerror or error}", error.errno, path) from error


def _permissions(path: Path) -> int | None:
    """Of the file that is to be replaced, where it is ours. None where a new one is as any other."""
    try:
        found = path.lstat()
        if not stat.S_ISLNK(found.st_mode):
            _refuse_kind(path, found.st_mode, "written")
            return found.st_mode & 0o777 if hasattr(os, "geteuid") and found.st_uid == os.geteuid() else None
        _refuse_kind(path, path.stat().st_mode, "written")  # a link to a terminal is in place of one
        if os.path.realpath(path.parent) == "/dev":  # /dev/stdout leads to a file, and must stay what it is
            raise FileError(f"{path}: cannot be written: it is a link of the system's; a file was expected",
                            errno.EINVAL, path)  # fmt: skip
    except FileNotFoundError:
        return None
    except OSError as error:
        if error.errno != errno.ELOOP:  # a link to itself is replaced as any other
            raise
    return None


def _refuse_kind(path: Path, mode: int, what: str) -> None:
    if not stat.S_ISREG(mode):
        kind = KINDS.get(stat.S_IFMT(mode), "something else")
        number = errno.EISDIR if stat.S_ISDIR(mode) else errno.EINVAL
        raise FileError(f"{path}: cannot be {what}: it is {kind}; a file was expected", number, path)


def _sync_folder(folder: Path) -> None:
    """So that the name outlives a loss of power. Not every system opens folders, not every disk can do it."""
    if not hasattr(os, "O_DIRECTORY"):
        return
    with suppress(PermissionError):  # a folder that one may write to and not list
        fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | BINARY)
        try:
            os.fsync(fd)
        except OSError as error:
            if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.EROFS):
                raise
        finally:
            os.close(fd)
