"""Data sets: from the source that a configuration names to arrays. No JAX here.

A source reads what is published; `scale` turns the pixels into bytes, `splits` and `binarization`
make of them what a model sees. Images that take too much memory stay on disk: see `stored`. NumPy
is imported when data are read, not with a configuration.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

from vaectl.base.errors import DataError
from vaectl.base.terminal import Tell, silent
from vaectl.data.reading import PLAIN, Reading
from vaectl.data.settings import Data
from vaectl.data.sources.base import parse

if TYPE_CHECKING:
    from vaectl.data.arrays import Dataset, Published

__all__ = ["Dataset", "Published", "load", "published"]


def __getattr__(name: str) -> Any:
    """Return a type of arrays."""
    if name not in ("Dataset", "Published"):
        raise AttributeError(name)
    from vaectl.data import arrays

    return getattr(arrays, name)


def load(
    settings: Data,
    *,
    fingerprint: str | None = None,
    progress: bool = False,
    tell: Tell = silent,
) -> Dataset:
    """Load, split and binarize the data set of a configuration.

    Args:
        settings: the section of a configuration that names the data set and limits the memory.
        fingerprint: the fingerprint of a run's data. If only the data as an older vaectl read them
            have this fingerprint, these are returned.
        progress: whether a download may show a bar.
        tell: called with a description of what takes long.

    Raises:
        DataError: the data set is missing, broken, too small, cannot be fetched, or holds no
            pictures.
    """
    from vaectl.data.splits import split

    def read(reading: Reading) -> Dataset:
        found = published(
            settings.source, settings.most_bytes, reading, progress=progress, tell=tell
        )
        return split(found, settings, tell)

    plug = settings.plug

    def as_before() -> Dataset | None:
        """Return what an older vaectl read, if it has the fingerprint; else None."""
        if fingerprint is None or (earlier := plug.earlier) is None:
            return None
        with suppress(DataError):
            found = read(earlier)
            return found if found.fingerprint == fingerprint else None
        return None

    try:
        dataset = read(plug.reading)
    except DataError:
        if (earlier := as_before()) is None:
            raise
        return earlier
    return dataset if dataset.fingerprint == fingerprint else as_before() or dataset


def published(
    source: str,
    most: int | None = None,
    reading: Reading = PLAIN,
    *,
    progress: bool = False,
    tell: Tell = silent,
) -> Published:
    """Load a data set by its source, as `data.source` names it.

    Its pixels are bytes, 0 for black and 255 for white, whatever scale they are published in.

    Args:
        source: its name.
        most: the most bytes of images to hold in memory, if the source can leave images on disk;
            None: the default limit.
        reading: settings that say how the images are read; see `vaectl.data.reading`.
        progress: whether a download may show a bar.
        tell: called with a description of what takes long.

    Raises:
        DataError: the data set is missing, broken, cannot be fetched, or has an unknown scale of
            pixels.
    """
    from vaectl.data import scale

    most = Data().most_bytes if most is None else most
    found = parse(source, reading).resolved().load_within(most, tell, progress=progress)
    _check_shapes(source, found)
    return scale.read(source, found, reading.range)


def _check_shapes(source: str, found: Published) -> None:
    """Refuse images of two shapes, and labels that are not one for each image."""
    train, test = found.train.image_shape, found.test.image_shape
    if train != test:
        raise DataError(
            f"{source}: its training images have the shape {train}, its test images {test}",
            hint="are they of two data sets? Bring both to one height, width and channels",
        )
    for name, part in (("training", found.train), ("test", found.test)):
        if part.labels is not None and len(part.labels) != len(part.images):
            raise DataError(
                f"{source}: {len(part.images)} {name} images, but {len(part.labels)} labels",
                hint="are they of two data sets? Labels may also be left out",
            )
