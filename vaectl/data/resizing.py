"""Pictures brought to the size and the channels that a configuration asks for."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageOps

if TYPE_CHECKING:
    from vaectl.data.reading import Reading

Picture = UInt8[np.ndarray, "height width *channels"]


def fitted(picture: Picture, reading: Reading) -> Picture:
    """Return a picture in the size and with the channels that are asked for.

    Pixels are averaged by Lanczos's filter of three lobes, which Pillow widens where a picture
    becomes smaller, so that nothing is left out.

    Args:
        picture: a grey one has no axis for channels.
        reading: `size`, `resize` and `channels`.
    """
    if reading.channels == 1 and picture.ndim == 3:
        picture = np.asarray(Image.fromarray(picture).convert("L"))  # ITU-R 601-2 luma
    if reading.size is not None and picture.shape[:2] != reading.size:
        picture = _resized(picture, reading)
    return rgb(picture) if reading.channels == 3 else picture


def rgb(picture: Picture) -> UInt8[np.ndarray, "height width 3"]:
    """Return a picture with three channels."""
    return picture if picture.ndim == 3 else np.repeat(picture[..., np.newaxis], 3, -1)


def _resized(picture: Picture, reading: Reading) -> Picture:
    assert reading.size is not None  # noqa: S101  # the caller has looked
    image, (height, width) = Image.fromarray(picture), reading.size
    size = width, height
    filter_ = Image.Resampling.LANCZOS
    if reading.resize == "crop":
        return np.asarray(ImageOps.fit(image, size, filter_))
    if reading.resize == "pad":
        return np.asarray(ImageOps.pad(image, size, filter_))
    return np.asarray(image.resize(size, filter_))
