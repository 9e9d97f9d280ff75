"""The scale of pixels: which value is black and which is white.

Published images are bytes from 0 to 255, or 0/1, or floats from 0 to 1, and nothing in a file says
which. This module looks at the values: if they can mean only one thing, they become bytes from 0 to
255. Otherwise they are refused, and the message has the setting that defines the scale, and a line
of NumPy that converts the values to such bytes.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt8

from vaectl.base.errors import DataError
from vaectl.data.arrays import Published
from vaectl.data.stored import PIECE_BYTES, Array, Pixels, changed, ends, pieces

LEAST = 0.25
"""A data set whose largest value is below this part of white is on another scale."""
_DARK = 0.5
"""A data set whose largest value is below this part of white gets a note."""
_ROUNDING = 0.4 / 255
"""How far values may lie outside a scale, as a part of it, and still round to 0 and 255."""
_OVERSHOOT = 0.1
"""How far resizing may move the ends of a scale, as a part of it; recipes undo this."""
_SAVE = "save all images as uint8, 0 for black and 255 for white"

_BYTE = np.dtype(np.uint8)


class _Scale(NamedTuple):
    """The values of black and of white."""

    black: float
    white: float
    both: bool = False
    """True if the scale is assumed only for data that contain both values."""

    def place(self, value: float) -> float:
        """Return where a value lies: black at 0 and white at 1."""
        return (value - self.black) / (self.white - self.black)

    def fits(self, low: float, high: float) -> bool:
        """Tell whether it is the scale of data with such ends."""
        low, high = self.place(low), self.place(high)
        if low < -_ROUNDING or high > 1 + _ROUNDING:
            return False
        return low <= _ROUNDING and high >= 1 - _ROUNDING if self.both else high >= LEAST

    def nearly_fits(self, low: float, high: float) -> bool:
        """Tell whether it may be the scale of data whose ends were moved by resizing."""
        low, high = self.place(low), self.place(high)
        return low >= -_OVERSHOOT and abs(high - 1) <= _OVERSHOOT

    def __str__(self) -> str:
        return f"{_text(self.black)} to {_text(self.white)}"


_UNIT, _BYTES = _Scale(0, 1), _Scale(0, 255)
_KNOWN = (_UNIT, _BYTES, _Scale(-1, 1, both=True), _Scale(0, 16, both=True))
"""The scales that are understood; 0 to 16 is that of scikit-learn's digits."""
_RESIZED = _KNOWN[:2]
"""The scales whose ends resizing may have moved."""


class _Range(NamedTuple):
    low: float
    high: float

    @property
    def scale(self) -> _Scale | None:
        """The scale that fits; None if none does."""
        return next((scale for scale in _KNOWN if scale.fits(*self)), None)

    @property
    def largest(self) -> float:
        return max(abs(self.low), abs(self.high))

    @property
    def likely(self) -> _Scale:
        """The likely black and white: those of a scale that nearly fits, else the ends."""
        near = (scale for scale in _RESIZED if scale.nearly_fits(*self))
        return self.scale or next(near, _Scale(*self))

    def recipe(self, where: str = "") -> str:
        """Return NumPy code that converts an array `x` to bytes, and the condition for using it."""
        black, white = map(_text, self.likely[:2])
        return (
            f"if {black} is black and {white} white{where}: "
            f"np.interp(x, [{black}, {white}], [0, 255]).round().astype(np.uint8)"
        )

    def __str__(self) -> str:
        return f"{_text(self.low)} to {_text(self.high)}"


def read(
    name: str, found: Published, black_and_white: tuple[float, ...] | None = None
) -> Published:
    """Turn the pixels of a data set into bytes, 0 for black and 255 for white.

    Args:
        name: of the data set, for messages.
        found: as published; images that are such bytes already are returned as they are.
        black_and_white: their values; None: found by looking at all values.

    Returns:
        The data set, with a note where its scale was concluded from its values.

    Raises:
        DataError: the values could mean several things, or all pixels of a split are equal.
    """
    images = {
        split: _numbers(name, split, part.images, black_and_white or _BYTES[:2])
        for split, part in (("training", found.train), ("test", found.test))
    }
    parts = _parts(images, found.validation_size)
    ranges = {split: _range(name, split, array) for split, array in parts.items()}
    joint = _joint(ranges)
    if black_and_white:
        black, white = black_and_white
        scale = _Scale(black, white)
        images = {split: _as_bytes(array, scale) for split, array in images.items()}
        _check_contrast(name, images, ranges, scale)
        notes = _told(joint, scale)
    else:
        scale = _common(name, ranges, images)
        notes = _notes(images, joint, scale)
        images = {split: _as_bytes(array, scale) for split, array in images.items()}
    return replace(
        found,
        train=found.train._replace(images=images["training"]),
        test=found.test._replace(images=images["test"]),
        notes=found.notes + notes,
    )


def _numbers(name: str, split: str, array: Pixels, ends: tuple[float, ...]) -> Pixels:
    """Refuse types that pixels cannot have; turn booleans into the ends of a scale."""
    if array.dtype == np.bool_:
        kind = _BYTE if ends == _BYTES[:2] else np.dtype(np.float64)
        low, high = np.array(sorted(ends), kind)
        return changed(array, lambda part: np.where(part, high, low), kind)
    if array.dtype.kind not in "iuf" or array.dtype.itemsize > 8:
        raise DataError(
            f"{name}: its {split} images are of type {array.dtype}, which pixels cannot have",
            hint=_SAVE,
        )
    return array


def _parts(images: Mapping[str, Pixels], validation: int | None) -> Mapping[str, Pixels]:
    """Return the images of each split; those that validate apart, if the data set has such."""
    train = images["training"]
    first = len(train) - (validation or 0)
    if not 0 < first < len(train):
        return images
    return {"training": train[:first], "validation": train[first:], "test": images["test"]}


def _range(name: str, split: str, array: Pixels) -> _Range:
    """Return the least and the largest value; refuse NaN, infinities and constant images."""
    low, high = ends(array)
    if not (np.isfinite(low) and np.isfinite(high)):
        bad, spoiled = 0, 0
        for piece in pieces(array):
            wrong = ~np.isfinite(piece)
            bad += int(np.count_nonzero(wrong))
            spoiled += int(np.count_nonzero(wrong.reshape(len(piece), -1).any(axis=1)))
        raise DataError(
            f"{name}: its {split} images have NaN or infinite pixels: {bad:,} in {spoiled:,} "
            f"of {len(array):,} images",
            hint="replace these pixels, or leave out these images; "
            "np.argwhere(~np.isfinite(x)) finds them",
        )
    if low == high and split != "validation":  # others may validate, and these are checked later
        raise DataError(
            f"{name}: every pixel of its {split} images is {low}",
            hint="look at the data: constant images contain nothing to learn",
        )
    return _Range(float(str(low)), float(str(high)))  # as short as NumPy writes them


def _joint(ranges: Mapping[str, _Range]) -> _Range:
    return _Range(min(r.low for r in ranges.values()), max(r.high for r in ranges.values()))


def _common(name: str, ranges: Mapping[str, _Range], images: Mapping[str, Pixels]) -> _Scale:
    """Return the scale that all splits share."""
    largest = [found.largest for found in ranges.values()]
    if min(largest) < LEAST * max(largest):
        recipes = [
            found.recipe(f" in the {split} images")
            for split, found in ranges.items()
            if found.scale != _BYTES
        ]
        each = [f"from {found} in the {split} images" for split, found in ranges.items()]
        raise DataError(
            f"{name}: not one scale: values {', '.join(each)}",
            hint="; ".join([_SAVE, *recipes, "or data.range=[BLACK, WHITE] says the scale of all"]),
        )
    joint = _joint(ranges)
    if (scale := joint.scale) is None:
        black, white = map(_text, joint.likely[:2])
        recipes = [joint.recipe(), f"or say so by data.range=[{black}, {white}]"]
        if all(array.dtype == np.int8 for array in images.values()):
            recipes.insert(0, "if bytes were read as signed ones: x.view(np.uint8)")
        raise DataError(
            f"{name}: its pixels have values from {joint}: none of the scales "
            f"{', '.join(map(str, _KNOWN))}",
            hint="; ".join([_SAVE, *recipes]),
        )
    return scale


def _check_contrast(
    name: str, made: Mapping[str, Pixels], ranges: Mapping[str, _Range], scale: _Scale
) -> None:
    """Refuse a scale on which all pixels of a split would become equal."""
    for split, array in made.items():
        low, high = ends(array)
        if low == high:
            raise DataError(
                f"{name}: its {split} images have values from {ranges[split]}: where "
                f"{_text(scale.black)} is black and {_text(scale.white)} white, all of them become "
                f"{low} of 255",
                hint=f"for example data.range=[{_text(ranges[split].low)}, "
                f"{_text(ranges[split].high)}]",
            )


def _as_bytes(array: Pixels, scale: _Scale) -> Pixels:
    if array.dtype == _BYTE and scale == _BYTES:
        return array
    return changed(array, lambda part: _scaled(part, scale), _BYTE)


def _scaled(array: Array, scale: _Scale) -> UInt8[np.ndarray, "..."]:
    """Compute rint(255 (x - black) / (white - black)), in pieces that take little memory."""
    bytes_ = np.empty(array.shape, np.uint8)
    # float16 would round 255.4 up to 255.5, and that to 256
    kind = np.result_type(array, np.float32)
    rows = max(PIECE_BYTES // max(array[:1].size * kind.itemsize, 1), 1)
    for first in range(0, len(array), rows):
        part = np.subtract(array[first : first + rows], scale.black, dtype=kind)
        part *= 255 / (scale.white - scale.black)
        np.rint(part, out=part)
        bytes_[first : first + rows] = np.clip(part, 0, 255, out=part)
    return bytes_


def _notes(images: Mapping[str, Pixels], joint: _Range, scale: _Scale) -> tuple[str, ...]:
    """Say how the values were understood, where they could mean something else."""
    notes = []
    if scale != _BYTES:
        binary = all(
            ((piece == scale.black) | (piece == scale.white)).all()
            for array in images.values()
            for piece in pieces(array)
        )
        two = f"{_text(scale.black)}/{_text(scale.white)}"
        black = f"{_text(scale.black)} is black and " if scale.black else ""
        notes.append(
            f"{two} pixels: read as black and white"
            if binary
            else f"pixels from {joint}: read as intensities, where {black}{_text(scale.white)} is "
            "white"
        )
    elif any(array.dtype != np.uint8 for array in images.values()):
        notes.append(f"pixels from {joint}: read as intensities, where 255 is white")
    if scale.place(joint.high) < _DARK:
        notes.append(
            f"dark images: the brightest pixel is {_text(joint.high)}, white is "
            f"{_text(scale.white)}"
        )
    return tuple(notes)


def _told(joint: _Range, scale: _Scale) -> tuple[str, ...]:
    """Say how the values were read as a configuration says."""
    low, high = sorted(scale[:2])
    beyond = "; values beyond are cut off" if joint.low < low or joint.high > high else ""
    return (
        f"pixels from {joint}: {_text(scale.black)} is black and {_text(scale.white)} is white, as "
        f"data.range says{beyond}",
    )


def _text(value: float) -> str:
    return repr(float(value)).removesuffix(".0")
