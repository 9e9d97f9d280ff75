"""Transfer of whole runs, as archives, between machines that share no directory."""

from __future__ import annotations

import io
import tarfile
from contextlib import suppress

from vaectl.base.errors import RunError
from vaectl.base.files import Folder
from vaectl.members import places

ARRIVING = ".arriving"
"""The folder, in a study's directory, of runs that are not complete yet."""
_LOCK = ".lock"


def pack(folder: Folder, name: str) -> bytes:
    """Return a run as an archive; empty if there is none.

    Raises:
        RunError: it cannot be read.
    """
    try:
        if folder.kind(name) != "folder":
            return b""
        content = io.BytesIO()
        run = folder.folder(name)
        with tarfile.open(fileobj=content, mode="w") as archive:
            for path, kind in run.walk():
                if kind == "file" and path != _LOCK:
                    with run.open(path) as file:
                        archive.addfile(archive.gettarinfo(arcname=path, fileobj=file), file)
        return content.getvalue()
    except OSError as error:
        raise RunError.of(error, hint="check the disk") from None


def unpack(content: bytes, folder: Folder, name: str) -> str:
    """Unpack a run into its place in one step; an unfinished run there is replaced.

    Returns:
        The new name of anything else that was there; empty if there was nothing.

    Raises:
        RunError: it cannot be written.
    """
    arriving = folder.folder(ARRIVING)
    try:
        discard(folder)
        arriving.folder(name).make()
        with tarfile.open(fileobj=io.BytesIO(content)) as archive:
            archive.extractall(arriving.folder(name).path, filter="data")
        arriving.sync(name)
        aside = places.clear(folder, name)
        folder.rename(f"{ARRIVING}/{name}", name)
        discard(folder)
        return aside
    except OSError as error:
        raise places.unwritable(error) from None


def discard(folder: Folder) -> None:
    """Remove incomplete arriving runs that a killed command left."""
    with suppress(FileNotFoundError):
        folder.remove(ARRIVING)
