"""`idx:DIR`: a folder of IDX files, named as those of MNIST."""

from vaectl.data import idx
from vaectl.data.arrays import Published
from vaectl.data.sources.base import LocalSource


class Idx(LocalSource, name="idx"):
    """Two files of images and, optionally, two of labels, plain or gzipped."""

    placeholder = "DIR"
    what = "IDX files named as MNIST's, plain or .gz; labels optional"

    def load(self, *, progress: bool = False) -> Published:  # noqa: ARG002
        """Read the files."""
        return idx.read_folder(self.path)
