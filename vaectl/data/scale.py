"""The scale of pixels: which value is black and which is white.

Published images are bytes from 0 to 255, or 0/1, or floats from 0 to 1, and nothing in a file says
which. This module looks at the values: if they can mean only one thing, they become bytes from 0 to
255; otherwise they are refused, with a line of NumPy that makes such bytes of them.
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt8

from vaectl.base.errors import DataError
from vaectl.data.arrays import Published
from vaectl.data.stored import Array, Pixels, changed, ends, pieces

_WHITES = (1, 255)
"""The value of white in the scales that are understood."""
_LEAST = 0.25
"""A data set whose largest value is below this part of white is on another scale."""
_DARK = 0.5
"""A data set whose largest value is below this part of white gets a note."""
_ROUNDING = 0.4 / 255
"""How far values may lie outside a scale, as a part of white, and still round to 0 and 255."""
_OVERSHOOT = 0.1
"""How far, as a part of white, resizing may move the ends of a scale; recipes undo it."""
_SAVE = "save all images as uint8, 0 for black and 255 for white"

_BYTE = np.dtype(np.uint8)


class _Range(NamedTuple):
    low: float
    high: float

    @property
    def white(self) -> int | None:
        """The white of the scale that fits; None if no scale does."""
        for white in _WHITES:
            low, high = self.low / white, self.high / white
            if low >= -_ROUNDING and _LEAST <= high <= 1 + _ROUNDING:
                return white
        return None

    @property
    def largest(self) -> float:
        return max(abs(self.low), abs(self.high))

    @property
    def ends(self) -> tuple[str, str]:
        """The likely black and white: those of a scale that nearly fits, else the ends."""
        for white in _WHITES:
            low, high = self.low / white, self.high / white
            if self.white == white or (low >= -_OVERSHOOT and abs(high - 1) <= _OVERSHOOT):
                return "0", str(white)
        return _text(self.low), _text(self.high)

    @property
    def recipe(self) -> str:
        """Code that makes bytes from 0 to 255 of an array `x` of any type."""
        black, white = self.ends
        return f"np.interp(x, [{black}, {white}], [0, 255]).round().astype(np.uint8)"

    def __str__(self) -> str:
        return f"{_text(self.low)} to {_text(self.high)}"


def read(name: str, found: Published) -> Published:
    """Turn the pixels of a data set into bytes, 0 for black and 255 for white.

    Args:
        name: of the data set, for messages.
        found: as published; images that are such bytes already are returned as they are.

    Returns:
        The data set, with a note where its scale was concluded from its values.

    Raises:
        DataError: the values could mean several things, or all pixels of a split are equal.
    """
    images = {"training": found.train.images, "test": found.test.images}
    images = {split: _numbers(name, split, array) for split, array in images.items()}
    ranges = {split: _range(name, split, array) for split, array in images.items()}
    white = _white(name, ranges, images)
    train, test = (_as_bytes(array, white) for array in images.values())
    return Published(
        found.train._replace(images=train),
        found.test._replace(images=test),
        found.validation_size,
        found.notes + _notes(images, _joint(ranges), white),
    )


def _numbers(name: str, split: str, array: Pixels) -> Pixels:
    """Refuse values that are no real numbers; turn booleans into black and white."""
    if array.dtype == np.bool_:
        return changed(array, lambda part: part.astype(np.uint8) * np.uint8(255), _BYTE)
    if array.dtype.kind not in "iuf" or array.dtype.itemsize > 8:
        raise DataError(
            f"{name}: its {split} images are of type {array.dtype}, which is no type for pixels",
            hint=_SAVE,
        )
    if array.dtype.kind == "f":
        bad = sum(piece.size - np.count_nonzero(np.isfinite(piece)) for piece in pieces(array))
        if bad:
            raise DataError(
                f"{name}: its {split} images have {bad:,} pixels that are NaN or infinite",
                hint="replace these pixels, or leave out these images",
            )
    return array


def _range(name: str, split: str, array: Pixels) -> _Range:
    low, high = ends(array)
    if low == high:
        raise DataError(
            f"{name}: every pixel of its {split} images is {low}",
            hint="look at the data: there are no pictures in them",
        )
    return _Range(float(str(low)), float(str(high)))  # as short as NumPy writes them


def _joint(ranges: Mapping[str, _Range]) -> _Range:
    return _Range(min(r.low for r in ranges.values()), max(r.high for r in ranges.values()))


def _white(name: str, ranges: Mapping[str, _Range], images: Mapping[str, Pixels]) -> int:
    """Return the white of the scale that all splits share."""
    small, large = sorted(found.largest for found in ranges.values())
    if small < _LEAST * large:
        recipes = [
            f"if {found.ends[0]} is black and {found.ends[1]} white in the {split} images: "
            f"{found.recipe}"
            for split, found in ranges.items()
            if found.white != 255
        ]
        raise DataError(
            f"{name}: not one scale: its training images have values from {ranges['training']}, "
            f"its test images from {ranges['test']}",
            hint="; ".join([_SAVE, *recipes]),
        )
    joint = _joint(ranges)
    if (white := joint.white) is None:
        black_is, white_is = joint.ends
        recipes = [f"if {black_is} is black and {white_is} white: {joint.recipe}"]
        if all(array.dtype == np.int8 for array in images.values()):
            recipes.insert(0, "if bytes were read as signed ones: x.view(np.uint8)")
        raise DataError(
            f"{name}: its pixels have values from {joint}: neither the scale 0 to 1 nor 0 to 255",
            hint="; ".join([_SAVE, *recipes]),
        )
    return white


def _as_bytes(array: Pixels, white: int) -> Pixels:
    if array.dtype == _BYTE and white == 255:
        return array
    return changed(array, lambda part: _scaled(part, white), _BYTE)


def _scaled(array: Array, white: int) -> UInt8[np.ndarray, "..."]:
    if array.dtype.kind == "f":
        # float16 would round 255.4 up to 255.5, and that to 256
        scaled = np.multiply(array, 255 // white, dtype=np.result_type(array, np.float32))
        return np.rint(scaled, out=scaled).astype(np.uint8)
    grey = array.astype(np.uint8, copy=False)
    return grey if white == 255 else grey * np.uint8(255)


def _notes(images: Mapping[str, Pixels], joint: _Range, white: int) -> tuple[str, ...]:
    """Say how the values were understood, where they could mean something else."""
    notes = []
    if white == 1:
        binary = all(
            ((piece == 0) | (piece == 1)).all()
            for array in images.values()
            for piece in pieces(array)
        )
        notes.append(
            "0/1 pixels: read as black and white"
            if binary
            else f"pixels from {joint}: read as intensities, where 1 is white"
        )
    elif any(array.dtype != np.uint8 for array in images.values()):
        notes.append(f"pixels from {joint}: read as intensities, where 255 is white")
    if joint.high < _DARK * white:
        notes.append(f"dark images: the brightest pixel is {_text(joint.high)}, white is {white}")
    return tuple(notes)


def _text(value: float) -> str:
    return repr(value).removesuffix(".0")
