"""Pictures: decoded, and brought to the size and the channels that a configuration asks for."""

from __future__ import annotations

import warnings
from typing import IO, TYPE_CHECKING

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageOps

if TYPE_CHECKING:
    from vaectl.data.reading import Reading

FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
"""The formats that Pillow may read. It knows more, some by programs that it starts."""

Picture = UInt8[np.ndarray, "height width *channels"]


def decoded(file: IO[bytes]) -> Picture:
    """Decode a picture as bytes, without an axis for channels if it is grey.

    Raises:
        Exception: whatever a decoder meets.
    """
    # what Pillow warns about is nothing that a person could act on, but for sizes
    with warnings.catch_warnings(action="ignore"):
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        with Image.open(file, formats=FORMATS) as image:
            return _pixels(image)


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


def _pixels(image: Image.Image) -> Picture:
    """Decode a picture as bytes, upright and on white, without an axis for channels if it is grey.

    Raises:
        ValueError: its pixels have a type with no fixed black and white.
        Exception: whatever a decoder meets.
    """
    # Pillow reads 16 bits of some formats as 32
    wide = image.mode == "I" and image.format in ("PNG", "PPM")
    image = ImageOps.exif_transpose(image)
    if wide or image.mode.startswith("I;16"):
        levels = np.asarray(image)
        clear = levels == image.info.get("transparency", -1)
        return np.rint(np.where(clear, 65535, levels) / 257).astype(np.uint8)
    if image.mode in ("I", "F"):
        raise ValueError("it has pixels of 32 bits, whose black and white are unknown")
    if image.has_transparency_data:  # an opacity for each pixel, or a colour that is transparent
        above = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), above)
    if image.mode in ("1", "L"):
        return np.asarray(image.convert("L"))
    pixels = np.asarray(image.convert("RGB"))
    return pixels[..., 0] if (pixels == pixels[..., :1]).all() else pixels
