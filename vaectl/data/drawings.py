"""Drawings and photographs: which images look best as ink on paper."""

import numpy as np
from jaxtyping import Bool, UInt8

from vaectl.data.stored import Stored

_IMAGES, _PIXELS = 1000, 2**24
"""The most images to examine, and the most pixels of all of them together."""
_NEARLY_BLACK, _NEARLY_WHITE = 64, 192
_WHITE = 0.5
"""The least part of a drawing's lines that is nearly white; of MNIST's it is 0.68."""
_THICK = 1 / 6
"""The width from which a line counts as an area, as a part of the height of an image."""
_AREAS = 0.1
"""The largest part of a drawing's lines that lies inside of areas; of MNIST's it is 0.01, of
filled shapes such as shirts 0.3 or more."""


def are_drawings(images: UInt8[np.ndarray, "images height width *channels"] | Stored) -> bool:
    """Tell drawings on a black background, such as MNIST's digits, from photographs.

    The border of a drawing is black, and its lines are thin and nearly white. A photograph with a
    black border, of clothes, a night sky or a scan of a brain, has other greys, or large areas;
    areas remain where it was binarized.

    Args:
        images: their grey intensities, before binarization.
    """
    height, width = images.shape[1:3]
    count = max(min(_IMAGES, _PIXELS // int(np.prod(images.shape[1:]))), 1)
    some = np.asarray(images[:: -(-len(images) // count)]).reshape(-1, height, width)
    border = [some[:, 0], some[:, -1], some[:, :, 0], some[:, :, -1]]
    if np.median(np.concatenate([edge.ravel() for edge in border])) > 0:
        return False
    lines = some >= _NEARLY_BLACK
    white = np.sum(some >= _NEARLY_WHITE) >= _WHITE * lines.sum()
    return bool(white and _in_areas(lines, height) <= _AREAS * lines.sum())


def _in_areas(lines: Bool[np.ndarray, "images height width"], height: int) -> int:
    """Count the pixels in the middle of a square of lines that is as wide as an area."""
    side = max(round(_THICK * height), 2)
    sums = lines.cumsum(1, dtype=np.int32).cumsum(2, dtype=np.int32)
    sums = np.pad(sums, ((0, 0), (1, 0), (1, 0)))
    squares = (
        sums[:, side:, side:]
        - sums[:, :-side, side:]
        - sums[:, side:, :-side]
        + sums[:, :-side, :-side]
    )
    return int(np.sum(squares == side**2))
