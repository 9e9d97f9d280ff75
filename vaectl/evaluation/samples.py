"""Find samples from the prior that look broken: unlike nearly all images of the data."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Shaped, UInt8

from vaectl.data.arrays import Dataset, Split

MOST_TRAINING, MOST_VALIDATION = 20_000, 2000
"""The most images of a split that samples are compared with, its first ones."""
MOST_JUDGED = 1000
"""The most images of a split that are judged like samples: its first ones."""
_PART_BYTES = 2**24
"""The largest block of images, in bytes, whose distances are computed at a time."""


class Broken(NamedTuple):
    """Samples that look broken, by the reason."""

    ink: Bool[np.ndarray, " images"]
    """Their ink is beyond that of nearly all images."""
    far: Bool[np.ndarray, " images"]
    """Their distance to the data is beyond that of nearly all images."""

    @property
    def either(self) -> Bool[np.ndarray, " images"]:
        """Those that look broken for either reason."""
        found: np.ndarray = self.ink | self.far
        return found


def broken_share(split: Split, dataset: Dataset) -> float:
    """Return the share of the images of a split that would be marked if they were samples.

    This is the share that a perfect model would have. For validation images it is about 1 % by the
    choice of the limits.
    """
    images = np.asarray(split.flat[:MOST_JUDGED], np.float32) / np.float32(255)
    return float(broken(images, dataset).either.mean())


def broken(samples: Float[np.ndarray, "images pixels"], dataset: Dataset) -> Broken:
    """Mark samples whose ink, or whose distance to the data, about 1 % of images have.

        ink        a(x) = sum_i x_i;   outside its 0.1 % to 99.9 % quantiles over training images
        distance   d(x) = min_j |x - x_j| over training images x_j;   above its 99 % quantile over
                   validation images

    Grey, inverted and empty pictures have a wrong ink, noise a large distance. A blurred mixture of
    two classes passes both, so this is a lower bound on what a person would call broken.

    Args:
        samples: decoded means, from 0 to 1.
        dataset: the data of the model.
    """
    training = np.asarray(dataset.train.flat[:MOST_TRAINING])
    held_out = np.asarray(dataset.validation.flat[:MOST_VALIDATION])
    least, most = np.quantile(training.sum(axis=1) / 255, [0.001, 0.999])
    farthest = np.quantile(_distance(held_out, training), 0.99)
    ink = samples.sum(axis=1)
    return Broken((ink < least) | (ink > most), _distance(samples, training) > farthest)


def _distance(
    images: Shaped[np.ndarray, "images pixels"], others: UInt8[np.ndarray, "others pixels"]
) -> Float[np.ndarray, " images"]:
    """Return the distance of each image to the nearest of the others, in blocks of both."""
    found = []
    for part in _parts(images):
        squared = np.full(len(part), np.inf, np.float32)
        for other in _parts(others):
            to_other = np.square(other).sum(axis=1) - 2 * part @ other.T
            squared = np.minimum(squared, to_other.min(axis=1))
        found.append(np.square(part).sum(axis=1) + squared)
    distance: np.ndarray = np.sqrt(np.maximum(np.concatenate(found), 0))
    return distance


def _parts(
    images: Shaped[np.ndarray, "images pixels"],
) -> Iterator[Float[np.ndarray, "some pixels"]]:
    """Yield images in blocks, bytes as numbers from 0 to 1."""
    rows = max(1, _PART_BYTES // (4 * images.shape[1]))
    for start in range(0, len(images), rows):
        part = images[start : start + rows].astype(np.float32)
        yield part / np.float32(255) if images.dtype == np.uint8 else part
