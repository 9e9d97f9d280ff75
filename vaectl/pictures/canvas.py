"""A figure in a style, with a heading that fits. No pyplot, which has global state."""

import io
import math
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple, final

import matplotlib as mpl
from matplotlib import figure as drawn
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.ticker import LogLocator, NullLocator

from vaectl.base.errors import ConfigError
from vaectl.pictures import text
from vaectl.pictures.style import MM, Style

HIGH = 235.0
"""The height of a page in millimetres, which figures of many panels do not exceed."""
_LEAST = 8.0
"""The least height of a panel with its title and axis, in font sizes."""
PANEL = 14
"""The least width of a panel beside others, in font sizes."""
_NAMES = 0.4
"""The most of the width that the names of rows have."""


@final
class Figure(drawn.Figure):
    """A figure that is saved in the style in which it was drawn."""

    def __init__(self, style: Style, width: float, height: float, **how: Any) -> None:
        """Make an empty figure, within the context of the style's settings.

        Args:
            style: its style, which stays that of all that is drawn in it.
            width: points.
            height: points.
            how: arguments of Matplotlib's figure.
        """
        self.style = style
        super().__init__(figsize=(width / 72, height / 72), **how)

    def savefig(self, *args: Any, **kwargs: Any) -> None:
        """Save in its style: some settings, such as the names inside an SVG, only matter here."""
        with mpl.rc_context(self.style.settings()), _missing_glyphs():
            super().savefig(*args, **kwargs)

    def size(self, axes: Axes) -> tuple[float, float]:
        """Return the width and height of a panel in points, as things are placed now."""
        with mpl.rc_context(self.style.settings()), _missing_glyphs():
            self.draw_without_rendering()
        box = axes.get_window_extent()
        return 72 / self.dpi * box.width, 72 / self.dpi * box.height


@contextmanager
def _missing_glyphs() -> Iterator[None]:
    """Ignore that names of runs may have characters that the font lacks."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from font", UserWarning)
        yield


def png(figure: drawn.Figure) -> bytes:
    """Return a figure as a PNG, for a notebook."""
    file = io.BytesIO()
    figure.savefig(file, format="png")
    return file.getvalue()


def panels(
    style: Style,
    title: str,
    shapes: Sequence[float],
    *,
    width: float,
    facts: str = "",
    weights: Sequence[float] = (),
    below: int = 0,
    rows: int = 1,
    shape: float = 0.8,
) -> tuple[Figure, list[Axes], int]:
    """Make a figure with a heading and panels, beside each other if they are readable so.

    Args:
        style: its style.
        title: its own heading, which the style may replace.
        shapes: the height of each panel, in widths, if they stand below each other.
        width: its own width in millimetres, which the style may replace.
        facts: what its numbers mean, below the heading.
        weights: relative widths of panels that stand beside each other.
        below: lines of text to leave room for below the panels.
        rows: how many rows the panels make where there is room for that.
        shape: the height of panels that stand beside each other, in their widths.

    Returns:
        The figure, its panels, and how many of them stand beside each other.

    Raises:
        ConfigError: a slide has no room for so many.
    """
    wide, font, count = style.width(width), style.theme.font, len(shapes)
    fit = max(int(wide / (PANEL * font)), 1)
    each = count // rows
    columns = max(n for n in range(1, min(fit, each) + 1) if each % n == 0)
    if style.theme.slide:  # with as few rows as there is room for
        columns = math.ceil(each / math.ceil(each / fit))
    beside = columns == count
    heading = text.wrapped(style.heading(title, facts), wide - 2 * font, font)
    around = 1.5 * font * (heading.count("\n") + 1 if heading else 0) + 1.4 * font * below
    if columns == 1:
        high = sum(shape * wide + 4 * font for shape in shapes) + around
        high = min(high, max(HIGH * MM, around + 13 * font * count))
    else:
        high = -(-count // columns) * (shape * wide / columns + 4 * font) + around
    most = style.height(wide)
    if most - around < _LEAST * font * -(-count // columns):
        raise ConfigError(
            f"{count} panels have no room on a slide",
            hint="choose some numbers by --term, or --style paper",
        )
    figure = Figure(style, wide, min(high, most), layout="constrained")
    if heading:
        figure.suptitle(heading, x=0.6 * font / wide, ha="left", fontsize=font, linespacing=1.3)
    axes = figure.subplots(
        -(-count // columns),
        columns,
        squeeze=False,
        width_ratios=weights if weights and beside else None,
        height_ratios=shapes if columns == 1 else None,
    ).flat
    for unused in axes[count:]:
        unused.remove()
    return figure, list(axes[:count]), columns


class Rows(NamedTuple):
    """The names of the rows of a panel, broken so that the panel has most of the width."""

    labels: list[str]
    heights: list[float]
    """The height of each row, in rows of one line."""
    panel: float
    """Points beside the names."""
    font: float

    def beside(self, words: str) -> str:
        """Break a text above or below the panel, so that it is not cut off."""
        return text.wrapped(words, self.panel, self.font)


def rows_of(names: Sequence[str], style: Style, width: float) -> Rows:
    """Break the names of rows where they are wider than a part of the figure.

    Args:
        names: the names.
        style: the look of the figure.
        width: its own width in millimetres.
    """
    size, wide = 0.85 * style.theme.font, style.width(width)
    labels = [text.wrapped(name, _NAMES * wide, size) for name in names]
    taken = text.widest((line for label in labels for line in label.splitlines()), size)
    heights = [max(1.0, 0.6 * label.count("\n") + 0.7) for label in labels]
    return Rows(labels, heights, wide - taken - 3 * style.theme.font, style.theme.font)


def _in_legend(labels: Iterable[str], style: Style, width: float) -> list[str]:
    """Return labels as a legend below the panels has them: broken where they are too wide."""
    font = 0.85 * style.theme.font
    return [text.wrapped(label, width - 7 * font, font) for label in labels]


def legend_size(labels: Iterable[str], note: str, style: Style, width: float) -> tuple[int, int]:
    """Return the columns of a legend below the panels, and its lines with its note."""
    font, labels = 0.85 * style.theme.font, _in_legend(labels, style, width)
    widest = text.widest((line for label in labels for line in label.splitlines()), font)
    columns = max(int((width - 2 * font) / (widest + 5 * font)), 1)
    columns = min(columns, len(labels) or 1)
    rows = -(-len(labels) // columns) + sum(label.count("\n") for label in labels)
    return columns, rows + note.count("\n") + bool(note)


def handles_of(axes: Axes) -> dict[str, Artist]:
    """Return what a legend of a panel explains, by label."""
    handles, labels = axes.get_legend_handles_labels()
    return dict(zip(labels, handles, strict=True))


def legend(figure: Figure, handles: Mapping[str, Artist], note: str = "") -> None:
    """Put a legend with a note below all panels, in as many columns as fit."""
    wide = 72 * figure.get_size_inches()[0]
    columns, _ = legend_size(handles, note, figure.style, wide)
    figure.legend(
        [*handles.values()],
        _in_legend(handles, figure.style, wide),
        loc="outside lower center",
        ncols=columns,
        title=note or None,
    )


def logarithmic(axes: Axes, low: float, high: float) -> None:
    """Use a logarithmic axis with labels at 1, 2 and 5, at 1 and 3, or at 1 of each decade."""
    margin = (high / low) ** 0.05 if high > low else 1.1
    axes.set_xscale("log")
    axes.set_xlim(low / margin, high * margin)
    axes.xaxis.set_major_locator(LogLocator(subs=digits(high / low)))
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_locator(NullLocator())


def digits(ratio: float) -> tuple[int, ...]:
    """Choose the first digits of labels so that these do not run into each other.

    Args:
        ratio: the last value on the axis, in multiples of the first.
    """
    return (1, 2, 5) if ratio < 30 else (1, 3) if ratio < 3000 else (1,)
