"""`digits-5k`: 5,000 MNIST digits inside the package, so that the first run needs no network."""

from __future__ import annotations

from importlib.resources import as_file, files
from typing import TYPE_CHECKING

from vaectl.data.sources.base import Source

if TYPE_CHECKING:
    from vaectl.data.arrays import Published

TEST_SIZE = 500
VALIDATION_SIZE = 500


class Digits(Source, name="digits-5k"):
    """4,000 images to train, 500 to validate, 500 to test; each prefix is stratified."""

    state = "ready: embedded"
    what = "5,000 digits of MNIST, 28x28"
    nicknames = {"digits": ""}  # noqa: RUF012  # a constant of the class

    def load(self, *, progress: bool = False) -> Published:  # noqa: ARG002
        """Read the file that lies beside this one."""
        from vaectl.data import archive
        from vaectl.data.arrays import Images, Published

        with as_file(files(__package__) / "digits.npz") as path:
            arrays = archive.read(path)
        images, labels = arrays["images"], arrays["labels"].astype("int32")
        return Published(
            train=Images(images[:-TEST_SIZE], labels[:-TEST_SIZE]),
            test=Images(images[-TEST_SIZE:], labels[-TEST_SIZE:]),
            validation_size=VALIDATION_SIZE,
        )
