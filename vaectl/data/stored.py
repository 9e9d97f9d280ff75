"""Images that stay on disk: indexing selects some of them, and `numpy.asarray` reads those."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, final, overload

import numpy as np
from jaxtyping import Integer

from vaectl.base import memory
from vaectl.base.errors import DataError

PIECE_BYTES = 16 * 2**20
"""Bytes of images that `pieces` reads at once."""

Array = np.ndarray[Any, Any]
Index = Integer[np.ndarray, " images"]
Key = slice | Sequence[int] | Index


@final
class Stored:
    """An array of images that are read when they are needed.

    It has the attributes of a NumPy array that tell its shape. Its first axis counts images; a
    slice or an array of numbers selects some of them without reading any, and one number reads one.
    """

    def __init__(
        self,
        read: Callable[[Index], Array],
        index: range | Index,
        image_shape: tuple[int, ...],
        dtype: np.dtype[Any],
    ) -> None:
        """Describe an array.

        Args:
            read: reads images by their numbers, in any order; axes after the first are arbitrary.
            index: the number of each image of this array.
            image_shape: the axes after the first.
            dtype: the type of what `read` returns.
        """
        self._read, self._index = read, index
        self.shape = (len(index), *image_shape)
        self.dtype = dtype

    @property
    def ndim(self) -> int:
        """The number of axes."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """The number of values."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """The bytes that all images have once they are read."""
        return self.size * self.dtype.itemsize

    def __len__(self) -> int:
        return len(self._index)

    @overload
    def __getitem__(self, key: int) -> Array: ...

    @overload
    def __getitem__(self, key: Key) -> Stored: ...

    def __getitem__(self, key: int | Key) -> Stored | Array:
        if isinstance(key, int | np.integer):
            image: Array = np.asarray(self[[range(len(self))[key]]])[0]
            return image
        return Stored(self._read, _selected(self._index, key), self.shape[1:], self.dtype)

    def reshape(self, *shape: int) -> Stored:
        """Return the same images with other axes after the first."""
        one = np.empty(self.shape[1:], np.bool_).reshape(shape[1:]).shape
        return Stored(self._read, self._index, one, self.dtype)

    def resized(self, numbers: int) -> Stored:
        """Return the same images as rows of so many numbers, which is what reading returns."""
        return Stored(self._read, self._index, (numbers,), self.dtype)

    def map(self, change: Callable[[Array, Index], Array], dtype: np.dtype[Any]) -> Stored:
        """Return changed images; each is changed whenever it is read.

        Args:
            change: gets some of these images and their places in this array.
            dtype: the type of what it returns.
        """

        def read(places: Index) -> Array:
            return change(np.asarray(self[places]), places)

        return Stored(read, range(len(self)), self.shape[1:], dtype)

    def __array__(self, dtype: np.dtype[Any] | None = None, copy: bool | None = None) -> Array:
        """Read all images of this array.

        Raises:
            DataError: they do not fit into memory, or cannot be read.
        """
        del copy  # reading always makes a new array
        if too_much := memory.excess(self.nbytes):
            raise DataError(
                f"{len(self):,} images at once: that {too_much}",
                hint="choose fewer by data.train_size, data.validation_size or data.test_size",
            )
        array = self._read(np.asarray(self._index, np.int64)).reshape(self.shape)
        return array if dtype is None else array.astype(dtype, copy=False)


Pixels = Array | Stored
"""Images in memory or on disk."""


def pieces(images: Pixels) -> Iterator[Array]:
    """Yield images in memory at once; those on disk in pieces of bounded size."""
    if not isinstance(images, Stored):
        yield images
        return
    size = max(PIECE_BYTES * len(images) // max(images.nbytes, 1), 1)
    for first in range(0, len(images), size):
        yield np.asarray(images[first : first + size])


def ends(images: Pixels) -> tuple[Any, Any]:
    """Return the smallest and the largest value; both are NaN if a value is.

    If both ends of the type are found early, the other images are not read.
    """
    low: Any = None
    high: Any = None
    for piece in pieces(images):
        low = piece.min() if low is None else np.minimum(low, piece.min())
        high = piece.max() if high is None else np.maximum(high, piece.max())
        if images.dtype == np.uint8 and (low, high) == (0, 255):
            break
    return low, high


def changed(images: Pixels, change: Callable[[Array], Array], dtype: np.dtype[Any]) -> Pixels:
    """Change images one by one: now those in memory, those on disk whenever they are read.

    Args:
        images: what is changed.
        change: gets some of the images; each result depends on its image alone.
        dtype: the type of what it returns.
    """
    if isinstance(images, Stored):
        return images.map(lambda part, _: change(part), dtype)
    return change(images)


def widened(images: Pixels, last: Array) -> Pixels:
    """Add a column to images that are rows of numbers; to those on disk whenever they are read."""
    if not isinstance(images, Stored):
        return np.column_stack([images, last])
    changed = images.map(lambda part, places: np.column_stack([part, last[places]]), images.dtype)
    return changed.resized(images.shape[1] + 1)


def joined(first: Pixels, second: Pixels) -> Pixels:
    """Return images one after another; those on disk stay there."""
    if not (isinstance(first, Stored) or isinstance(second, Stored)):
        return np.concatenate([first, second])
    kind, begin = np.result_type(first.dtype, second.dtype), len(first)

    def read(numbers: Index) -> Array:
        images = np.empty((len(numbers), *first.shape[1:]), kind)
        here = numbers < begin
        images[here] = np.asarray(first[numbers[here]])
        images[~here] = np.asarray(second[numbers[~here] - begin])
        return images

    return Stored(read, range(begin + len(second)), first.shape[1:], kind)


def _selected(index: range | Index, key: Key) -> range | Index:
    if isinstance(key, slice):
        return index[key]
    places = np.asarray(key, np.int64)
    if not isinstance(index, range):
        return index[places]
    if places.size and not (places.min() >= 0 and places.max() < len(index)):
        raise IndexError(f"an image beyond the {len(index):,} that there are")
    step = index.step if len(index) > 1 else 0  # that of fewer images may be any integer
    return index.start + step * places
