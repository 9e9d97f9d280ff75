"""Images of a data set by class, to check that they were read correctly."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from vaectl.data.arrays import Published
from vaectl.data.drawings import are_drawings
from vaectl.data.labels import name_of
from vaectl.pictures.canvas import Figure
from vaectl.pictures.sheets import Panel, filling, near_square, sheet
from vaectl.pictures.style import DEFAULT

_COLUMNS, _CLASSES, _IMAGES = 12, 20, 100
"""Images of each class, classes, and images without classes, at most."""
_LONGEST = 24
"""The characters of a class's name that are shown."""


def examples(title: str, found: Published) -> Figure:
    """Draw the first training images of each class, or just the first ones without classes.

    Args:
        title: of the data set.
        found: the data set; its pixels are bytes.
    """
    images, labels = found.train
    grey = found.train.image_shape[-1] == 1
    style = DEFAULT.with_polarity(drawings=grey and are_drawings(images))
    white = "255 is black" if style.polarity == "ink" else "255 is white"
    facts = f"training images as they are read{f'; {white}' * grey}"
    if labels is None:
        first = _unit(images[: min(filling(_IMAGES, style), len(images))])
        return sheet([[Panel(near_square(first, style))]], title=title, facts=facts, style=style)
    numbers = np.unique(labels).tolist()
    places = [np.flatnonzero(labels == number)[:_COLUMNS] for number in numbers[:_CLASSES]]
    columns = max(map(len, places))
    rows = np.full((len(places), columns, *images.shape[1:]), np.nan, np.float32)
    for row, some in zip(rows, places, strict=True):
        row[: len(some)] = _unit(images[some])
    if len(numbers) > len(places):
        facts += f"; {len(places)} of {len(numbers)} classes"
    names = [name_of(number, found.classes)[:_LONGEST] for number in numbers[:_CLASSES]]
    return sheet([[Panel(rows, row_labels=names)]], title=title, facts=facts, style=style)


def _unit(images: object) -> Float[np.ndarray, "count height width *channels"]:
    return np.asarray(images, np.float32) / 255
