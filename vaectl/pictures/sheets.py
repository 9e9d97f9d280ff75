"""Sheets of images with square pixels and no interpolation.

Grey images are drawn dark on white, 0 as white and 1 as black; RGB images in their colours.
"""

from collections.abc import Sequence
from typing import NamedTuple

import matplotlib as mpl
import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes

from vaectl.base import memory
from vaectl.base.errors import ConfigError
from vaectl.pictures.figures import STYLE, Figure, plain

_DPI = 200
_TARGET = 1100
"""Approximate width of a sheet in pixels; images are enlarged by a whole factor."""
_MOST = 2**16
"""Largest width and height in pixels that Matplotlib can draw."""
_BYTES = 90
"""Memory for each pixel of a sheet while it is drawn; measured."""
_GAP = 2
"""Image pixels between two images."""
_MARGIN, _TITLE, _HEADING = 24, 84, 36
_LEFT, _BELOW, _AXIS = 76, 28, 44
"""Pixels for labels to the left, labels below, and the names of axes."""
_CHARACTER = 12
"""Approximate width of a character of the title, in pixels."""


class Panel(NamedTuple):
    """Images in rows and columns, with a heading and labels."""

    images: Float[np.ndarray, "rows columns h w *channels"]
    """Grey without an axis for channels, RGB with three; of other channels the mean is drawn."""
    heading: str = ""
    row_labels: Sequence[str] = ()
    column_labels: Sequence[str] = ()
    x_label: str = ""
    y_label: str = ""


def near_square(
    images: Float[np.ndarray, "count h w *channels"],
) -> Float[np.ndarray, "rows columns h w *channels"]:
    """Arrange images in about as many rows as columns, with blank images at the end."""
    columns = int(np.ceil(np.sqrt(len(images))))
    rows = -(-len(images) // columns)
    white = _white(images.shape[3:])
    blank = np.full((rows * columns - len(images), *images.shape[1:]), white, images.dtype)
    return np.concatenate([images, blank]).reshape(rows, columns, *images.shape[1:])


class _Layout(NamedTuple):
    """Sizes in pixels of the sheet."""

    scale: int
    """The width of an image's pixel."""
    left: int
    above: int
    below: int
    """Margins of each panel."""
    width: int
    height: int


def sheet(panels: Sequence[Sequence[Panel]], *, title: str) -> Figure:
    """Draw rows of panels below a title.

    Raises:
        ConfigError: the sheet is too large to draw.
    """
    tiles = [[_tile(panel.images) for panel in row] for row in panels]
    scale, left, above, below, width, height = _layout(panels, tiles, title)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(width / _DPI, height / _DPI), dpi=_DPI)
        figure.text(
            *(_MARGIN / width, 1 - 18 / height, plain(title)),
            va="top",
            fontsize=8,
            linespacing=1.3,
            parse_math=False,
        )
        top = _TITLE
        for row, row_tiles in zip(panels, tiles, strict=True):
            x = 0
            for panel, tile in zip(row, row_tiles, strict=True):
                x += left
                h, w = scale * tile.shape[0], scale * tile.shape[1]
                bottom = height - top - above - h
                axes = figure.add_axes((x / width, bottom / height, w / width, h / height))
                # "none" also keeps a viewer of the SVG from interpolating
                axes.imshow(tile, cmap="gray_r", vmin=0, vmax=1, interpolation="none")
                _label(axes, panel)
                x += w
            top += above + scale * max(tile.shape[0] for tile in row_tiles) + below
    return figure


def _layout(
    panels: Sequence[Sequence[Panel]], tiles: Sequence[Sequence[np.ndarray]], title: str
) -> _Layout:
    every = [panel for row in panels for panel in row]
    left = _MARGIN + _LEFT * any(p.row_labels for p in every)
    left += _AXIS * any(p.y_label for p in every)
    above = _HEADING * any(p.heading for p in every)
    below = _MARGIN + _BELOW * any(p.column_labels for p in every)
    below += _AXIS * any(p.x_label for p in every)
    widest = max(sum(tile.shape[1] for tile in row) for row in tiles)
    scale = max(2, round(_TARGET / widest))
    width = max(sum(left + scale * tile.shape[1] for tile in row) for row in tiles) + _MARGIN
    width = max(width, 2 * _MARGIN + _CHARACTER * max(map(len, title.splitlines()), default=0))
    heights = [above + scale * max(tile.shape[0] for tile in row) + below for row in tiles]
    height = _TITLE + sum(heights)
    too_much = memory.excess(_BYTES * width * height)
    if too_much or max(width, height) >= _MOST:
        raise ConfigError(
            f"a sheet of {width} x {height} pixels {too_much or 'is too large to draw'}",
            hint="use fewer images",
        )
    return _Layout(scale, left, above, below, width, height)


def _label(axes: Axes, panel: Panel) -> None:
    rows, columns, h, w = panel.images.shape[:4]
    axes.set_xticks(_centres(len(panel.column_labels) and columns, w), panel.column_labels)
    axes.set_yticks(_centres(len(panel.row_labels) and rows, h), panel.row_labels)
    axes.tick_params(length=0, labelsize=6, pad=2)
    axes.set_xlabel(panel.x_label, fontsize=8, labelpad=2)
    axes.set_ylabel(panel.y_label, fontsize=8, labelpad=2)
    axes.set_title(panel.heading, fontsize=8, loc="left", pad=4)
    axes.grid(visible=False)
    for spine in axes.spines.values():
        spine.set_visible(False)


def _centres(count: int, size: int) -> Float[np.ndarray, " count"]:
    return np.arange(count) * (size + _GAP) + (size - 1) / 2


def _tile(
    images: Float[np.ndarray, "rows columns h w *channels"],
) -> Float[np.ndarray, "height width *rgb"]:
    """Join images into one array, with thin white gaps."""
    if images.shape[4:] not in ((), (3,)):
        images = images.mean(axis=-1)
    rows, columns, h, w, *rgb = images.shape
    spaced = np.full((rows, h + _GAP, columns, w + _GAP, *rgb), _white(rgb), np.float32)
    spaced[:, :h, :, :w] = images.swapaxes(1, 2).clip(0, 1)
    return spaced.reshape(rows * (h + _GAP), columns * (w + _GAP), *rgb)[:-_GAP, :-_GAP]


def _white(channels: Sequence[int]) -> int:
    """Return the value that is drawn as white in images with such channels."""
    return int(tuple(channels) == (3,))
