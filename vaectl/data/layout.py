"""The layout of image arrays: which axis counts images, rows, columns and channels."""

import math

import numpy as np
from jaxtyping import Int32

from vaectl.base.errors import DataError
from vaectl.data.stored import Pixels

_STACK_OF = {1: "x[np.newaxis]", 3: "x[np.newaxis]", 4: "x[np.newaxis, ..., :3]"}
"""Code that makes a stack of one image of an image with so many channels."""


def images(name: str, array: Pixels) -> Pixels:
    """Return grey images as images x height x width, and RGB ones with a last axis of 3 channels.

    Args:
        name: of the array, for messages.
        array: of images; an axis of length 1 for the channel may come last or second.

    Raises:
        DataError: other axes, no images, or what looks like one image with channels.
    """
    if array.ndim == 4 and array.shape[-1] == 1:
        array = array.reshape(*array.shape[:3])
    elif array.ndim == 4 and array.shape[1] == 1:
        array = array.reshape(len(array), *array.shape[2:])
    elif array.ndim == 3 and _is_one_image(array.shape):
        raise _refusal(
            name,
            array,
            f"for one image: {_STACK_OF[array.shape[-1]]}; "
            "for grey images of that width: x[..., np.newaxis]",
        )
    colour = array.ndim == 4 and array.shape[-1] == 3
    if not (array.ndim == 3 or colour) or array.size == 0:
        raise _refusal(name, array, _hint(array.shape))
    return array


def labels(name: str, array: Pixels, images: str, count: int) -> Int32[np.ndarray, " images"]:
    """Return labels as they are kept.

    Args:
        name: of the array, for messages.
        array: of labels.
        images: the name of the array with their images.
        count: the number of these images.

    Raises:
        DataError: they are not one integer for each image.
    """
    if array.shape != (count,) or array.dtype.kind not in "iu":
        raise DataError(
            f"{name} must hold one integer for each image of {images}; "
            f"it is of type {array.dtype} and shape {array.shape}",
            hint="correct it, or leave it out: labels only colour pictures",
        )
    return np.asarray(array).astype("int32")


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
        case _ if 0 in shape:
            return "save at least one image"
        case (_, _, _, 4):
            return "for RGB images with opacity: x[..., :3]"
        case (_, 3 | 4, _, _):
            return "for RGB images whose channels come first: np.moveaxis(x[:, :3], 1, -1)"
        case (first, pixels):
            side = math.isqrt(pixels)
            square = side * side == pixels and side > 1
            sides = f"{side}, {side}" if square else "height, width"
            hints = [f"for flat images: x.reshape(-1, {sides})"]
            if first <= 4 * pixels and pixels <= 4 * first:
                hints.insert(0, "for one image: x[np.newaxis]")
            return "; ".join(hints)
    return "save images as uint8, images x height x width"
