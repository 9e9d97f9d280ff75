"""A figure in a style, with a heading that fits. No pyplot, which has global state."""

import io
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, final

import matplotlib as mpl
from matplotlib import figure as drawn
from matplotlib.axes import Axes

from vaectl.base.errors import ConfigError
from vaectl.pictures import text
from vaectl.pictures.style import Style

FORMATS = ("png", "svg", "pdf")


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
        with mpl.rc_context(self.style.settings()), warnings.catch_warnings():
            # names of runs may have characters that the font lacks
            warnings.filterwarnings("ignore", "Glyph .* missing from font", UserWarning)
            super().savefig(*args, **kwargs)


def png(figure: drawn.Figure) -> bytes:
    """Return a figure as a PNG, for a notebook."""
    file = io.BytesIO()
    figure.savefig(file, format="png")
    return file.getvalue()


def check_format(out: Path) -> None:
    """Refuse a file whose ending is no format of figures, before anything is computed.

    Raises:
        ConfigError: it is not.
    """
    if out.suffix.lower()[1:] not in FORMATS:
        raise ConfigError(
            f"--out {out}: unknown format",
            hint="end it in .png, .svg or .pdf; films, of --animate, end in .gif or .mp4",
        )


def panels(
    style: Style,
    title: str,
    shapes: Sequence[float],
    *,
    width: float,
    weights: Sequence[float] = (),
    below: int = 0,
) -> tuple[Figure, list[Axes], int]:
    """Make a figure with a heading and panels, beside each other if they are readable so.

    Args:
        style: its style.
        title: its own heading, which the style may replace.
        shapes: the height of each panel, in widths, if they stand below each other.
        width: its own width in millimetres, which the style may replace.
        weights: relative widths of panels that stand beside each other.
        below: lines of text to leave room for below the panels.

    Returns:
        The figure, its panels, and how many of them stand beside each other.
    """
    wide, font, count = style.width(width), style.theme.font, len(shapes)
    fit = max(int(wide / (14 * font)), 1)
    columns = max(n for n in range(1, min(fit, count) + 1) if style.theme.slide or count % n == 0)
    beside = columns == count
    heading = text.wrapped(style.heading(title), wide - 2 * font, font)
    around = 1.5 * font * (heading.count("\n") + 1 if heading else 0) + 1.4 * font * below
    if columns == 1:
        high = sum(shape * wide + 4 * font for shape in shapes) + around
    else:
        high = -(-count // columns) * (0.8 * wide / columns + 4 * font) + around
    figure = Figure(style, wide, min(high, style.height(wide)), layout="constrained")
    if heading:
        # a $ in a name is not mathematics
        place = {"x": 0.6 * font / wide, "ha": "left", "parse_math": False}
        figure.suptitle(heading, fontsize=font, linespacing=1.3, **place)
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
