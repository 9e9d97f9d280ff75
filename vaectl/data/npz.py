"""NumPy archives of images: `x_train`, `x_test` and, if known, `y_train`, `y_test`."""

from pathlib import Path

import numpy as np
from jaxtyping import Int32, Real

from vaectl.base.errors import DataError
from vaectl.data import archive, layout
from vaectl.data.arrays import Images, Source

_LAYOUT = "x_train and x_test (images x height x width), y_train and y_test (optional)"


def load(path: Path) -> Source:
    """Read an archive laid out like Keras's mnist.npz.

    Raises:
        DataError: not an archive, or an array is missing or of another shape.
    """
    try:
        arrays = archive.read(path)
    except OSError as error:
        raise DataError(
            f"{path}: cannot be read: {error.strerror}", hint=f"npz:FILE wants {_LAYOUT}"
        ) from None
    except ValueError as error:
        raise DataError(
            f"{path}: not a readable NumPy archive: {error}", hint=f"npz:FILE wants {_LAYOUT}"
        ) from None
    train, test = (
        Images(
            _images(path, arrays, f"x_{split}"), _labels(path, arrays, f"y_{split}", f"x_{split}")
        )
        for split in ("train", "test")
    )
    if train.images.shape[1:] != test.images.shape[1:]:
        raise DataError(
            f"{path}: x_train has images of {train.images.shape[1:]}, "
            f"x_test of {test.images.shape[1:]}",
            hint="bring both to one height and width",
        )
    return Source(train, test)


def _images(
    path: Path, arrays: dict[str, np.ndarray], name: str
) -> Real[np.ndarray, "images height width"]:
    if name not in arrays:
        found = ", ".join(sorted(arrays)) or "nothing"
        raise DataError(f"{path}: no array {name}, only {found}", hint=f"npz:FILE wants {_LAYOUT}")
    return layout.images(f"{path}: {name}", arrays[name])


def _labels(
    path: Path, arrays: dict[str, np.ndarray], name: str, images_name: str
) -> Int32[np.ndarray, " images"] | None:
    if name not in arrays:
        return None
    labels = arrays[name]
    if labels.shape != (len(arrays[images_name]),) or labels.dtype.kind not in "iu":
        raise DataError(
            f"{path}: {name} must hold one integer for each image of {images_name}; "
            f"it is of type {labels.dtype} and shape {labels.shape}",
            hint="mend it, or leave it out: labels only colour pictures",
        )
    return labels.astype(np.int32)
