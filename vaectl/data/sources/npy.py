"""`npy:PATH`: NumPy arrays in files of their own, which need not fit into memory."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from vaectl.base.errors import DataError, remedy
from vaectl.base.nearest import did_you_mean_path
from vaectl.data.sources.base import LocalSource

if TYPE_CHECKING:
    from pathlib import Path

    from vaectl.data.arrays import Images, Published
    from vaectl.data.stored import Pixels

_LAYOUT = (
    "the folder should hold x_train.npy and x_test.npy (images x height x width), y_train.npy and "
    "y_test.npy (optional)"
)


class Npy(LocalSource, name="npy"):
    """A folder of the arrays of an `npz` archive, as it is unpacked, or one file of images.

    A single file has no splits: one seventh of its images are the test split.
    """

    placeholder = "PATH"
    what = "a folder of x_train.npy, x_test.npy, or one file; larger than memory"

    @property
    def title(self) -> str:
        """The name of the folder, or of the file without its ending."""
        return self.path.stem

    def load(self, *, progress: bool = False) -> Published:  # noqa: ARG002
        """Open the files; images are read when they are needed."""
        from vaectl.data.arrays import Images, Published, divide

        path = self.path
        if not os.path.isdir(path):  # noqa: PTH112  # a Path raises if the name is too long
            return divide(str(self), Images(_images(path), None))
        try:
            there = {entry.name for entry in path.iterdir()}
        except OSError as error:
            raise DataError(
                f"{path}: cannot be read: {error.strerror}{did_you_mean_path(path)}",
                hint=remedy(error),
            ) from None
        train, test = (_split(path, there, split) for split in ("train", "test"))
        return Published(train, test)


def _split(folder: Path, there: set[str], split: str) -> Images:
    from vaectl.data import layout, npy
    from vaectl.data.arrays import Images

    name, of_labels = f"x_{split}.npy", f"y_{split}.npy"
    if name not in there:
        found = ", ".join(sorted(each for each in there if each.endswith(".npy"))) or "no .npy"
        raise DataError(f"{folder}: no file {name}, only {found}", hint=_LAYOUT)
    images = _images(folder / name)
    if of_labels not in there:
        return Images(images, None)
    path = folder / of_labels
    return Images(images, layout.labels(f"{path}", npy.stored(path), name, len(images)))


def _images(path: Path) -> Pixels:
    from vaectl.data import layout, npy

    return layout.images(f"{path}", npy.stored(path))
