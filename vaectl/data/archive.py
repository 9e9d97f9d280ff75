"""NumPy archives: read whole, without pickles, and never more than there is memory for."""

import warnings
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from vaectl.base import memory
from vaectl.base.files import regular
from vaectl.data.arrays import COPIES


def read(path: Path) -> dict[str, np.ndarray[Any, Any]]:
    """Read all arrays of a .npz file.

    Raises:
        OSError: it cannot be read.
        ValueError: it is broken, holds objects, or would not fit into the memory.
    """
    # Python and NumPy warn about some broken headers
    with regular(path) as file, warnings.catch_warnings(action="ignore"):
        name = ""
        try:
            with zipfile.ZipFile(file) as members:
                # a member ends where the archive says, however well it is packed
                size = sum(info.file_size for info in members.infolist())
                if too_much := memory.excess(COPIES * size):
                    raise ValueError(f"it {too_much}")
                # NumPy checks no sum of an array that ends before its member does
                if damaged := members.testzip():
                    raise ValueError(f"{damaged} is damaged: its checksum differs")
            file.seek(0)
            arrays: dict[str, Any] = {}
            with np.load(file, allow_pickle=False) as archive:
                for name in archive.files:
                    arrays[name] = archive[name]
        except Exception as error:  # of three packers and a parser: whatever they meet
            where = f"{name}: " if name else ""
            raise ValueError(f"{where}{str(error) or type(error).__name__}") from error
    # NumPy returns members that are no arrays as bytes
    return {name: array for name, array in arrays.items() if isinstance(array, np.ndarray)}
