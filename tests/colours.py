"""Lightness and contrast of colours, and the colours of a style sheet."""

import re

import numpy as np

TEXT = 4.5
"""The least contrast of text, by the Web Content Accessibility Guidelines 2.2, 1.4.3."""


def luminance(colour: str) -> float:
    digits = colour.removeprefix("#")
    digits = "".join(2 * each for each in digits) if len(digits) == 3 else digits
    parts = np.array([int(part, 16) for part in re.findall("..", digits)]) / 255
    linear = np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
    return float(linear @ (0.2126, 0.7152, 0.0722))


def lightness(colour: str) -> float:
    """L* of CIELAB, from 0 for black to 100 for white."""
    y = luminance(colour)
    return 116 * np.cbrt(y) - 16 if y > 216 / 24389 else 24389 / 27 * y


def contrast(one: str, other: str) -> float:
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def variables(css: str) -> list[dict[str, str]]:
    """The colours that a style sheet names: the light ones, and the dark ones if there are any."""
    themes: list[dict[str, str]] = []
    for block in re.findall(r":root\s*\{(.*?)\}", css, re.DOTALL):
        found = dict(re.findall(r"--([\w-]+):\s*(#[0-9a-f]{3,6})\b", block))
        themes.append({**(themes[0] if themes else {}), **found})
    return themes


def text_of_drawings(css: str, theme: dict[str, str]) -> str:
    """The colour of text in an SVG."""
    (fill,) = re.findall(r"svg text\s*\{[^}]*fill:\s*var\(--([\w-]+)\)", css)
    return theme[fill]
