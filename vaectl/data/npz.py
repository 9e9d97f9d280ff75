"""NumPy archives of images: `x_train`, `x_test` and, if known, `y_train`, `y_test`."""

from pathlib import Path

import numpy as np
from jaxtyping import Int32, UInt8

from vaectl.data import archive
from vaectl.data.arrays import Images, Source
from vaectl.errors import DataError

_LAYOUT = "x_train and x_test (uint8, images x height x width), y_train and y_test (optional)"


def load(path: Path) -> Source:
    """Read an archive laid out like Keras's mnist.npz.

    Raises:
        DataError: not an archive, an array missing, of another type or of another shape.
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
            f"x_test of {test.images.shape[1:]}"
        )
    return Source(train, test)


def _images(
    path: Path, arrays: dict[str, np.ndarray], name: str
) -> UInt8[np.ndarray, "images height width"]:
    if name not in arrays:
        found = ", ".join(sorted(arrays)) or "nothing"
        raise DataError(f"{path}: no array {name}, only {found}", hint=f"npz:FILE wants {_LAYOUT}")
    array = arrays[name]
    if array.dtype == np.bool_:
        array = array.astype(np.uint8) * np.uint8(255)
    if array.dtype != np.uint8:
        raise DataError(
            f"{path}: {name} is of type {array.dtype}, not uint8",
            hint="save intensities 0 to 255: np.round(255 * x).astype(np.uint8)",
        )
    if array.ndim == 4 and array.shape[-1] == 1:
        array = array[..., 0]
    if array.ndim != 3 or array.size == 0:
        raise DataError(
            f"{path}: {name} has the shape {array.shape}, not (images, height, width)",
            hint="for flat images: x.reshape(-1, height, width)",
        )
    return array


def _labels(
    path: Path, arrays: dict[str, np.ndarray], name: str, images_name: str
) -> Int32[np.ndarray, " images"] | None:
    if name not in arrays:
        return None
    labels = arrays[name]
    if labels.shape != (len(arrays[images_name]),) or labels.dtype.kind not in "iu":
        raise DataError(
            f"{path}: {name} must hold one integer for each image of {images_name}; "
            f"it is of type {labels.dtype} and shape {labels.shape}"
        )
    return labels.astype(np.int32)
