"""NPY files, NumPy's format of one array: opened without reading it, never with pickles.

Images are read by `pread`, not through a memory map: a file that shrinks while it is used is an
error that says so, where a map would end the process. What is read does not stay in the process.
"""

from __future__ import annotations

import os
import warnings
import weakref
from collections.abc import Iterable
from pathlib import Path
from typing import IO, Any, final

import numpy as np
from jaxtyping import UInt8

from vaectl.base.errors import DataError
from vaectl.base.files import regular
from vaectl.base.nearest import did_you_mean_path
from vaectl.data.stored import Index, Stored

GAP_BYTES = 16 * 2**10
"""Images that lie closer together are read at once, with what is between them."""
RUN_BYTES = 4 * 2**20
"""The most bytes that are read at once, unless a single image is larger."""
_HEADERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}
NO_OBJECTS = (
    "save numbers, or text by x.astype(str): Python objects are never loaded; data.labels=[] "
    "leaves labels out"
)
"""A hint for arrays of Python objects."""
_SAVE = "write it anew by np.save(FILE, np.ascontiguousarray(x))"


def stored(path: Path) -> Stored:
    """Open an array.

    Raises:
        DataError: the file is missing, not an NPY file, truncated, too long, or has a layout that
            cannot be read image by image.
    """
    try:
        with regular(path) as file:
            shape, dtype = _header(path, file)
            reader = _Reader(path, file, dtype, shape)
    except OSError as error:
        raise DataError.of(error, path, near=did_you_mean_path(path)) from None
    return Stored(reader, range(shape[0]), shape[1:], dtype)


def write(file: IO[bytes], count: int, images: Iterable[np.ndarray[Any, Any]]) -> None:
    """Write an array image by image; the first one tells the shape and the type of all.

    Raises:
        OSError: it cannot be written.
    """
    for number, image in enumerate(images):
        if number == 0:
            header = np.lib.format.header_data_from_array_1_0(image)
            header["shape"] = (count, *image.shape)
            np.lib.format.write_array_header_1_0(file, header)
        file.write(image.tobytes())


def _header(path: Path, file: IO[bytes]) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """Read the shape and the type, and leave the file where the array begins."""
    try:
        # Python and NumPy warn about some broken headers
        with warnings.catch_warnings(action="ignore"):
            version = np.lib.format.read_magic(file)
            if version not in _HEADERS:
                raise ValueError(f"version {version} of the format")
            shape, in_columns, dtype = _HEADERS[version](file)
    except Exception as error:  # NumPy's parser may raise anything
        raise DataError(f"{path}: not a readable NPY file: {error}", hint=_SAVE) from None
    if dtype.hasobject:
        raise DataError(
            f"{path}: it holds Python objects, which are never loaded",
            hint=NO_OBJECTS,
        )
    if in_columns and len(shape) > 1:
        raise DataError(
            f"{path}: its array is in Fortran order: the bytes of an image are scattered",
            hint=_SAVE,
        )
    if not shape or min(shape) < 0:
        raise DataError(f"{path}: its header says {shape}, which are no images", hint=_SAVE)
    return shape, dtype


@final
class _Reader:
    """Reads images of an open file by their numbers; many at once, and from any thread."""

    def __init__(
        self, path: Path, file: IO[bytes], dtype: np.dtype[Any], shape: tuple[int, ...]
    ) -> None:
        self._path, self._dtype = path, dtype
        self._begin = file.tell()
        count, self._size = shape[0], dtype.itemsize
        for length in shape[1:]:
            self._size *= length
        self._file = os.dup(file.fileno())
        weakref.finalize(self, os.close, self._file)
        self._state = self._now()
        if (there := self._state[0] - self._begin) != (expected := count * self._size):
            state = "truncated" if there < expected else "too long"
            says = f"{'x'.join(map(str, shape))} of {dtype}"
            raise DataError(
                f"{path}: {state}: {there:,} bytes of data, where its header says {says} = "
                f"{expected:,}",
                hint="copy or write it again",
            )

    def __call__(self, numbers: Index) -> np.ndarray[Any, Any]:
        """Read images; those that lie close together at once, in the order of the file.

        Raises:
            DataError: the file cannot be read, or was changed since it was opened.
        """
        if self._now() != self._state:
            raise self._other()
        size = self._size
        images = np.empty((len(numbers), size), np.uint8)
        if not images.size:
            return images.view(self._dtype)
        order = np.argsort(numbers, kind="stable")
        ordered = numbers[order]
        apart = np.diff(ordered) > max(GAP_BYTES // size, 1)
        apart |= np.diff(ordered // max(RUN_BYTES // size, 1)) != 0
        firsts = np.append(0, np.flatnonzero(apart) + 1)
        stops = np.append(firsts[1:], len(ordered))
        begins = self._begin + ordered[firsts] * size
        lengths = (ordered[stops - 1] - ordered[firsts] + 1) * size
        parts = [*zip(begins.tolist(), lengths.tolist(), strict=True)]
        self._announce(parts)
        for first, stop, part in zip(firsts.tolist(), stops.tolist(), parts, strict=True):
            content = self._content(*part)
            if stop == first + 1:
                images[order[first]] = content
            else:
                rows = ordered[first:stop] - ordered[first]
                images[order[first:stop]] = content.reshape(-1, size)[rows]
        return images.view(self._dtype)

    def _announce(self, parts: list[tuple[int, int]]) -> None:
        """Announce the next reads to the system, so that the disk serves many at once."""
        if hasattr(os, "posix_fadvise"):  # not on macOS
            for begin, length in parts:
                os.posix_fadvise(self._file, begin, length, os.POSIX_FADV_WILLNEED)

    def _content(self, begin: int, length: int) -> UInt8[np.ndarray, " length"]:
        content = b""
        while len(content) < length:
            try:
                more = os.pread(self._file, length - len(content), begin + len(content))
            except OSError as error:
                raise DataError.of(error, self._path) from None
            if not more:
                raise self._other()
            content = content + more if content else more
        return np.frombuffer(content, np.uint8)

    def _now(self) -> tuple[int, int]:
        found = os.fstat(self._file)
        return found.st_size, found.st_mtime_ns

    def _other(self) -> DataError:
        return DataError(
            f"{self._path}: was changed while it was in use",
            hint="put the old file back; it must stay as it is while a command reads it",
        )
