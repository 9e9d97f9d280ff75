"""NumPy archives, read without pickles, and only if they fit into memory."""

import warnings
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, final

import numpy as np

from vaectl.base import memory
from vaectl.base.files import regular
from vaectl.data.arrays import COPIES

_MAGIC = np.lib.format.MAGIC_PREFIX
_PIECE = 2**20


def read(path: Path) -> dict[str, np.ndarray[Any, Any]]:
    """Read all arrays of a .npz file.

    Raises:
        OSError: it cannot be read.
        ValueError: it is broken, holds objects, or would not fit into the memory.
    """
    with opened(path) as archive:
        return {name: archive.read(name) for name in archive.names}


@final
class Archive:
    """An open archive, whose arrays are read one by one."""

    def __init__(self, members: zipfile.ZipFile) -> None:
        self._members, self._taken = members, 0
        self._found = {
            info.filename.removesuffix(".npy"): info
            for info in members.infolist()
            if self._is_array(info)
        }

    @property
    def names(self) -> list[str]:
        """The names of all arrays."""
        return [*self._found]

    def read(self, name: str) -> np.ndarray[Any, Any]:
        """Read an array.

        Raises:
            ValueError: it is broken, holds objects, or would not fit into the memory.
        """
        info = self._found[name]
        with _refusing(name):
            # the archive states the unpacked size of a member, which limits what is read
            self._taken += info.file_size
            if too_much := memory.excess(COPIES * self._taken):
                raise ValueError(f"it {too_much}")
            # NumPy does not verify the checksum if the array ends before its member
            self._check_sum(info)
            with self._members.open(info) as file:
                array: np.ndarray[Any, Any] = np.lib.format.read_array(file, allow_pickle=False)
                return array

    def _is_array(self, info: zipfile.ZipInfo) -> bool:
        """Tell whether a member is an array; an unreadable member counts as one."""
        with suppress(ValueError), _refusing(""), self._members.open(info) as file:
            return file.read(len(_MAGIC)) == _MAGIC
        return True

    def _check_sum(self, info: zipfile.ZipInfo) -> None:
        with self._members.open(info) as file:
            try:
                while file.read(_PIECE):
                    pass
            except zipfile.BadZipFile:
                raise ValueError(f"{info.filename} is damaged: its checksum differs") from None


@contextmanager
def opened(path: Path) -> Iterator[Archive]:
    """Open a .npz file.

    Raises:
        OSError: it cannot be read.
        ValueError: it is no archive.
    """
    with regular(path) as file:
        with _refusing(""):
            members = zipfile.ZipFile(file)
        with members:
            yield Archive(members)


@contextmanager
def _refusing(name: str) -> Iterator[None]:
    """Turn any error of the decompressors and the parser into a ValueError, without warnings."""
    # Python and NumPy warn about some broken headers
    with warnings.catch_warnings(action="ignore"):
        try:
            yield
        except Exception as error:
            where = f"{name}: " if name else ""
            raise ValueError(f"{where}{str(error) or type(error).__name__}") from error
