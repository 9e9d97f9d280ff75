"""`npz:FILE`: a NumPy archive of images and, optionally, labels and splits."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING

from vaectl.base.errors import DataError
from vaectl.base.nearest import did_you_mean_path
from vaectl.data.reading import Reading
from vaectl.data.sources.base import LocalSource

if TYPE_CHECKING:
    from pathlib import Path

    from vaectl.data.arrays import Published
    from vaectl.data.stored import Array

_LAYOUT = (
    "the archive should hold images, as x_train and x_test or as images, and may hold labels, as "
    "y_train and y_test or as labels"
)


class Npz(LocalSource, name="npz"):
    """Arrays of grey or RGB images that have the names that people use: see `vaectl.data.named`."""

    placeholder = "FILE"
    what = "x_train, x_test, or images; labels optional; names as people use them"
    heeds = LocalSource.heeds | {"images", "labels", "shape"}
    first_reading = Reading(images=("x_train", "x_test"))
    suffixes = (".npz",)

    @property
    def title(self) -> str:
        """The name of the file without its ending."""
        return self.path.stem

    def load(self, *, progress: bool = False) -> Published:  # noqa: ARG002
        """Read the arrays of the archive that are images and labels."""
        from vaectl.data import archive
        from vaectl.data.named import Arrays

        path = self.path
        with _refusing(path), archive.opened(path) as file:

            @cache
            def read(name: str) -> Array:
                with _refusing(path):
                    return file.read(name)

            arrays = Arrays(str(path), file.names, read, lambda name: f"{path}: {name}")
            return arrays.published(self.reading)


@contextmanager
def _refusing(path: Path) -> Iterator[None]:
    from vaectl.data.npy import NO_OBJECTS

    try:
        yield
    except OSError as error:
        near = did_you_mean_path(path)
        raise DataError.of(error, path, near=near, hint=_LAYOUT) from None
    except ValueError as error:
        objects = "Object arrays" in str(error)
        raise DataError(
            f"{path}: not a readable NumPy archive: {error}",
            hint=NO_OBJECTS if objects else _LAYOUT,
        ) from None
