"""The arrays that a data set is made of."""

import hashlib
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Int, Int32, Real, UInt8

from vaectl.base import memory
from vaectl.base.errors import DataError
from vaectl.base.plural import plural
from vaectl.base.terminal import Tell, silent
from vaectl.data.stored import Stored, pieces, widened

COPIES = 4
"""The most copies of its images that the reading of a data set holds in memory at once."""
_MANY_BYTES = 10**9
"""Reading more bytes of images than this from disk takes so long that it is announced."""
_TEST_PART = 7
"""One in this many images is a test image if a data set has no splits, as in MNIST: 10,000 of
70,000."""


def most_in_memory(there: int | None = None) -> int:
    """Return the most bytes of images that are held in memory.

    Args:
        there: the bytes that they may take together with their copies; None: all memory.
    """
    return (memory.total() if there is None else there) // COPIES


class Images(NamedTuple):
    """Images, and their classes where these are known."""

    images: Real[np.ndarray, "images height width *channels"] | Stored
    """Grey images have no axis for channels. Values are as they are published;
    `vaectl.data.scale` turns them into bytes, 0 for black and 255 for white."""
    labels: Int32[np.ndarray, " images"] | None

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Height, width and channels of each image."""
        height, width, *channels = self.images.shape[1:]
        return height, width, channels[0] if channels else 1


@dataclass(frozen=True)
class Published:
    """A data set as its authors publish it: a training and a test split."""

    train: Images
    test: Images
    validation_size: int | None = None
    """The images at the end of `train` that validate by default; None: a sixth of them."""
    notes: tuple[str, ...] = ()
    """Remarks for the user on how the images were read."""
    classes: tuple[str, ...] = ()
    """The names of the classes, by number; none if they have only numbers."""

    def fingerprint(self, tell: Tell = silent) -> str:
        """Return the SHA-256 of shapes, pixels and labels, which identifies the data.

        Args:
            tell: called with a message if all of many images have to be read.
        """
        size = self.train.images.nbytes + self.test.images.nbytes
        if isinstance(self.train.images, Stored) and size > _MANY_BYTES:
            tell(f"reading all {size / 10**9:,.1f} GB for their SHA-256")
        digest = hashlib.sha256()
        for array in (*self.train, *self.test):
            if array is None:
                digest.update(b"none")
            else:
                digest.update(f"{array.dtype.str}{array.shape}".encode())
                for piece in pieces(array):
                    digest.update(np.ascontiguousarray(piece).data)
        return digest.hexdigest()


def divide(
    name: str, found: Images, notes: tuple[str, ...] = (), classes: tuple[str, ...] = ()
) -> Published:
    """Split images that are published without splits: a seventh of them test.

    The images of each split are spread as by `spread`.

    Args:
        name: of the data set, for messages.
        found: all images, in an order that never changes.
        notes: notes for the result; a note that the images were divided is added.
        classes: the names of the classes.

    Raises:
        DataError: there are fewer than three images, one for each split.
    """
    count = len(found.images)
    if count < 3:
        raise DataError(
            f"{name}: {plural(count, 'image')}, where training, validation and test need at least "
            "one each",
            hint="; ".join(["add images", *notes]),
        )
    test = max(count // _TEST_PART, 1)
    order = _order(found)
    train, rest = (_chosen(found, rows) for rows in (order[:-test], order[-test:]))
    divided = f"no test split: {test:,} of {count:,} images, always the same ones, are made one"
    return Published(train, rest, notes=(*notes, divided), classes=classes)


def spread(found: Images) -> Images:
    """Shuffle images, always in the same way, with their classes spread evenly.

    The first and the last images hold every class in proportion.
    """
    return _chosen(found, _order(found))


def _order(found: Images) -> Int[np.ndarray, " images"]:
    images, labels = found
    count = len(images)
    # the raw numbers of a bit generator are the same in every version of NumPy
    order = np.argsort(np.random.Philox(key=0).random_raw(count), kind="stable")
    if labels is not None:
        place = np.empty(count)
        for label in np.unique(labels):
            (of_class,) = np.nonzero(labels[order] == label)
            place[of_class] = (np.arange(len(of_class)) + 0.5) / len(of_class)
        order = order[np.argsort(place, kind="stable")]
    return order


def _chosen(found: Images, rows: Int[np.ndarray, " chosen"]) -> Images:
    return Images(found.images[rows], None if found.labels is None else found.labels[rows])


class Split(NamedTuple):
    """Images as a model sees them: bytes; after binarization each is 0 or 255."""

    images: UInt8[np.ndarray, "images height width channels"] | Stored
    labels: Int32[np.ndarray, " images"] | None

    @property
    def flat(self) -> UInt8[np.ndarray, "images pixels"] | Stored:
        """The same images, each as one row of numbers."""
        return self.images.reshape(len(self.images), -1)

    def rows(self, *, labelled: bool) -> UInt8[np.ndarray, "images numbers"] | Stored:
        """Return each image as a row of numbers; with `labelled` it ends with the class."""
        if not labelled:
            return self.flat
        if self.labels is None:
            raise ValueError("images without classes")
        return widened(self.flat, self.labels.astype(np.uint8))


@dataclass(frozen=True)
class Dataset:
    """The three splits of images of an experiment."""

    fingerprint: str
    image_shape: tuple[int, int, int]
    """Height, width and channels."""
    train: Split
    validation: Split
    test: Split
    drawings: bool = False
    """True if the images, before binarization, are drawings on a black background."""
    class_names: tuple[str, ...] = ()
    """The names of the classes, by number; none if they have only numbers."""
    notes: tuple[str, ...] = ()
    """Remarks for the user on how the images were read."""

    @property
    def on_disk(self) -> bool:
        """Tell whether images stay on disk, because all of them would take too much memory."""
        return isinstance(self.train.images, Stored)

    @property
    def classes(self) -> int:
        """One more than the largest class; 0 if an image has none, or one below zero."""
        ends = [0]
        for part in (self.train, self.validation, self.test):
            if part.labels is None or part.labels.min() < 0:
                return 0
            ends.append(int(part.labels.max()) + 1)
        return max(ends)
