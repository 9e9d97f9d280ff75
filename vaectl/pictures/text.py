"""Text in figures: its width, and lines that fit."""

import textwrap
import warnings
from collections.abc import Iterable

from matplotlib.font_manager import FontProperties
from matplotlib.textpath import text_to_path

_SANS = FontProperties(family="DejaVu Sans", size=100)


def plain(text: str) -> str:
    """Return text without characters that no font can show; names may contain them."""
    return "".join(c if c.isprintable() or c == "\n" else "\ufffd" for c in text)


def width(text: str, size: float) -> float:
    """Return the width in points of one line of text in a font of that size."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from font", UserWarning)
        found, _, _ = text_to_path.get_text_width_height_descent(plain(text), _SANS, ismath=False)
    return float(found) * size / _SANS.get_size_in_points()


def widest(texts: Iterable[str], size: float) -> float:
    """Return the width in points of the widest of several lines; 0 without any."""
    return max((width(text, size) for text in texts), default=0.0)


def wrapped(text: str, most: float, size: float) -> str:
    """Break lines that are wider than `most` points, between words or inside a long one."""
    return "\n".join(_wrap(line, most, size) for line in plain(text).splitlines())


def _wrap(line: str, most: float, size: float) -> str:
    if (wide := width(line, size)) <= most:
        return line
    length = max(int(1.15 * len(line) * most / wide), 1)
    while True:
        lines = textwrap.wrap(line, length, break_on_hyphens=False) or [line]
        if length == 1 or widest(lines, size) <= most:
            return "\n".join(lines)
        length -= 1
