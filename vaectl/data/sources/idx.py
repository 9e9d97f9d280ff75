"""`idx:DIR`: a folder of IDX files, named as those of MNIST."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from vaectl.data.sources.base import LocalSource

if TYPE_CHECKING:
    from vaectl.data.arrays import Published

_FILES = frozenset(f"{split}-images-idx3-ubyte" for split in ("train", "t10k"))


class Idx(LocalSource, name="idx"):
    """Two files of images and, optionally, two of labels, plain or gzipped."""

    placeholder = "DIR"
    what = "IDX files named as MNIST's, plain or .gz; labels optional"

    @classmethod
    def holds(cls, names: Sequence[str]) -> bool:
        """Recognize a folder by the name of one of its files."""
        return not _FILES.isdisjoint(name.removesuffix(".gz") for name in names)

    def load(self, *, progress: bool = False) -> Published:  # noqa: ARG002
        """Read the files."""
        from vaectl.data import idx

        return idx.read_folder(self.path)
