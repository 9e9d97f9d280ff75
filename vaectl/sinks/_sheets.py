"""Pictures of a model, laid out as trackers show them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from vaectl.base.section import Count
from vaectl.sinks.base import Pictures, Sink

if TYPE_CHECKING:
    from jaxtyping import Float


class Shows(Sink):
    """A sink that shows samples and reconstructions."""

    images_every: Count | None = 10
    """Epochs between samples and reconstructions; the last epoch always has them. null: none."""

    @property
    def pictures_every(self) -> int | None:
        """The setting `images_every`."""
        return self.images_every


def sheets(pictures: Pictures) -> dict[str, Float[np.ndarray, "height width c"]]:
    """Return two pictures: samples; and images with their reconstructions below them."""
    pairs = np.concatenate([pictures.images, pictures.reconstructions])
    named = {"samples": pictures.samples, "reconstructions": pairs}
    return {
        name: tiled(images, min(8, -(-len(images) // 2)))
        for name, images in named.items()
        if len(images)
    }


def tiled(
    images: Float[np.ndarray, "count h w channels"], columns: int
) -> Float[np.ndarray, "height width c"]:
    """Lay images of numbers in [0, 1] out in rows, grey unless they are RGB.

    The grey of other channels is their mean. Missing images are black.
    """
    shown = np.clip(images, 0, 1)
    if shown.shape[-1] != 3:
        shown = shown.mean(axis=-1, keepdims=True)
    count, height, width, channels = shown.shape
    rows = -(-count // columns)
    sheet = np.zeros((rows * columns, height, width, channels), np.float32)
    sheet[:count] = shown
    tiles = sheet.reshape(rows, columns, height, width, channels).transpose(0, 2, 1, 3, 4)
    return tiles.reshape(rows * height, columns * width, channels)
