"""NumPy archives: read whole, without pickles, and never more than there is memory for."""

import math
import warnings
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from vaectl.base import memory
from vaectl.base.files import regular
from vaectl.data.arrays import COPIES

_HEADERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}


def read(path: Path) -> dict[str, np.ndarray[Any, Any]]:
    """Read all arrays of a .npz file.

    Raises:
        OSError: it cannot be read.
        ValueError: it is broken, holds objects, or would not fit into the memory.
    """
    with regular(path) as file:
        try:
            with zipfile.ZipFile(file) as archive:
                members = [info for info in archive.infolist() if info.filename.endswith(".npy")]
                # a member ends where the archive says, however well it was packed
                if too_much := memory.excess(COPIES * sum(info.file_size for info in members)):
                    raise ValueError(f"it {too_much}")
                return {info.filename[: -len(".npy")]: _array(archive, info) for info in members}
        except Exception as error:  # of three packers and a parser: whatever they meet
            raise ValueError(str(error) or type(error).__name__) from error


def _array(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> np.ndarray[Any, Any]:
    """Read an array; NumPy's own reader would make room for all that a header says."""
    # Python has things to say about headers that are no Python, and NumPy about old ones
    with archive.open(info) as member, warnings.catch_warnings(action="ignore"):
        version = np.lib.format.read_magic(member)
        if version not in _HEADERS:
            raise ValueError(f"{info.filename} is in version {version} of NumPy's format")
        shape, by_columns, dtype = _HEADERS[version](member)
        content = member.read()
    if dtype.hasobject:
        raise ValueError(f"{info.filename} holds objects, which could be code")
    if math.prod(shape) * dtype.itemsize != len(content):
        raise ValueError(f"{info.filename} has {len(content)} bytes, not {dtype} of shape {shape}")
    return np.ndarray(shape, dtype, content, order="F" if by_columns else "C")
