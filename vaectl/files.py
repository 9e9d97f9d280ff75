"""Files that are either the old ones or the new ones, never half of either."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

_umask = os.umask(0o022)
os.umask(_umask)  # the only way to learn it is to set it; once, before there are threads


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
