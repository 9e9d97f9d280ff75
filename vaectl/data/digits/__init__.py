"""`digits-5k`: 5,000 MNIST digits inside the package, so that the first run needs no network."""

from importlib.resources import as_file, files

import numpy as np

from vaectl.data import archive
from vaectl.data.arrays import Images, Source

TEST_SIZE = 500
VALIDATION_SIZE = 500


def load() -> Source:
    """Read the embedded digits: 4,000 to train, 500 to validate, 500 to test, all stratified."""
    with as_file(files(__package__) / "digits.npz") as path:
        arrays = archive.read(path)
    images, labels = arrays["images"], arrays["labels"].astype(np.int32)
    return Source(
        train=Images(images[:-TEST_SIZE], labels[:-TEST_SIZE]),
        test=Images(images[-TEST_SIZE:], labels[-TEST_SIZE:]),
        validation_size=VALIDATION_SIZE,
    )
