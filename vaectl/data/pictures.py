"""Pictures: decoded, and brought to the size and the channels that a configuration asks for."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import IO, TYPE_CHECKING, TypeVar, final

import numpy as np
from jaxtyping import UInt
from PIL import Image, ImageOps, UnidentifiedImageError

from vaectl.data.scale import LEAST

if TYPE_CHECKING:
    from vaectl.data.reading import Reading

FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
"""The formats that Pillow may read. It knows more, some by programs that it starts."""

Picture = UInt[np.ndarray, "height width *channels"]
"""Bytes, or the levels of a grey picture of 16 bits; a grey one has no axis for channels."""
_LEVELS = 65535 // 255
"""The number of levels of 16 bits per level of a byte."""
_Read = TypeVar("_Read")


class _Dark(Exception):  # noqa: N818  # no error
    """Raised if pictures of 16 bits would keep too few levels as bytes."""


@final
class Decoder:
    """Decodes the pictures of one data set, as bytes or with all their levels."""

    def __init__(self, reading: Reading, *, deep: bool = False) -> None:
        """Decode as a configuration says.

        Args:
            reading: `size`, `resize`, `channels` and `range`.
            deep: whether pictures of 16 bits keep their levels.
        """
        self.reading, self.deep = reading, deep
        self.frames = 1
        """The most frames or pages of a picture; only the first is read."""
        self._brightest = -1
        self._depths: set[np.dtype[np.unsignedinteger]] = set()

    def decoded(self, file: IO[bytes]) -> Picture:
        """Decode a picture, in the size and with the channels that are asked for.

        Raises:
            ValueError: it has 8 bits and others have 16, or the other way round, and their levels
                cannot be compared; or it cannot be brought to that size.
            Exception: whatever a decoder meets.
        """
        picture, frames = _decoded(file)
        self.frames = max(self.frames, frames)
        self._depths.add(picture.dtype)
        if self.deep and len(self._depths) > 1:
            why = (
                "data.range cannot be that of both"
                if self.reading.range
                else "which level of 16 bits is white is not known"
            )
            raise ValueError(
                f"it has {8 * picture.itemsize} bits, others have {24 - 8 * picture.itemsize}, and "
                f"{why}"
            )
        if picture.dtype != np.uint8:
            self._brightest = max(self._brightest, int(picture.max()))
            if not self.deep:
                picture = np.rint(picture / _LEVELS).astype(np.uint8)
        reading = self.reading
        if reading.channels == 1 and picture.ndim == 3:
            picture = np.asarray(Image.fromarray(picture).convert("L"))  # ITU-R 601-2 luma
        if reading.size is not None and picture.shape[:2] != reading.size:
            black = (reading.range or (0,))[0]
            picture = _resized(picture, reading.size, reading.resize, black)
        return rgb(picture) if reading.channels == 3 else picture

    def finish(self) -> None:
        """End the reading of all pictures; `with_levels` begins anew if bytes do not hold them.

        A range within bytes, given by the user, is trusted unless the bytes would only be 0 and 1.
        """
        dark = 256 if self.reading.range else _LEVELS * (LEAST * 255 - 0.25)
        if not self.deep and 0 <= self._brightest < dark:
            raise _Dark


def with_levels(reading: Reading, read: Callable[[Decoder], _Read]) -> _Read:
    """Read pictures as bytes; those of 16 bits with their levels if bytes would leave few of them.

    White may be 4095 in a file of 16 bits. Only a range beyond bytes in the settings, or the values
    of all pictures, can show that.

    Args:
        reading: how pictures are read.
        read: reads all of them by a decoder and calls its `finish`, before it keeps what it read;
            or finds what it has kept.
    """
    if max(reading.range or (0,)) <= 255:
        with suppress(_Dark):
            return read(Decoder(reading))
    return read(Decoder(reading, deep=True))


def first_frames(frames: int) -> list[str]:
    """Return the note that only the first frame of some pictures is read, if there are several."""
    note = (
        f"some pictures have several frames or pages, up to {frames:,}: only the first of each is "
        "read; save each frame as a picture of its own to have them all"
    )
    return [note] if frames > 1 else []


def _decoded(file: IO[bytes]) -> tuple[Picture, int]:
    """Decode the first frame of a picture with all its levels, and count its frames."""
    # users cannot act on the warnings of Pillow, except on those about sizes
    with warnings.catch_warnings(action="ignore"):
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        try:
            image = Image.open(file, formats=FORMATS)
        except UnidentifiedImageError:  # its message has an address in memory
            raise ValueError(f"it has none of the formats {', '.join(FORMATS)}") from None
        with image:
            pixels = _pixels(image)
            return pixels, _frames(image)


def _frames(image: Image.Image) -> int:
    try:
        return int(getattr(image, "n_frames", 1))
    except Exception:  # a decoder may raise anything for a later frame, which is not used
        return 1


def rgb(picture: Picture) -> UInt[np.ndarray, "height width 3"]:
    """Return a picture with three channels."""
    return picture if picture.ndim == 3 else np.repeat(picture[..., np.newaxis], 3, -1)


def stacked(pictures: Sequence[Picture]) -> UInt[np.ndarray, "images height width *channels"]:
    """Stack pictures of one size; grey ones become RGB if others are."""
    coloured = any(picture.ndim == 3 for picture in pictures)
    return np.stack([*map(rgb, pictures)] if coloured else pictures)


def _resized(picture: Picture, sides: tuple[int, ...], how: str, black: float) -> Picture:
    """Resize a picture.

    Pixels are averaged by Lanczos's filter of three lobes, which Pillow widens where a picture
    becomes smaller, so that nothing is left out.
    """
    height, width = sides
    size = width, height
    deep = picture.dtype != np.uint8  # Pillow resizes bytes and float32
    image = Image.fromarray(picture.astype(np.float32) if deep else picture)
    filter_ = Image.Resampling.LANCZOS
    if how == "crop":
        image = ImageOps.fit(image, size, filter_)
    elif how == "pad":
        level = round(min(max(black, 0), np.iinfo(picture.dtype).max))
        try:
            image = ImageOps.pad(image, size, filter_, (level,) * len(image.getbands()))
        except ValueError:  # a side would have no pixels
            raise ValueError(f"too narrow to be padded to {width}x{height} pixels") from None
    else:
        image = image.resize(size, filter_)
    resized = np.asarray(image)
    return np.rint(resized.clip(0, 65535)).astype(np.uint16) if deep else resized


def _pixels(image: Image.Image) -> Picture:
    """Decode a picture, upright and on white, without an axis for channels if it is grey."""
    # Pillow reads 16 bits of some formats as 32
    wide = image.mode == "I" and image.format in ("PNG", "PPM")
    image = ImageOps.exif_transpose(image)
    if wide or image.mode.startswith("I;16"):
        levels = np.asarray(image)
        clear = levels == image.info.get("transparency", -1)
        return np.where(clear, 65535, levels).astype(np.uint16)
    if image.mode in ("I", "F"):
        raise ValueError("it has pixels of 32 bits, whose black and white are unknown")
    if image.has_transparency_data:  # an opacity for each pixel, or a colour that is transparent
        above = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), above)
    if image.mode in ("1", "L"):
        return np.asarray(image.convert("L"))
    pixels = np.asarray(image.convert("RGB"))
    return pixels[..., 0] if (pixels == pixels[..., :1]).all() else pixels
