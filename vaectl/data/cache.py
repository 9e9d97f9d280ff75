"""Prepared data sets on disk, found by a key that depends on everything they were made from.

Data sets that fit into memory are verified when they are read. Larger ones are not, since that
would read all of them; each run records the SHA-256 of the data that it trained on.
"""

import contextlib
import fcntl
import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import numpy as np

from vaectl.base.cache import directory
from vaectl.base.errors import DataError
from vaectl.base.files import HALF, Folder, make_directory, replacing
from vaectl.base.terminal import Tell
from vaectl.data import archive, npy
from vaectl.data.arrays import Images, Published
from vaectl.data.stored import Array, Stored

FORMAT_VERSION = 1
ROOM = "make room there, or set VAECTL_CACHE_DIR to another directory"
"""A hint for files of the cache directory that cannot be written."""
_SECONDS_BETWEEN = 10.0
_YOUNG = 10.0
"""Seconds in which the process that begins a file is sure to lock it."""


def path(key: str) -> Path:
    """Return the file that keeps the data set of a key."""
    return directory() / "data" / f"{key}-v{FORMAT_VERSION}.npz"


def cached(key: str, build: Callable[[], Published], most: int | None = None) -> Published:
    """Return the data set of a key from an intact copy on disk, or build it and keep a copy.

    A copy contains the images, the numbers of their classes, and notes, but not the names of
    classes.

    Args:
        key: a name and a fingerprint of everything that `build` depends on.
        build: makes the data set where there is no intact copy; if its images are on disk, they are
            not copied.
        most: the bytes of a copy that may be read into memory; None: of any.

    Raises:
        DataError: the cache cannot be written.
    """
    file = path(key)
    found = _read(file, most)
    if found is None:
        found = build()
        if isinstance(found.train.images, Stored):
            return found
        _write(file, found)
    return found


def stored(key: str, count: int, images: Callable[[], Iterable[Array]], tell: Tell) -> Stored:
    """Return the images of a key from a file; if there is none, write them there one by one.

    Args:
        key: a name and a fingerprint of everything that `images` depends on.
        count: how many there are.
        images: makes them.
        tell: called with how far the writing is.

    Raises:
        DataError: the cache cannot be written, or has no room.
    """
    file = path(key).with_suffix(".npy")
    try:
        return npy.stored(file)
    except DataError:
        pass  # there is none, or a part of one
    with _replacing(file) as out:
        npy.write(out, count, _counted(images(), count, file, tell))
    return npy.stored(file)


def _counted(images: Iterable[Array], count: int, file: Path, tell: Tell) -> Iterator[Array]:
    """Yield images, and tell how many have been; refuse more than there is room for."""
    told = 0.0
    for number, image in enumerate(images):
        if number == 0:
            _check_room(file.parent, count, count * image.nbytes)
        if time.monotonic() - told > _SECONDS_BETWEEN:
            told = time.monotonic()
            tell(f"preparing {count:,} images in {file}: {number / count:.0%}")
        yield image


def _check_room(folder: Path, count: int, need: int) -> None:
    if (free := shutil.disk_usage(folder).free) < need:
        raise DataError(
            f"{folder}: {count:,} images need {need / 10**9:,.1f} GB there, and "
            f"{free / 10**9:,.1f} GB are free",
            hint=ROOM,
        )


def _read(file: Path, most: int | None) -> Published | None:
    """Return the data set in a file; None if there is none or its fingerprint does not match."""
    try:
        if most is not None and file.stat().st_size > most:
            return None
        arrays = archive.read(file)
        found = Published(
            train=Images(arrays["x_train"], arrays.get("y_train")),
            test=Images(arrays["x_test"], arrays.get("y_test")),
            notes=tuple(map(str, arrays.get("notes", ()))),  # older copies have none
        )
        return found if found.fingerprint() == str(arrays["fingerprint"]) else None
    except (KeyError, OSError, ValueError):
        return None


def _write(file: Path, found: Published) -> None:
    arrays = {
        "x_train": found.train.images,
        "y_train": found.train.labels,
        "x_test": found.test.images,
        "y_test": found.test.labels,
        "fingerprint": np.asarray(found.fingerprint()),
        "notes": np.asarray(found.notes) if found.notes else None,
    }
    with _replacing(file) as out:
        np.savez(out, allow_pickle=False, **{k: v for k, v in arrays.items() if v is not None})


@contextmanager
def _replacing(file: Path) -> Iterator[IO[bytes]]:
    """Open a new file of the cache, and remove what killed processes have left of others.

    Raises:
        DataError: it cannot be written.
    """
    try:
        make_directory(file.parent)
        _remove_halves(Folder(file.parent))
        with replacing(file) as out:
            with contextlib.suppress(OSError):  # without locks, nothing is removed there
                fcntl.flock(out, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield out
    except OSError as error:
        raise DataError.of(error, file, "the cache cannot be written", hint=ROOM) from None


def _remove_halves(folder: Folder) -> None:
    """Remove incomplete files, of up to gigabytes, that no process is writing."""
    for name in folder.names():
        half = HALF.fullmatch(name)
        if half and half[1].endswith((".npy", ".npz")):
            with contextlib.suppress(OSError), folder.open(name) as file:
                # the age first: even a shared lock would keep a beginning writer from its own
                if time.time() - (folder.path / name).stat().st_mtime > _YOUNG:
                    fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
                    folder.remove(name)
