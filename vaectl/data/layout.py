"""The layout of image arrays: which axis counts images, rows, columns and channels."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from vaectl.base.errors import DataError
from vaectl.data.stored import Pixels

_STACK_OF = {1: "x[np.newaxis]", 3: "x[np.newaxis]", 4: "x[np.newaxis, ..., :3]"}
"""NumPy code that turns a single image into a stack of one, by the length of its last axis."""
_LEAST_SIDE = 4
"""The least height and width that are guessed for images in rows of numbers, unless square."""
_LONGEST = 2
"""The longest such image, in multiples of its shorter side."""


class Laid(NamedTuple):
    """Images x height x width, with a last axis of 3 channels where they are RGB."""

    images: Pixels
    note: str = ""
    """A note on how the layout was understood, if other layouts were possible."""


def images(name: str, array: Pixels, shape: Sequence[int] | None = None) -> Laid:
    """Find out which axis of an array is which.

    Args:
        name: of the array, for messages.
        array: of images. An axis of length 1 for the channel may come last or second, and one of
            length 3 too; or all numbers of an image may stand in one row.
        shape: the shape of each image, where it is known.

    Raises:
        DataError: the array has other axes, has no images, or its layout is ambiguous.
    """
    if 0 in array.shape:
        raise _refusal(name, array, "save at least one image")
    note = ""
    if shape is not None:
        array = _shaped(name, array, shape)
    elif array.ndim == 2:
        array, note = _of_rows(name, array)
    elif array.ndim == 3 and _is_one_image(array.shape):
        raise _refusal(
            name,
            array,
            f"for one image: {_STACK_OF[array.shape[-1]]}; "
            "for grey images of that width: x[..., np.newaxis]",
        )
    match array.shape:
        case (_, _, _):
            return Laid(array, note)
        case (count, height, width, 1) | (count, 1, height, width):
            return Laid(array.reshape(count, height, width), note)
        case (_, _, _, 3):
            return Laid(array, note)
        case (_, 3, height, width):
            said = note or f"images of shape 3 x {height} x {width}: read as RGB, channels first"
            return Laid(_channels_last(array), said)
    raise _refusal(name, array, _hint(array.shape))


def is_picture(numbers: int) -> bool:
    """Tell whether a count of numbers fits a square image, grey or RGB."""
    sides = {channels: math.isqrt(numbers // channels) for channels in (1, 3)}
    return any(
        side >= _LEAST_SIDE and channels * side * side == numbers
        for channels, side in sides.items()
    )


def _shaped(name: str, array: Pixels, shape: Sequence[int]) -> Pixels:
    """Give each image the shape that the configuration says."""
    if math.prod(array.shape[1:]) != math.prod(shape):
        raise DataError(
            f"{name} has {math.prod(array.shape[1:])} numbers for each image, and data.shape="
            f"{[*shape]} says {math.prod(shape)}",
            hint=f"the array has the shape {array.shape}",
        )
    sides, known = ([n for n in axes if n != 1] for axes in (shape, array.shape[1:]))
    if array.ndim > 2 and sides != known:
        raise DataError(
            f"{name}: its images have the axes {array.shape[1:]}, and data.shape={[*shape]} has "
            "others",
            hint="data.shape is for rows of numbers; np.moveaxis moves axes",
        )
    return array.reshape(len(array), *shape)


def _of_rows(name: str, array: Pixels) -> tuple[Pixels, str]:
    """Make images of rows of numbers, if they can be images of one shape only."""
    count, numbers = array.shape
    side = math.isqrt(numbers)
    if side * side == numbers:
        note = f"rows of {numbers} numbers: read as images of {side}x{side} pixels"
        return array.reshape(count, side, side), note
    shapes = _possible(numbers)
    if not shapes:
        note = (
            f"rows of {numbers} numbers: read as images of {numbers}x1 pixels; "
            "data.shape=[HEIGHT, WIDTH] says otherwise"
        )
        return array.reshape(count, 1, numbers), note
    ways = [f"data.shape={shape} for {what}" for shape, what in shapes]
    one = count <= 4 * numbers and numbers <= 4 * count
    recipe = [f"for flat images: x.reshape(-1, {', '.join(map(str, shapes[0][0]))})"]
    raise DataError(
        f"{name} has the shape {array.shape}, and {numbers} numbers may be images of several "
        "shapes",
        hint="; ".join(["for one image: x[np.newaxis]"] * one + ways + recipe),
    )


def _possible(numbers: int) -> list[tuple[list[int], str]]:
    """Return possible shapes for a count of numbers, the likeliest first, with descriptions."""
    found: list[tuple[list[int], str]] = []
    side = math.isqrt(numbers // 3)
    if side >= _LEAST_SIDE and 3 * side * side == numbers:
        found += [
            ([side, side, 3], "RGB with the channels of each pixel together"),
            ([3, side, side], "RGB, channel after channel"),
        ]
    short = next((n for n in range(math.isqrt(numbers), 0, -1) if numbers % n == 0), 1)
    long = numbers // short
    if short >= _LEAST_SIDE and long <= _LONGEST * short:
        found += [([long, short], "grey, upright"), ([short, long], "grey, broad")]
    return [*found, ([1, numbers], "rows of numbers")] if found else []


def _channels_last(array: Pixels) -> Pixels:
    count, channels, height, width = array.shape
    if isinstance(array, np.ndarray):
        return np.ascontiguousarray(np.moveaxis(array, 1, -1))
    moved = array.map(lambda part, _: np.moveaxis(part, 1, -1), array.dtype)
    return moved.reshape(count, height, width, channels)


def _is_one_image(shape: tuple[int, ...]) -> bool:
    """Tell whether the last axis looks like channels, and the first two like sides of an image."""
    height, width, channels = shape
    small, large = sorted((height, width))
    return channels in _STACK_OF and small >= 8 and large <= 4 * small


def _refusal(name: str, array: Pixels, hint: str) -> DataError:
    return DataError(
        f"{name} has the shape {array.shape}, not (images, height, width) or "
        "(images, height, width, 3)",
        hint=hint,
    )


def _hint(shape: tuple[int, ...]) -> str:
    match shape:
        case (_, _, _, 4):
            return "for RGB images with opacity: x[..., :3]"
        case (_, 4, _, _):
            return "for RGB images with opacity whose channels come first: x[:, :3]"
    return "save images as uint8, images x height x width"
