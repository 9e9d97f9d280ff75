"""IDX files, the format in which MNIST and its kin are published, plain or gzipped."""

import gzip
import zlib
from pathlib import Path

import numpy as np
from jaxtyping import Int32, UInt8

from vaectl.data.arrays import Images, Source
from vaectl.errors import DataError

FILES = {
    "train": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
    "test": ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
}
_UNSIGNED_BYTES = 8


def load(directory: Path) -> Source:
    """Read the four IDX files of a directory.

    Raises:
        DataError: a file is missing, or is not what its name says.
    """
    if not directory.is_dir():
        raise DataError(
            f"{directory}: no such directory",
            hint="idx:DIR wants the directory that holds " + ", ".join(FILES["train"]) + ", ...",
        )
    train, test = (_images(directory, *FILES[split]) for split in ("train", "test"))
    if train.images.shape[1:] != test.images.shape[1:]:
        raise DataError(
            f"{directory}: {FILES['train'][0]} has images of {train.images.shape[1:]}, "
            f"{FILES['test'][0]} of {test.images.shape[1:]}"
        )
    return Source(train, test)


def read(path: Path, dimensions: int) -> UInt8[np.ndarray, "..."]:
    """Parse one file: two zero bytes, the type, the number of dimensions, the sizes, the data.

    Sizes are big-endian unsigned 32-bit integers.

    Raises:
        DataError: truncated, too long, not of bytes, or of another number of dimensions.
    """
    content = _content(path)
    if len(content) < 4 or content[:2] != b"\0\0":
        raise DataError(f"{path}: not an IDX file: it does not start with two zero bytes")
    if content[2] != _UNSIGNED_BYTES:
        raise DataError(
            f"{path}: elements of type 0x{content[2]:02x}, where unsigned bytes (0x08) belong"
        )
    if content[3] != dimensions:
        raise DataError(f"{path}: {content[3]} dimensions, where {dimensions} belong")
    start = 4 + 4 * dimensions
    if len(content) < start:
        raise DataError(f"{path}: truncated in its header", hint="fetch the file again")
    shape = np.frombuffer(content, ">u4", dimensions, offset=4).tolist()
    expected = int(np.prod(shape, dtype=object))
    if len(content) - start != expected:
        state = "truncated" if len(content) - start < expected else "too long"
        raise DataError(
            f"{path}: {state}: {len(content) - start} bytes of data, "
            f"where its header says {'x'.join(map(str, shape))} = {expected}",
            hint="fetch the file again",
        )
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape)


def _images(directory: Path, images_name: str, labels_name: str) -> Images:
    images = read(_find(directory, images_name), 3)
    if images.size == 0:
        raise DataError(f"{directory / images_name}: no images in it")
    labels: Int32[np.ndarray, " images"] = read(_find(directory, labels_name), 1).astype(np.int32)
    if len(images) != len(labels):
        raise DataError(
            f"{directory}: {len(images)} images in {images_name}, "
            f"but {len(labels)} labels in {labels_name}"
        )
    return Images(images, labels)


def _find(directory: Path, name: str) -> Path:
    for path in (directory / name, directory / f"{name}.gz"):
        if path.is_file():
            return path
    raise DataError(
        f"{directory}: neither {name} nor {name}.gz is there",
        hint="idx:DIR wants four files: " + ", ".join(FILES["train"] + FILES["test"]),
    )


def _content(path: Path) -> bytes:
    try:
        if path.suffix == ".gz":
            with gzip.open(path) as file:
                return file.read()
        return path.read_bytes()
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise DataError(f"{path}: broken gzip file: {error}", hint="fetch the file again") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from None
