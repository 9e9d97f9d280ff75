"""Training, validation and test splits, with the sizes that a configuration asks for."""

import numpy as np
from jaxtyping import UInt8

from vaectl.base.errors import DataError
from vaectl.data.arrays import Dataset, Images, Source, Split
from vaectl.data.binarization import SplitName, binarize, meaning
from vaectl.data.settings import Data


def split(source: Source, settings: Data) -> Dataset:
    """Take the first images of train to train, its last to validate, the first of test to test.

    Of MNIST's 60,000 training images 50,000 train and 10,000 validate unless sizes are set.

    Raises:
        DataError: more images are asked for than there are, or all pixels of a split are equal.
    """
    total = len(source.train.images)
    validation = settings.validation_size or source.validation_size or max(total // 6, 1)
    train = settings.train_size or max(total - validation, 1)
    if train + validation > total:
        raise DataError(
            f"{settings.source} has {total} training images: "
            f"{train} to train and {validation} to validate are too many",
            hint="set data.train_size and data.validation_size so that they fit",
        )
    test = settings.test_size or len(source.test.images)
    if test > len(source.test.images):
        raise DataError(
            f"{settings.source} has {len(source.test.images)} test images, not {test}",
            hint="set data.test_size to fewer, or to null for all",
        )
    height, width = source.train.images.shape[1:3]
    return Dataset(
        fingerprint=source.fingerprint(),
        image_shape=(height, width, 1),
        train=_part(source.train, slice(train), settings, "train"),
        validation=_part(source.train, slice(total - validation, total), settings, "validation"),
        test=_part(source.test, slice(test), settings, "test"),
        notes=source.notes,
    )


def _part(images: Images, rows: slice, settings: Data, name: SplitName) -> Split:
    grey = images.images[rows]
    x = binarize(grey[..., np.newaxis], settings, name)
    if x.min() == x.max():
        raise _constant(grey, int(x.max()), settings, name)
    return Split(x, None if images.labels is None else images.labels[rows])


def _constant(
    grey: UInt8[np.ndarray, "*shape"], value: int, settings: Data, name: SplitName
) -> DataError:
    """Say that all pixels of a split have one value, and what to try."""
    message = f"{settings.source}: every pixel of the {name} split is {value}"
    hint = f"data.{name}_size says how many images there are: choose more, or other images"
    low, high = int(grey.min()), int(grey.max())
    if low < high:
        message += f", {meaning(settings)}: they are grey levels from {low} to {high}"
        if settings.binarization == "threshold":
            change = "raise" if value else "lower"
            hint = f"{change} data.threshold: {(low + high) / 2 / 255:.3g} lies between"
    return DataError(message, hint=hint)
