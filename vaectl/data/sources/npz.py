"""`npz:FILE`: a NumPy archive of `x_train`, `x_test` and, optionally, `y_train`, `y_test`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vaectl.base.errors import DataError
from vaectl.base.nearest import did_you_mean_path
from vaectl.data.sources.base import LocalSource

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    from jaxtyping import Int32

    from vaectl.data.arrays import Published
    from vaectl.data.stored import Pixels

_LAYOUT = "x_train and x_test (images x height x width), y_train and y_test (optional)"


class Npz(LocalSource, name="npz"):
    """An archive laid out like Keras's mnist.npz, of grey or RGB images."""

    placeholder = "FILE"
    what = "x_train, x_test, as in Keras's mnist.npz; labels optional"

    @property
    def title(self) -> str:
        """The name of the file without its ending."""
        return self.path.stem

    def load(self, *, progress: bool = False) -> Published:  # noqa: ARG002
        """Read the archive."""
        from vaectl.data import archive
        from vaectl.data.arrays import Images, Published

        path, hint = self.path, f"the archive should hold {_LAYOUT}"
        try:
            arrays = archive.read(path)
        except OSError as error:
            near = did_you_mean_path(path)
            raise DataError(f"{path}: cannot be read: {error.strerror}{near}", hint=hint) from None
        except ValueError as error:
            raise DataError(f"{path}: not a readable NumPy archive: {error}", hint=hint) from None
        train, test = (
            Images(_images(path, arrays, f"x_{split}"), _labels(path, arrays, split))
            for split in ("train", "test")
        )
        return Published(train, test)


def _images(path: Path, arrays: dict[str, np.ndarray], name: str) -> Pixels:
    from vaectl.data import layout

    if name not in arrays:
        found = ", ".join(sorted(arrays)) or "nothing"
        raise DataError(
            f"{path}: no array {name}, only {found}", hint=f"the archive should hold {_LAYOUT}"
        )
    return layout.images(f"{path}: {name}", arrays[name])


def _labels(
    path: Path, arrays: dict[str, np.ndarray], split: str
) -> Int32[np.ndarray, " images"] | None:
    from vaectl.data import layout

    name, images = f"y_{split}", f"x_{split}"
    if name not in arrays:
        return None
    return layout.labels(f"{path}: {name}", arrays[name], images, len(arrays[images]))
