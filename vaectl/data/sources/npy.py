"""`npy:PATH`: NumPy arrays in files of their own, which need not fit into memory."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING

from vaectl.base.errors import DataError
from vaectl.base.nearest import did_you_mean_path
from vaectl.data.reading import Reading
from vaectl.data.sources.base import LocalSource

if TYPE_CHECKING:
    from vaectl.data.arrays import Published


class Npy(LocalSource, name="npy"):
    """A folder of the arrays of an `npz` archive, as it is unpacked, or one file of images.

    A single file has no splits: one seventh of its images are the test split.
    """

    placeholder = "PATH"
    what = "a folder of x_train.npy, x_test.npy, or one file; larger than memory"
    heeds = LocalSource.heeds | {"images", "labels", "shape"}
    first_reading = Reading(images=("x_train", "x_test"))
    suffixes = (".npy",)

    @classmethod
    def holds(cls, names: Sequence[str]) -> bool:
        """Recognize a folder by an array in it."""
        return any(name.endswith(".npy") and "/" not in name for name in names)

    @property
    def title(self) -> str:
        """The name of the folder, or of the file without its ending."""
        return self.path.stem

    def load(self, *, progress: bool = False) -> Published:  # noqa: ARG002
        """Open the files; images are read when they are needed."""
        from vaectl.data import layout, npy
        from vaectl.data.arrays import Images, divide
        from vaectl.data.named import Arrays

        path, reading = self.path, self.reading
        if not os.path.isdir(path):  # noqa: PTH112  # a Path raises if the name is too long
            if reading.images or reading.labels:
                raise DataError(
                    f"{path}: one file: data.images and data.labels name files of a folder",
                    hint=f"set data.source to npy:{path.parent}",
                )
            images, note = layout.images(f"{path}", npy.stored(path), reading.shape)
            return divide(str(self), Images(images, None), (note,) if note else ())
        try:
            names = sorted(each.stem for each in path.iterdir() if each.suffix == ".npy")
        except OSError as error:
            raise DataError.of(error, path, near=did_you_mean_path(path)) from None
        opened = cache(lambda name: npy.stored(path / f"{name}.npy"))
        return Arrays(str(path), names, opened, lambda name: f"{path / name}.npy").published(
            reading
        )
