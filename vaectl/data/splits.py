"""Training, validation and test splits, with the sizes that a configuration asks for."""

from vaectl import config
from vaectl.data.arrays import Dataset, Images, Source, Split
from vaectl.data.binarization import SplitName, binarize
from vaectl.errors import DataError


def split(source: Source, settings: config.Data) -> Dataset:
    """Take the first images of train to train, its last to validate, the first of test to test.

    Of MNIST's 60,000 training images 50,000 train and 10,000 validate unless sizes are set.

    Raises:
        DataError: for more images than there are.
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
    height, width = source.train.images.shape[1:]
    return Dataset(
        fingerprint=source.fingerprint(),
        image_shape=(height, width),
        train=_part(source.train, slice(train), settings, "train"),
        validation=_part(source.train, slice(total - validation, total), settings, "validation"),
        test=_part(source.test, slice(test), settings, "test"),
    )


def _part(images: Images, rows: slice, settings: config.Data, name: SplitName) -> Split:
    chosen = images.images[rows]
    return Split(
        images=binarize(chosen.reshape(len(chosen), -1), settings, name),
        labels=None if images.labels is None else images.labels[rows],
    )
