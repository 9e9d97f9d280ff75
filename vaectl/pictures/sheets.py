"""Sheets of images with square pixels and no interpolation.

Grey images are drawn as ink, 1 black on 0 white, or as light, 1 white on 0 black; RGB images in
their colours.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import matplotlib as mpl
import numpy as np
from jaxtyping import Float, UInt8
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb

from vaectl.base import memory
from vaectl.base.errors import ConfigError
from vaectl.pictures import text
from vaectl.pictures.canvas import Figure
from vaectl.pictures.style import DEFAULT, Style

WIDTH = 140.0
"""Millimetres of a sheet whose style has no width."""
_MOST = 2**16
"""Largest width and height in pixels that Matplotlib can draw."""
_BYTES = 90
"""Memory for each pixel of a sheet while it is drawn; measured."""
_GAP = 2
"""Image pixels between two images."""


class Panel(NamedTuple):
    """Images in rows and columns, with a heading and labels."""

    images: Float[np.ndarray, "rows columns h w *channels"]
    """Grey without an axis for channels, RGB with three; of other channels the mean is drawn. NaN
    is drawn as the background."""
    heading: str = ""
    row_labels: Sequence[str] = ()
    column_labels: Sequence[str] = ()
    """The labels of columns; where there is no room for all, some are left out."""
    x_label: str = ""
    y_label: str = ""


def filling(most: int, style: Style = DEFAULT) -> int:
    """Return how many images fill their rows and columns in `near_square`, large enough to be seen.

    Args:
        most: their largest number.
        style: the look.
    """
    wide, there = _wide(style), room(style)
    rows = max(min(math.isqrt(most // wide), there.rows, there.columns // wide), 1)
    return rows * rows * wide


def _wide(style: Style) -> int:
    return 2 if style.theme.slide else 1


class Room(NamedTuple):
    """The numbers of images that stand beside and below each other, large enough to be seen."""

    columns: int
    rows: int


def room(style: Style, panels: int = 1, *, labelled: bool = False) -> Room:
    """Return how many images there is room for.

    Args:
        style: the look.
        panels: how many panels stand beside each other.
        labelled: whether rows and columns have labels and axes.
    """
    width, font = style.width(WIDTH), style.theme.font
    across = (width - font) / panels - (5 if labelled else 1) * font
    down = style.height(width) - (10 if labelled else 8.5) * font
    columns, rows = (max(int(min(points, 1e6) / style.least_image), 1) for points in (across, down))
    return Room(columns, rows)


def near_square(
    images: Float[np.ndarray, "count h w *channels"], style: Style = DEFAULT
) -> Float[np.ndarray, "rows columns h w *channels"]:
    """Arrange images in about as many rows as columns; on a slide twice as many columns.

    Among the nearly square arrangements it is the one with the fewest blank images, of NaN, which
    come at the end.
    """
    count, wide = len(images), _wide(style)
    best = math.ceil(math.sqrt(wide * count))
    known = range(math.ceil(0.75 * best), math.floor(1.34 * best) + 1)
    columns = min(known, key=lambda n: (-count % n, abs(n - best), -n))
    rows = -(-count // columns)
    blank = np.full((rows * columns - len(images), *images.shape[1:]), np.nan, images.dtype)
    return np.concatenate([images, blank]).reshape(rows, columns, *images.shape[1:])


class _Layout(NamedTuple):
    """Sizes of a sheet in pixels."""

    dpi: int
    scale: int
    """The width of an image's pixel."""
    top: int
    left: int
    above: int
    below: int
    """The heading of the sheet, and margins of each panel."""
    width: int
    height: int
    heading: str


def sheet(
    panels: Sequence[Sequence[Panel]], *, title: str, facts: str = "", style: Style = DEFAULT
) -> Figure:
    """Draw rows of panels below a title and facts, see `Style.heading`.

    Each pixel of an image is a square of whole pixels.

    Raises:
        ConfigError: the sheet is too large to draw, or there is no room for images.
    """
    tiles = [[_tile(panel.images, style) for panel in row] for row in panels]
    layout = _layout(panels, tiles, style, style.heading(title, facts))
    dpi, scale, width, height = layout.dpi, layout.scale, layout.width, layout.height
    with mpl.rc_context(style.settings()):
        # a little more, for Matplotlib rounds the product down
        size = (72 * (width + 1e-3) / dpi, 72 * (height + 1e-3) / dpi)
        figure = Figure(style, *size, dpi=dpi)
        font = style.theme.font
        if layout.heading:
            figure.text(
                *(font / size[0], 1 - 0.8 * font / size[1], layout.heading),
                va="top",
                linespacing=1.3,
            )
        top = layout.top
        for row, row_tiles in zip(panels, tiles, strict=True):
            wide = sum(layout.left + scale * tile.shape[1] for tile in row_tiles)
            x = (width - wide - round(font * dpi / 72)) // 2 if style.theme.slide else 0
            for panel, tile in zip(row, row_tiles, strict=True):
                x += layout.left
                h, w = scale * tile.shape[0], scale * tile.shape[1]
                bottom = height - top - layout.above - h
                axes = figure.add_axes((x / width, bottom / height, w / width, h / height))
                # "none" also keeps a viewer of the SVG from interpolating
                axes.imshow(_opaque(tile), interpolation="none")
                _label(axes, panel, style, 72 * scale / dpi)
                x += w
            high = max(tile.shape[0] for tile in row_tiles)
            top += layout.above + scale * high + layout.below
    return figure


def _opaque(tile: UInt8[np.ndarray, "h w 3"]) -> UInt8[np.ndarray, "h w 4"]:
    """Add opacity to the colours of a tile: so Matplotlib enlarges it in a third of the time."""
    return np.pad(tile, ((0, 0), (0, 0), (0, 1)), constant_values=255)


def _layout(
    panels: Sequence[Sequence[Panel]],
    tiles: Sequence[Sequence[np.ndarray]],
    style: Style,
    title: str,
) -> _Layout:
    every = [panel for row in panels for panel in row]
    font, small, width = style.theme.font, style.small, style.width(WIDTH)
    heading = text.wrapped(title, width - 2 * font, font)
    top = 1.2 * font + (1.5 * font * (heading.count("\n") + 1) if heading else 0.0)
    names = [label for panel in every for label in panel.row_labels]
    left = font + (text.widest(names, small) + 0.4 * small if names else 0.0)
    left += 1.8 * small * any(panel.y_label for panel in every)
    above = 1.7 * font * any(panel.heading for panel in every)
    below = font + 1.4 * small * any(panel.column_labels for panel in every)
    below += 1.8 * small * any(panel.x_label for panel in every)
    # points for each pixel of an image, so that the widest row fits, and all rows
    pixel = min(
        (width - font - left * len(row)) / sum(tile.shape[1] for tile in row) for row in tiles
    )
    around = top + len(panels) * (above + below)
    rows = sum(max(tile.shape[0] for tile in row) for row in tiles)
    pixel = min(pixel, (style.height(width) - around) / rows)
    if pixel <= 0:
        raise ConfigError(
            "no room is left for images beside their labels",
            hint="use a larger --width, or fewer images",
        )
    scale = max(round(pixel * style.theme.dpi / 72), 1)
    dpi = math.ceil(72 * scale / pixel)

    above_, below_, top_, left_, width_ = (
        round(points * dpi / 72) for points in (above, below, top, left, width)
    )
    height = top_ + scale * rows + len(panels) * (above_ + below_)
    layout = _Layout(dpi, scale, top_, left_, above_, below_, width_, height, heading)
    too_much = memory.excess(_BYTES * layout.width * layout.height)
    if too_much or max(layout.width, layout.height) >= _MOST:
        raise ConfigError(
            f"a sheet of {layout.width} x {layout.height} pixels "
            f"{too_much or 'is too large to draw'}",
            hint="use fewer images",
        )
    return layout


def _label(axes: Axes, panel: Panel, style: Style, pixel: float) -> None:
    """Write the labels of a panel, whose images have pixels of so many points."""
    rows, columns, h, w = panel.images.shape[:4]
    small = style.small
    # labels that are a little too wide are written smaller; of others, some are left out
    across = text.widest(panel.column_labels, 1) + 0.4
    room = (w + _GAP) * pixel
    narrow = min(max(room / across, style.smallest), small) if panel.column_labels else small
    for labels, count, size, need, set_ticks in (
        (panel.column_labels, columns, w, across * narrow, axes.set_xticks),
        (panel.row_labels, rows, h, 1.1 * small, axes.set_yticks),
    ):
        every = max(math.ceil(need / ((size + _GAP) * pixel) - 1e-6), 1)
        centres = np.arange(len(labels) and count) * (size + _GAP) + (size - 1) / 2
        set_ticks(centres, [text.plain(name) * (i % every == 0) for i, name in enumerate(labels)])
    axes.tick_params(length=0, labelsize=small, pad=0.3 * small)
    axes.tick_params(axis="x", labelsize=narrow)
    axes.set_xlabel(panel.x_label, fontsize=small, labelpad=0.2 * small)
    axes.set_ylabel(panel.y_label, fontsize=small, labelpad=0.2 * small)
    axes.set_title(panel.heading, loc="left", pad=0.5 * style.theme.font)
    axes.grid(visible=False)
    for spine in axes.spines.values():
        spine.set_visible(False)


def _tile(
    images: Float[np.ndarray, "rows columns h w *channels"], style: Style
) -> UInt8[np.ndarray, "height width 3"]:
    """Join images into one picture, with thin gaps."""
    if images.shape[4:] == (3,):
        colours = images
    else:
        grey = images.mean(axis=-1) if images.ndim == 5 else images
        grey = grey if style.polarity == "light" else 1 - grey
        colours = np.repeat(grey[..., None], 3, axis=-1)
    paper = np.asarray(to_rgb(style.theme.paper))
    rows, columns, h, w, _ = colours.shape
    spaced = np.empty((rows, h + _GAP, columns, w + _GAP, 3), np.uint8)
    spaced[:] = np.rint(255 * paper)
    shown = np.where(np.isnan(colours), paper, colours.clip(0, 1))
    spaced[:, :h, :, :w] = np.rint(255 * shown).swapaxes(1, 2)
    blank = int(np.isnan(colours[-1]).all(axis=(1, 2, 3)).sum())
    if 0 < blank < columns:  # they come last: what is left of the row stands in its middle
        row = spaced[-1].reshape(h + _GAP, -1, 3)
        spaced[-1] = np.roll(row, blank * (w + _GAP) // 2, axis=1).reshape(spaced[-1].shape)
    return spaced.reshape(rows * (h + _GAP), columns * (w + _GAP), 3)[:-_GAP, :-_GAP]
