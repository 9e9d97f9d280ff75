"""NumPy archives: read whole, without pickles, and always closed."""

import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np

ERRORS = (OSError, EOFError, RuntimeError, ValueError, zipfile.BadZipFile, zlib.error)
"""What reading a broken archive raises; RuntimeError: it is encrypted, or oddly packed."""


def read(path: Path) -> dict[str, np.ndarray[Any, Any]]:
    """Read all arrays of a .npz file.

    Raises:
        ERRORS: it is missing, broken, holds objects, or is one array (.npy) and not an archive.
    """
    # np.load leaves a file open that it opened itself and could not read
    with path.open("rb") as file:
        archive = np.load(file, allow_pickle=False)
        if not isinstance(archive, np.lib.npyio.NpzFile):
            raise ValueError("one array, not an archive")
        with archive:
            members = {name: archive[name] for name in archive.files}
    # a member that is no .npy file comes as bytes
    return {name: array for name, array in members.items() if isinstance(array, np.ndarray)}
