"""The arrays that a data set is made of."""

import hashlib
import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Int32, Real, UInt8

COPIES = 4
"""Of its images that reading and binarizing a data set may hold at once."""


class Images(NamedTuple):
    """Images of one channel, and their classes where these are known."""

    images: Real[np.ndarray, "images height width"]
    """As they are published; `vaectl.data.scale` makes bytes of them, 0 black and 255 white."""
    labels: Int32[np.ndarray, " images"] | None


@dataclass(frozen=True)
class Source:
    """A data set as its authors publish it: a training and a test split."""

    train: Images
    test: Images
    validation_size: int | None = None
    """How many images at the end of `train` validate by default; None: a sixth of them."""
    notes: tuple[str, ...] = ()
    """What a person should know of how the pixels were read."""

    def fingerprint(self) -> str:
        """SHA-256 of shapes, pixels and labels: equal if and only if the data are."""
        digest = hashlib.sha256()
        for array in (*self.train, *self.test):
            if array is None:
                digest.update(b"none")
            else:
                digest.update(f"{array.dtype.str}{array.shape}".encode())
                digest.update(np.ascontiguousarray(array).data)
        return digest.hexdigest()


class Split(NamedTuple):
    """Images as a model sees them: after binarization either 0 or 255."""

    images: UInt8[np.ndarray, "images height width channels"]
    labels: Int32[np.ndarray, " images"] | None

    @property
    def flat(self) -> UInt8[np.ndarray, "images pixels"]:
        """The same images, each as one row of numbers."""
        return self.images.reshape(len(self.images), -1)


@dataclass(frozen=True)
class Dataset:
    """What an experiment trains, validates and tests on."""

    fingerprint: str
    image_shape: tuple[int, int, int]
    """Height, width and channels."""
    train: Split
    validation: Split
    test: Split
    notes: tuple[str, ...] = ()
    """What a person should know of how the pixels were read."""

    @property
    def pixels(self) -> int:
        """Numbers of an image, over all its channels."""
        return math.prod(self.image_shape)
