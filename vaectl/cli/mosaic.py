"""Pictures in a terminal: two pixels in each character cell."""

from functools import cache

import numpy as np
from jaxtyping import Float
from rich.style import Style
from rich.text import Text

LEVELS = 24
"""Levels of brightness; a terminal of 256 colours has as many greys."""
SMALLEST, LARGEST = 10, 14
"""The least and the largest width of a picture in cells; smaller ones are hard to recognize."""


def fits(columns: int, lines: int) -> tuple[int, int, int]:
    """Return how many pictures fit beside and above each other, and how many cells wide each is.

    Args:
        columns: the width of the terminal, in cells.
        lines: the height that may be used; a cell is two pixels high.
    """
    size = int(np.clip(min(columns // 8, 2 * lines // 4), SMALLEST, LARGEST))
    size -= size % 2  # pictures begin at the upper edge of a cell
    return max(columns // size, 1), max(2 * lines // size, 1), size


def mosaic(images: Float[np.ndarray, "rows columns h w channels"], size: int) -> Text:
    """Draw a grid of grey pictures with upper half blocks, each `size` cells wide; 1 is white."""
    rows, columns = images.shape[:2]
    grey = images.mean(axis=-1)
    small = np.stack([_shrunk(image, size) for image in grey.reshape(-1, *grey.shape[2:])])
    whole = small.reshape(rows, columns, size, size).swapaxes(1, 2).reshape(rows * size, -1)
    levels = np.rint(np.clip(whole, 0, 1) * (LEVELS - 1)).astype(int).tolist()
    text = Text(no_wrap=True, end="")
    for upper, lower in zip(levels[::2], levels[1::2], strict=True):
        for pair in zip(upper, lower, strict=True):
            text.append("▀", _style(*pair))
        text.append("\n")
    return text


def _shrunk(image: Float[np.ndarray, "h w"], size: int) -> Float[np.ndarray, "size size"]:
    from PIL import Image

    picture = Image.fromarray(image.astype(np.float32))
    return np.asarray(picture.resize((size, size), Image.Resampling.BOX))


@cache
def _style(upper: int, lower: int) -> Style:
    return Style.parse(f"{_grey(upper)} on {_grey(lower)}")


def _grey(level: int) -> str:
    value = round(255 * level / (LEVELS - 1))
    return f"#{value:02x}{value:02x}{value:02x}"
