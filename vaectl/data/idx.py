"""IDX files, the format in which MNIST and data sets like it are published, plain or gzipped."""

import gzip
import math
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import numpy as np
from jaxtyping import UInt8

from vaectl.base import memory
from vaectl.base.errors import DataError
from vaectl.base.files import regular
from vaectl.base.nearest import did_you_mean_path
from vaectl.data.arrays import COPIES, Images, Published

FILES = {
    "train": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
    "test": ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
}
_LAYOUT = (
    f"the folder should hold {FILES['train'][0]} and {FILES['test'][0]}, plain or .gz; "
    f"{FILES['train'][1]} and {FILES['test'][1]} are optional"
)
_UNSIGNED_BYTES = 8


def read_folder(directory: Path) -> Published:
    """Read the IDX files of a folder: two of images, and those of labels that are there.

    Raises:
        DataError: a file is missing, or is not what its name says.
    """
    try:
        there = {path.name for path in directory.iterdir()}
    except OSError as error:
        near = did_you_mean_path(directory)
        raise DataError.of(error, directory, near=near, hint=_LAYOUT) from None
    train, test = (_images(directory, there, *FILES[split]) for split in ("train", "test"))
    return Published(train, test)


def read(path: Path, dimensions: int) -> UInt8[np.ndarray, "..."]:
    """Read one file: two zero bytes, the type, the number of dimensions, the sizes, the data.

    Sizes are big-endian unsigned 32-bit integers.

    Raises:
        DataError: it is truncated, too long, not of bytes, of another number of dimensions, or of
            more data than there is memory for.
    """
    with _open(path) as file:
        shape = _shape(path, file.read(4 + 4 * dimensions), dimensions)
        expected = math.prod(shape)
        says = f"its header says {'x'.join(map(str, shape))} = {expected}"
        if too_much := memory.excess(COPIES * expected):
            raise DataError(f"{path}: {says}, and that {too_much}", hint="fetch the file again")
        # one byte more shows that a file is too long, without unpacking all of it
        content = file.read(expected + 1)
    if len(content) != expected:
        state = "truncated:" if len(content) < expected else "too long: at least"
        raise DataError(
            f"{path}: {state} {len(content)} bytes of data, where {says}",
            hint="fetch the file again",
        )
    return np.frombuffer(content, np.uint8).reshape(shape)


def _shape(path: Path, header: bytes, dimensions: int) -> list[int]:
    if len(header) < 4 or header[:2] != b"\0\0":
        raise DataError(
            f"{path}: not an IDX file: it does not start with two zero bytes", hint=_LAYOUT
        )
    if header[2] != _UNSIGNED_BYTES:
        raise DataError(
            f"{path}: elements of type 0x{header[2]:02x}, not unsigned bytes (0x08)",
            hint="write it as bytes, 0 to 255",
        )
    if header[3] != dimensions:
        raise DataError(f"{path}: {header[3]} dimensions instead of {dimensions}", hint=_LAYOUT)
    if len(header) < 4 + 4 * dimensions:
        raise DataError(f"{path}: truncated in its header", hint="fetch the file again")
    shape: list[int] = np.frombuffer(header, ">u4", offset=4).tolist()
    return shape


def _images(directory: Path, there: set[str], images_name: str, labels_name: str) -> Images:
    images_file, labels_file = (
        _find(directory, there, name) for name in (images_name, labels_name)
    )
    if images_file is None:
        raise DataError(
            f"{directory}: neither {images_name} nor {images_name}.gz is there", hint=_LAYOUT
        )
    images = read(images_file, 3)
    if images.size == 0:
        raise DataError(f"{images_file}: no images in it", hint="fetch the file again")
    if labels_file is None:
        return Images(images, None)
    labels = read(labels_file, 1)
    if len(images) != len(labels):
        raise DataError(
            f"{directory}: {len(images)} images in {images_name}, "
            f"but {len(labels)} labels in {labels_name}",
            hint="are they files of two data sets? The file of labels may also be left out",
        )
    return Images(images, labels.astype(np.int32))


def _find(directory: Path, there: set[str], name: str) -> Path | None:
    return next((directory / file for file in (name, f"{name}.gz") if file in there), None)


@contextmanager
def _open(path: Path) -> Iterator[IO[bytes] | gzip.GzipFile]:
    try:
        with regular(path) as file:
            yield gzip.GzipFile(fileobj=file) if path.suffix == ".gz" else file
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise DataError(f"{path}: broken gzip file: {error}", hint="fetch the file again") from None
    except OSError as error:
        raise DataError.of(error, path) from None
