"""Images side by side in one picture."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float


def tiled(
    images: Float[np.ndarray, "count h w c"], columns: int
) -> Float[np.ndarray, "height width c"]:
    """Lay images of numbers in [0, 1] out in rows; missing ones are black."""
    count, height, width, channels = images.shape
    rows = -(-count // columns)
    sheet = np.zeros((rows * columns, height, width, channels), np.float32)
    sheet[:count] = np.clip(images, 0, 1)
    tiles = sheet.reshape(rows, columns, height, width, channels).transpose(0, 2, 1, 3, 4)
    return tiles.reshape(rows * height, columns * width, channels)
