"""A figure in a style, with a heading that fits. No pyplot, which has global state."""

import io
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
        """Make an empty figure.

        Args:
            style: its style, which stays that of all that is drawn in it.
            width: points.
            height: points.
            how: arguments of Matplotlib's figure.
        """
        self.style = style
        with mpl.rc_context(style.settings()):
            super().__init__(figsize=(width / 72, height / 72), **how)

    def savefig(self, *args: Any, **kwargs: Any) -> None:
        """Save in its style: some settings, such as the names inside an SVG, only matter here."""
        with mpl.rc_context(self.style.settings()):
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
    count: int,
    *,
    width: float,
    panel: float = 40.0,
    shape: float = 0.75,
    below: int = 0,
    weights: list[float] | None = None,
) -> tuple[Figure, list[Axes]]:
    """Make a figure with a heading and panels, as many beside each other as are readable.

    Args:
        style: its style.
        title: its own heading, which the style may replace.
        count: the number of panels.
        width: its own width in millimetres, which the style may replace.
        panel: the least width of a panel in millimetres, for a font of 8 points.
        shape: the height of a panel, in widths.
        below: lines of text to leave room for below the panels.
        weights: relative widths of panels that stand beside each other.
    """
    wide, font = style.width(width), style.theme.font
    columns = max(min(count, int(wide / (72 / 25.4 * panel * font / 8))), 1)
    rows = -(-count // columns)
    heading = text.wrapped(style.heading(title), wide - 2 * font, font)
    around = 1.5 * font * (heading.count("\n") + 1 if heading else 0) + 1.4 * font * below
    high = rows * (shape * wide / columns + 3 * font) + around
    if style.theme.tallest:
        high = min(high, style.theme.tallest * wide)
    figure = Figure(style, wide, high, layout="constrained")
    if heading:
        # a $ in a name is not mathematics
        place = {"x": 0.6 * font / wide, "ha": "left", "parse_math": False}
        figure.suptitle(heading, fontsize=font, linespacing=1.3, **place)
    beside = weights if weights and columns == count else None
    axes = figure.subplots(rows, columns, squeeze=False, width_ratios=beside).flat
    for unused in axes[count:]:
        unused.remove()
    return figure, list(axes[:count])
