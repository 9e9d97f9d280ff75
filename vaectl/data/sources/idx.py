"""`idx:DIR`: a folder of IDX files, named as those of MNIST."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vaectl.data.sources.base import LocalSource

if TYPE_CHECKING:
    from vaectl.data.arrays import Published


class Idx(LocalSource, name="idx"):
    """Two files of images and, optionally, two of labels, plain or gzipped."""

    placeholder = "DIR"
    what = "IDX files named as MNIST's, plain or .gz; labels optional"

    def load(self, *, progress: bool = False) -> Published:  # noqa: ARG002
        """Read the files."""
        from vaectl.data import idx

        return idx.read_folder(self.path)
