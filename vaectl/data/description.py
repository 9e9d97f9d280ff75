"""A description of a data set for people: the number and kind of its images, and oddities."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from vaectl.base.plural import listed, plural
from vaectl.base.terminal import Tell
from vaectl.data.arrays import Images, Published
from vaectl.data.labels import name_of
from vaectl.data.stored import pieces


def describe(source: str, found: Published, tell: Tell) -> list[str]:
    """Describe a data set in some lines, the most important first.

    Args:
        source: its name.
        found: the data set; its pixels are bytes.
        tell: called if all images are read for it, and they are many.
    """
    height, width, channels = found.train.image_shape
    size = f"{width}x{height} pixels" + (f", {channels} channels" if channels > 1 else "")
    first = (
        f"{source}: {len(found.train.images)} training and {len(found.test.images)} test images "
        f"of {size}, SHA-256 {found.fingerprint(tell)[:16]}..."
    )
    parts = {"training": found.train, "test": found.test}
    pixels = [f"{split} {_pixels(part)}" for split, part in parts.items()]
    return [first, f"values, where 255 is white: {'; '.join(pixels)}", *_classes(found)]


def _pixels(part: Images) -> str:
    """Say how bright the images are, and how many of them have one value only."""
    total, low, high, blank = 0, 255, 0, 0
    for piece in pieces(part.images):
        flat = piece.reshape(len(piece), -1)
        least, most = flat.min(axis=1), flat.max(axis=1)
        blank += int(np.count_nonzero(least == most))
        low, high = min(low, int(least.min())), max(high, int(most.max()))
        total += int(flat.sum(dtype=np.int64))
    text = f"{low} to {high}, mean {total / part.images.size:.1f}"
    return text + (f", {plural(blank, 'blank image')}" if blank else "")


def _classes(found: Published) -> Iterator[str]:
    """Count the images of each class."""
    known = [part.labels for part in (found.train, found.test) if part.labels is not None]
    if not known:
        yield "no classes"
        return
    numbers, counts = np.unique(np.concatenate(known), return_counts=True)
    each = [
        f"{name_of(number, found.classes)} ({count:,})"
        for number, count in zip(numbers.tolist(), counts.tolist(), strict=True)
    ]
    yield f"{len(each)} class{'es' * (len(each) != 1)}: {listed(each)}"
    if len(each) == 1:
        yield "all images are of one class"
