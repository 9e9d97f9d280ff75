"""Files that end, and files that are the old ones or the new ones, never half of either."""

import errno
import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path
from typing import IO

_umask = os.umask(0o022)
os.umask(_umask)  # the only way to learn it is to set it; once, before there are threads


def regular(path: Path) -> BufferedReader:
    """Open a file to read: no pipe and no device, which may never begin, or never end.

    Raises:
        OSError: it is one of these, is missing, or cannot be read.
    """
    if not stat.S_ISREG(path.stat().st_mode):
        raise OSError(errno.EINVAL, "Not a regular file", str(path))
    return path.open("rb")


def read(path: Path, most: int) -> bytes:
    """Read a file of at most so many bytes.

    Raises:
        OSError: it is larger, no file that ends, missing, or cannot be read.
    """
    with regular(path) as file:
        content = file.read(most + 1)
    if len(content) > most:
        raise OSError(errno.EFBIG, os.strerror(errno.EFBIG), str(path))
    return content


@contextmanager
def replacing(path: Path) -> Iterator[IO[bytes]]:
    """Open a private temporary file beside `path`, and rename it to `path` when all went well."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        # mkstemp makes files that only their owner reads; what we leave follows the umask
        Path(name).chmod(0o666 & ~_umask)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
