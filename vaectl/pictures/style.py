"""The look of a figure: one frozen value, which is passed down to everything that draws."""

from __future__ import annotations

import math
from typing import Any, Literal, NamedTuple, Self

from vaectl.base.errors import ConfigError
from vaectl.base.nearest import did_you_mean

Polarity = Literal["auto", "ink", "light"]
"""The way to draw grey images: `ink` draws 1 as black on white, `light` as white on black.

`auto` chooses by the images: see `Style.with_polarity`.
"""

MM = 72 / 25.4
"""Points in a millimetre."""

WIDTHS = {"column": 85.0, "page": 175.0, "slide": 254.0}
"""Widths with a name, in mm: a column and a page of most journals, and a slide."""
_LEAST, _MOST = 40.0, 1000.0


class Theme(NamedTuple):
    """Colours, and sizes in points, that fit each other."""

    name: str = "paper"
    paper: str = "#ffffff"
    """The background."""
    ink: str = "#111111"
    """Text and axes."""
    faint: str = "#e4e4e4"
    """The grid."""
    accent: str = "#1f3a5f"
    """Lines, bars and points that need no colours to be told apart."""
    palette: tuple[str, ...] = (
        *("#07096b", "#3ba291", "#aa485a", "#004d1b", "#d2a028"),
        *("#8f2980", "#83c7e9", "#620038", "#808119", "#0b0b0b"),
    )
    """Colours to be told apart. Their lightness differs, so that they are different in grey too,
    and their hues are apart for colour-blind people; neighbours differ most."""
    font: float = 8.0
    line: float = 1.2
    dpi: int = 300
    """Pixels per inch of PNG files, approximately."""
    width: float | None = None
    """Millimetres; None: each kind of figure has its own width."""
    slide: bool = False
    """True if figures are at most as high as a slide, 9/16 of its width."""
    dark: bool = False
    """True if text and lines are light on a dark background."""


PAPER = Theme()
SLIDES = PAPER._replace(
    name="slides", font=16.0, line=2.4, dpi=150, width=WIDTHS["slide"], slide=True
)
DARK = SLIDES._replace(
    name="dark",
    dark=True,
    paper="#15171c",
    ink="#f2f2f2",
    faint="#3a3e48",
    accent="#8fc7ff",
    palette=(
        *("#bbe7ff", "#cd4567", "#b7b64f", "#d16ae2", "#f6f1e1"),
        *("#366b9d", "#fec957", "#359741", "#6ed2c0", "#ec8393"),
    ),
)
THEMES = {theme.name: theme for theme in (PAPER, SLIDES, DARK)}


class Style(NamedTuple):
    """The look of a figure, as a user chooses it."""

    theme: Theme = PAPER
    chosen_width: float | None = None
    """Millimetres; None: that of the theme, or of the kind of figure."""
    title: str | None = None
    """A heading instead of the figure's own, above the facts; "" for neither."""
    polarity: Polarity = "auto"

    def heading(self, own: str, facts: str = "") -> str:
        """Return the text above a figure.

        Args:
            own: its own heading, which the style may replace.
            facts: what its numbers and greys mean; they stay, unless there is to be no heading.
        """
        if self.title == "":
            return ""
        return "\n".join(part for part in (self.title or own, facts) if part)

    def with_polarity(self, *, drawings: bool) -> Self:
        """Choose how grey images are drawn, if `polarity` is auto.

        Drawings on a black background are drawn as ink, except in a dark figure; all others, such
        as photographs, as light.

        Args:
            drawings: whether the images are drawings, see `vaectl.data.drawings`.
        """
        if self.polarity != "auto":
            return self
        return self._replace(polarity="ink" if drawings and not self.theme.dark else "light")

    def width(self, own: float = WIDTHS["page"]) -> float:
        """Return the width of a figure in points, given its own width in millimetres."""
        return MM * (self.chosen_width or self.theme.width or own)

    def height(self, width: float) -> float:
        """Return the largest height of a figure of that width, both in points."""
        return 9 / 16 * width if self.theme.slide else math.inf

    def colour(self, number: int) -> str:
        """Return a colour of the palette, which repeats."""
        return self.theme.palette[number % len(self.theme.palette)]

    @property
    def small(self) -> float:
        """The size of labels and numbers, in points."""
        return 0.8 * self.theme.font

    @property
    def smallest(self) -> float:
        """The smallest size of text, in points: 6 in print."""
        return 0.75 * self.theme.font

    @property
    def least_image(self) -> float:
        """The least width of each of many images, in points: 4.2 mm in print."""
        return 1.5 * self.theme.font

    def settings(self) -> dict[Any, Any]:
        """Return all of Matplotlib's settings; those of the user and of a directory do not count.

        Text stays text in SVG and PDF.
        """
        import matplotlib as mpl

        theme = self.theme
        defaults = {key: mpl.rcParamsDefault[key] for key in mpl.rcParamsDefault}
        inks = ("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color")
        papers = ("figure.facecolor", "axes.facecolor", "savefig.facecolor")
        sizes = ("xtick.labelsize", "ytick.labelsize", "legend.fontsize", "legend.title_fontsize")
        return {
            **{key: value for key, value in defaults.items() if "backend" not in key},
            **dict.fromkeys(inks, theme.ink),
            **dict.fromkeys(papers, theme.paper),
            **dict.fromkeys(sizes, 0.85 * theme.font),
            "axes.unicode_minus": False,  # as in all other text
            "text.parse_math": False,  # a $ in a name is a $
            "font.family": "sans-serif",
            "font.size": theme.font,
            "axes.titlesize": theme.font,
            "axes.labelsize": theme.font,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.linewidth": 0.6 * theme.line,
            "axes.grid": True,
            "axes.axisbelow": True,
            "grid.color": theme.faint,
            "grid.linewidth": 0.5 * theme.line,
            "lines.linewidth": theme.line,
            "xtick.major.width": 0.6 * theme.line,
            "ytick.major.width": 0.6 * theme.line,
            "legend.frameon": False,
            "figure.dpi": theme.dpi,
            "savefig.dpi": "figure",
            "svg.fonttype": "none",
            "svg.hashsalt": "vaectl",  # the same names inside an SVG in every run
            "pdf.fonttype": 42,
        }


DEFAULT = Style()
"""The default look of figures."""


def parse(
    *,
    theme: str = "paper",
    width: str | None = None,
    title: str | None = None,
    polarity: Polarity = "auto",
) -> Style:
    """Read a style as the options of commands have it.

    Args:
        theme: paper, slides or dark.
        width: a number of millimetres, or one of `WIDTHS`.
        title: a heading; `none` for no heading.
        polarity: how grey images are drawn.

    Raises:
        ConfigError: the width is not a number of millimetres, or a known name.
    """
    heading = "" if title is not None and title.lower() == "none" else title
    chosen = _width(width)
    return Style(_scaled(THEMES[theme], chosen), chosen, heading, polarity)


def _scaled(theme: Theme, width: float | None) -> Theme:
    """Fit the sizes of a slide to its width.

    A figure that would have smaller text than on paper is no slide: it has the sizes of paper, and
    may be as high as it needs to be.
    """
    if not theme.slide or width is None:
        return theme
    scale = width / WIDTHS["slide"]
    if scale * theme.font < PAPER.font:
        return theme._replace(font=PAPER.font, line=PAPER.line, dpi=PAPER.dpi, slide=False)
    return theme._replace(font=scale * theme.font, line=scale * theme.line)


def _width(text: str | None) -> float | None:
    if text is None or text in WIDTHS:
        return None if text is None else WIDTHS[text]
    try:
        found = float(text.removesuffix("mm"))
    except ValueError:
        found = 0.0
    if not _LEAST <= found <= _MOST:
        names = ", ".join(f"{name} ({mm:g})" for name, mm in WIDTHS.items())
        near = did_you_mean(text, WIDTHS)
        raise ConfigError(
            f"--width {text}: not a width from {_LEAST:g} to {_MOST:g} mm{near}",
            hint=f"give a number of millimetres, or one of {names}",
        )
    return found
