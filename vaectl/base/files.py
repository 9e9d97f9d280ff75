"""Files that are complete, durable, and inside the directory that they belong to.

Durable: what a call has written is still there after a power cut. A file is synced before it is
renamed into place, its directory after that, and nothing older is removed before.

Inside: a `Folder` opens its contents relative to itself and follows no link, because a run from
somebody else may contain links to anywhere.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import secrets
import shutil
import stat
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from io import BufferedReader
from pathlib import Path, PurePosixPath
from typing import IO, Literal, final

from vaectl.base import memory
from vaectl.base.errors import TooLargeError

HALF = re.compile(r"\.(.+)\.\w{8}")
"""The name of a new version of a file until it is complete; a killed process leaves it."""
LINK = "it is a link, and vaectl follows no links there"

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_INSIDE = os.O_NOFOLLOW | os.O_CLOEXEC
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL
_umask = os.umask(0o022)
os.umask(_umask)  # the umask can only be read by setting it; do so once, before threads start
_FULL_SYNC = getattr(fcntl, "F_FULLFSYNC", None)  # macOS: fsync does not flush the disk's cache

_MOST = 245
"""Bytes of a name that go into the name of its incomplete file, which may have 255."""

Kind = Literal["file", "folder", "link", "other"]
_KINDS: dict[int, Kind] = {stat.S_IFREG: "file", stat.S_IFDIR: "folder", stat.S_IFLNK: "link"}


def regular(path: Path) -> BufferedReader:
    """Open a file that the user named; refuse pipes and devices, which may never end.

    Raises:
        OSError: the file is not regular, is missing, or cannot be read.
    """
    _check_regular(path.stat())
    return path.open("rb")


def read(path: Path, most: int) -> bytes:
    """Read a file that the user named, if it has at most `most` bytes.

    Raises:
        OSError: the file is larger, not regular, missing, or cannot be read.
    """
    with regular(path) as file:
        return _read(file, most)


def replacing(path: Path) -> contextlib.AbstractContextManager[IO[bytes]]:
    """Open a new version of a file that the user named: see `Folder.replacing`.

    A link at that path is replaced; its target, perhaps a device, is not touched.
    """
    return Folder(path.parent).replacing(path.name, over_link=True)


def make_directory(path: Path) -> None:
    """Make a directory that the user named, durably, with its missing parents.

    Raises:
        OSError: it cannot be made.
    """
    if not path.is_dir():
        make_directory(path.parent)
        with contextlib.suppress(FileExistsError):  # made by another process, or a file
            path.mkdir()
        Folder(path).names()  # raises if it is not a directory
    with contextlib.suppress(PermissionError):  # it existed, and its parent may not be readable
        Folder(path.parent).sync_names()


def size_of(directory: Path) -> int:
    """Return the bytes of all files below a directory, as far as they can be seen."""
    total = 0
    for place, _, names in os.walk(directory):
        for name in names:
            with contextlib.suppress(OSError):
                total += Path(place, name).lstat().st_size
    return total


@final
class Folder:
    """A directory whose contents are reached without following links.

    Names may have several parts, separated by slashes. The root itself may be a link, because the
    user named it. Below the root every link is refused with an `OSError` of `errno.ELOOP`. Each
    error names the whole path.
    """

    def __init__(self, root: Path, *parts: str) -> None:
        self._root, self._parts = root, parts

    @property
    def path(self) -> Path:
        """The path of the directory."""
        return self._root.joinpath(*self._parts)

    def folder(self, name: str) -> Folder:
        """Return a subdirectory."""
        return Folder(self._root, *self._parts, *PurePosixPath(name).parts)

    def kind(self, name: str) -> Kind | None:
        """Return the kind of an entry; None if there is no such entry.

        Raises:
            OSError: the kind cannot be determined.
        """
        try:
            with self._opened(name) as (here, last):
                return _kind(here, last)
        except FileNotFoundError:
            return None

    def names(self) -> list[str]:
        """Return the names of all entries, sorted.

        Raises:
            OSError: the directory is missing, a link, or cannot be read.
        """
        with self._opened() as (here, _):
            return sorted(os.listdir(here))  # noqa: PTH208  # an open directory has no Path

    def walk(self) -> Iterator[tuple[str, Kind]]:
        """Yield the relative path and the kind of everything below that is not a directory.

        Raises:
            OSError: a directory cannot be read.
        """
        for name in self.names():
            kind = self.kind(name)
            if kind == "folder":
                for path, below in self.folder(name).walk():
                    yield f"{name}/{path}", below
            elif kind:
                yield name, kind

    def open(self, name: str) -> BufferedReader:
        """Open a regular file for reading.

        Raises:
            OSError: the file is missing, a link, not regular, or cannot be read.
        """
        with self._opened(name) as (here, last):
            _check_regular(os.stat(last, dir_fd=here, follow_symlinks=False))
            return os.fdopen(os.open(last, os.O_RDONLY | _INSIDE, dir_fd=here), "rb")

    def read(self, name: str, most: int) -> bytes:
        """Read a file if it has at most `most` bytes.

        Raises:
            OSError: the file is larger, or cannot be opened.
        """
        with self._opened(name), self.open(name) as file:
            return _read(file, most)

    def make(self) -> None:
        """Make the directory, durably, with its missing parents below the root.

        The root is not made: it was there, so that it has been moved or removed since.

        Raises:
            OSError: the root is missing, a link or a file is in the way, or the directory cannot be
                made.
        """
        if not self._parts:
            self.names()  # raises if it is missing
            return
        above, name = Folder(self._root, *self._parts[:-1]), self._parts[-1]
        if above.kind(name) is None:
            above.make()
            with above._opened(name) as (here, last):
                os.mkdir(last, dir_fd=here)
        self.names()  # raises if it is not a directory
        above.sync_names()

    @contextmanager
    def replacing(self, name: str, *, over_link: bool = False) -> Iterator[IO[bytes]]:
        """Open a new version of a file, which replaces the old one when the context ends.

        Until then the content is in a hidden file beside it, which is removed after an error.

        Raises:
            OSError: the file cannot be written, or a link is in its place.
        """
        with self._opened(name) as (here, last):
            if not over_link and _kind(here, last) == "link":
                raise OSError(errno.ELOOP, LINK)
            start = os.fsencode(last)[:_MOST].decode(errors="ignore")
            half = f".{start}.{secrets.token_hex(4)}"
            try:
                # private until it is complete; then with the permissions of the umask
                handle = os.open(half, _NEW | _INSIDE, 0o600, dir_fd=here)
                with os.fdopen(handle, "wb") as file:
                    yield file
                    file.flush()
                    os.fchmod(file.fileno(), 0o666 & ~_umask)
                    _sync(file.fileno())
                os.replace(half, last, src_dir_fd=here, dst_dir_fd=here)
            except BaseException:
                with contextlib.suppress(OSError):
                    os.unlink(half, dir_fd=here)
                raise
            _sync_directory(here)

    def append(self, name: str, content: bytes) -> None:
        """Append to an existing file; the addition is durable after `sync`.

        Raises:
            OSError: the file is missing, a link, not regular, or cannot be written.
        """
        with self._opened(name) as (here, last):
            _check_regular(os.stat(last, dir_fd=here, follow_symlinks=False))
            handle = os.open(last, os.O_WRONLY | os.O_APPEND | _INSIDE, dir_fd=here)
            with os.fdopen(handle, "ab") as file:
                file.write(content)

    def sync(self, name: str = "") -> None:
        """Make a file durable, or a directory with all its contents.

        Raises:
            OSError: the disk refuses, or an entry is neither a file nor a directory.
        """
        if name and self.kind(name) != "folder":
            with self._opened(name), self.open(name) as file:
                _sync(file.fileno())
            return
        folder = self.folder(name)
        for child in folder.names():
            folder.sync(child)
        folder.sync_names()

    def sync_names(self) -> None:
        """Make the list of entries durable, but not their contents.

        Raises:
            OSError: the disk refuses.
        """
        with self._opened() as (here, _):
            _sync_directory(here)

    def remove(self, name: str) -> None:
        """Remove a file, a link, or a directory with all its contents.

        Raises:
            OSError: it cannot be removed.
        """
        with self._opened(name) as (here, last):
            if _kind(here, last) == "folder":
                shutil.rmtree(last, dir_fd=here)
            else:
                os.unlink(last, dir_fd=here)

    def rename(self, name: str, new: str) -> None:
        """Rename an entry within this directory, durably.

        Raises:
            OSError: it cannot be renamed.
        """
        with self._opened(name) as (here, last), self._opened(new) as (there, fresh):
            os.rename(last, fresh, src_dir_fd=here, dst_dir_fd=there)
            _sync_directory(there)
            _sync_directory(here)

    @contextmanager
    def _opened(self, name: str = "") -> Iterator[tuple[int, str]]:
        """Open the parent directory of a name, part by part; errors name their path."""
        *parents, last = *self._parts, *(PurePosixPath(name).parts or ("",))
        path = self._root
        with ExitStack() as opened:
            try:
                here = os.open(self._root, _DIRECTORY)
                opened.callback(os.close, here)
                for part in parents:
                    path /= part
                    here = os.open(part, _DIRECTORY | _INSIDE, dir_fd=here)
                    opened.callback(os.close, here)
                path /= last
                yield here, last
            except OSError as error:
                if path != self._root and path.is_symlink():
                    raise OSError(errno.ELOOP, LINK, str(path)) from None
                raise OSError(error.errno, error.strerror or str(error), str(path)) from error


def _kind(here: int, name: str) -> Kind | None:
    try:
        mode = os.stat(name, dir_fd=here, follow_symlinks=False).st_mode
    except FileNotFoundError:
        return None
    return _KINDS.get(stat.S_IFMT(mode), "other")


def _read(file: BufferedReader, most: int) -> bytes:
    content = file.read(most + 1)
    if len(content) > most:
        raise TooLargeError(errno.EFBIG, f"larger than {memory.text(most)}", file.name)
    return content


def _check_regular(status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise OSError(errno.EINVAL, "Not a regular file")


def _sync(handle: int) -> None:
    if _FULL_SYNC is not None:
        with contextlib.suppress(OSError):  # not every file system supports it
            fcntl.fcntl(handle, _FULL_SYNC)
            return
    os.fsync(handle)


def _sync_directory(handle: int) -> None:
    """Sync a directory; some network file systems refuse this and do not need it."""
    try:
        _sync(handle)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
