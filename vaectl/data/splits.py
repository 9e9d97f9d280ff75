"""Training, validation and test splits, with the sizes that a configuration asks for."""

import math

import numpy as np

from vaectl.base.errors import DataError
from vaectl.base.terminal import Tell, silent
from vaectl.data import labels as labelling
from vaectl.data.arrays import Dataset, Images, Published, Split
from vaectl.data.binarization import SplitName, binarize, meaning
from vaectl.data.drawings import are_drawings
from vaectl.data.settings import Data
from vaectl.data.stored import Pixels, ends

_SURE = 7
"""The expected images of a class in a split from which a missing class is reported: of random
splits, one in a thousand has none.
"""


def split(found: Published, settings: Data, tell: Tell = silent) -> Dataset:
    """Split images: the first of train to train, its last to validate, the first of test to test.

    Of MNIST's 60,000 training images 50,000 train and 10,000 validate unless sizes are set.

    Raises:
        DataError: more images are asked for than there are, or all pixels of a split are equal.
    """
    total = len(found.train.images)
    validation = settings.validation_size or found.validation_size or max(total // 6, 1)
    train = settings.train_size or max(total - validation, 1)
    if train + validation > total:
        raise DataError(
            f"{settings.source} has {total} training images: "
            f"{train} to train and {validation} to validate are too many",
            hint="set data.train_size and data.validation_size so that they fit",
        )
    test = settings.test_size or len(found.test.images)
    if test > len(found.test.images):
        raise DataError(
            f"{settings.source} has {len(found.test.images)} test images, not {test}",
            hint="set data.test_size to fewer, or to null for all",
        )
    image_shape, notes = found.train.image_shape, found.notes
    if image_shape[-1] > 1 and settings.binarization != "none":
        notes += (
            f"images of {image_shape[-1]} channels, each {meaning(settings)}: "
            "data.binarization=none keeps their colours",
        )
    hold = (train + validation + test) * math.prod(image_shape) <= settings.most_bytes
    parts = {
        "train": _part(found.train, slice(train), settings, "train", hold),
        "validation": _part(
            found.train, slice(total - validation, total), settings, "validation", hold
        ),
        "test": _part(found.test, slice(test), settings, "test", hold),
    }
    for name in ("validation", "test"):
        notes += _lacking(parts["train"], parts[name], name, found.classes)
    return Dataset(
        fingerprint=found.fingerprint(tell),
        image_shape=image_shape,
        **parts,
        class_names=found.classes,
        drawings=image_shape[-1] == 1 and are_drawings(found.train.images),
        notes=notes,
    )


def _lacking(train: Split, part: Split, name: str, classes: tuple[str, ...]) -> tuple[str, ...]:
    """Warn of classes of the training images that a split lacks, if that is hardly by chance."""
    if train.labels is None or part.labels is None:
        return ()
    known, counts = np.unique(train.labels, return_counts=True)
    expected = counts * (len(part.labels) / len(train.labels))
    lacking = known[(expected >= _SURE) & ~np.isin(known, part.labels)].tolist()
    if not lacking:
        return ()
    names = [labelling.name_of(label, classes) for label in lacking]
    own = "; or save some of every class as x_val" if name == "validation" else ""
    return (
        f"the {name} split lacks classes that train: {labelling.told(names)}. If images are sorted "
        f"by class, shuffle them with their labels{own}",
    )


def _part(images: Images, rows: slice, settings: Data, name: SplitName, hold: bool) -> Split:
    levels = images.images[rows]
    if hold:
        levels = np.asarray(levels)
    x = binarize(levels, settings, name)
    low, high = ends(x)
    if low == high:
        raise _constant(levels, int(high), settings, name)
    labels = None if images.labels is None else images.labels[rows]
    return Split(x.reshape(-1, *images.image_shape), labels)


def _constant(levels: Pixels, value: int, settings: Data, name: SplitName) -> DataError:
    """Say that all pixels of a split have one value, and what to try."""
    message = f"{settings.source}: every pixel of the {name} split is {value}"
    hint = f"data.{name}_size says how many images there are: choose more, or other images"
    low, high = map(int, ends(levels))
    if low < high:
        message += f", {meaning(settings)}: they are levels from {low} to {high}"
        if settings.binarization == "threshold":
            change = "raise" if value else "lower"
            hint = f"{change} data.threshold: {(low + high) / 2 / 255:.3g} lies between"
    return DataError(message, hint=hint)
