"""Prepared data sets on disk, with a key for what they were made from, and verified when read."""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from vaectl.base.cache import directory
from vaectl.base.errors import DataError
from vaectl.base.files import make_directory, replacing
from vaectl.data import archive
from vaectl.data.arrays import Images, Published

FORMAT_VERSION = 1


def path(key: str) -> Path:
    """Return the file that keeps the data set of a key."""
    return directory() / "data" / f"{key}-v{FORMAT_VERSION}.npz"


def cached(key: str, build: Callable[[], Published]) -> Published:
    """Return the data set of a key from an intact copy on disk, or build it and keep a copy.

    Args:
        key: a name and a fingerprint of everything that `build` depends on.
        build: makes the data set where there is no intact copy.

    Raises:
        DataError: the cache cannot be written.
    """
    file = path(key)
    found = _read(file)
    if found is None:
        found = build()
        try:
            make_directory(file.parent)
            _write(file, found)
        except OSError as error:
            raise DataError(
                f"{file}: the cache cannot be written: {error.strerror}",
                hint="make room there, or set VAECTL_CACHE_DIR to another directory",
            ) from None
    return found


def _read(file: Path) -> Published | None:
    """Return the data set in a file; None if there is none or its fingerprint does not match."""
    try:
        arrays = archive.read(file)
        found = Published(
            train=Images(arrays["x_train"], arrays.get("y_train")),
            test=Images(arrays["x_test"], arrays.get("y_test")),
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
    }
    with replacing(file) as out:
        np.savez(out, allow_pickle=False, **{k: v for k, v in arrays.items() if v is not None})
