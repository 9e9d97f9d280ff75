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
        name = "archive"
        try:
            # a member ends where the archive says, however well it is packed
            with zipfile.ZipFile(file) as members:
                size = sum(info.file_size for info in members.infolist())
            if too_much := memory.excess(COPIES * size):
                raise ValueError(f"it {too_much}")
            file.seek(0)
            arrays: dict[str, Any] = {}
            with np.load(file, allow_pickle=False) as archive:
                for name in archive.files:
                    arrays[name] = archive[name]
        except Exception as error:  # of three packers and a parser: whatever they meet
            raise ValueError(f"{name}: {str(error) or type(error).__name__}") from error
    # NumPy returns members that are no arrays as bytes
    return {name: array for name, array in arrays.items() if isinstance(array, np.ndarray)}
