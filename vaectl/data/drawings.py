"""Drawings and photographs: which images look best as ink on paper."""

import numpy as np
from jaxtyping import UInt8

from vaectl.data.stored import Stored

_ENOUGH = 1000
"""Images to look at."""
_NEARLY_BLACK, _NEARLY_WHITE = 64, 192
_PART = 0.85
"""The least part of a drawing's pixels that is nearly black or white; of MNIST it is 0.95."""


def are_drawings(images: UInt8[np.ndarray, "images height width *channels"] | Stored) -> bool:
    """Tell drawings on a black background, such as MNIST's digits, from photographs.

    The border of a drawing is black, and its pixels are nearly black or nearly white. Photographs
    with a black border, such as those of a night sky or a scan of a brain, have other greys.

    Args:
        images: their intensities, before binarization.
    """
    some = np.asarray(images[:: -(-len(images) // _ENOUGH)])
    border = [some[:, 0], some[:, -1], some[:, :, 0], some[:, :, -1]]
    black = np.median(np.concatenate([edge.ravel() for edge in border])) == 0
    extreme = np.mean((some < _NEARLY_BLACK) | (some >= _NEARLY_WHITE))
    return bool(black and extreme >= _PART)
