"""The layout of image arrays: which axis counts images, rows, columns and channels."""

import math
from typing import Any

import numpy as np

from vaectl.base.errors import DataError

Array = np.ndarray[Any, Any]

_GREY_OF = {
    1: "x[np.newaxis]",
    3: "x.mean(axis=-1)[np.newaxis]",
    4: "x[..., :3].mean(axis=-1)[np.newaxis]",
}
"""What makes a stack of one grey image of an image with so many channels."""


def images(name: str, array: Array) -> Array:
    """Return images of one channel as images x height x width.

    Args:
        name: of the array, for messages.
        array: of images; an axis of length 1 for the channel may come last or second.

    Raises:
        DataError: other axes, no images, or what looks like one image with channels.
    """
    if array.ndim == 4 and array.shape[-1] == 1:
        array = array[..., 0]
    elif array.ndim == 4 and array.shape[1] == 1:
        array = array[:, 0]
    elif array.ndim == 3 and _is_one_image(array.shape):
        hint = f"for one image: {_GREY_OF[array.shape[-1]]}"
        if array.shape[-1] > 1:
            hint = f"for one image, as grey levels: {_GREY_OF[array.shape[-1]]}"
        raise _refusal(
            name, array, f"{hint}; for images of that width and one channel: x[..., np.newaxis]"
        )
    if array.ndim != 3 or array.size == 0:
        raise _refusal(name, array, _hint(array.shape))
    return array


def _is_one_image(shape: tuple[int, ...]) -> bool:
    """Whether the last axis looks like channels, and the first two like the sides of an image."""
    height, width, channels = shape
    small, large = sorted((height, width))
    return channels in _GREY_OF and small >= 8 and large <= 4 * small


def _refusal(name: str, array: Array, hint: str) -> DataError:
    return DataError(f"{name} has the shape {array.shape}, not (images, height, width)", hint=hint)


def _hint(shape: tuple[int, ...]) -> str:
    match shape:
        case _ if 0 in shape:
            return "save at least one image"
        case (_, _, _, 3 | 4 as channels):
            colours = "x" if channels == 3 else "x[..., :3]"
            return f"for colour images, as grey levels: {colours}.mean(axis=-1)"
        case (_, 3 | 4 as channels, _, _):
            colours = "x" if channels == 3 else "x[:, :3]"
            return f"for colour images, as grey levels: {colours}.mean(axis=1)"
        case (first, pixels):
            side = math.isqrt(pixels)
            square = side * side == pixels and side > 1
            sides = f"{side}, {side}" if square else "height, width"
            hints = [f"for flat images: x.reshape(-1, {sides})"]
            if first <= 4 * pixels and pixels <= 4 * first:
                hints.insert(0, "for one image: x[np.newaxis]")
            return "; ".join(hints)
    return "save grey images as uint8, images x height x width"
