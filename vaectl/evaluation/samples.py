"""Find samples from the prior that are unlike all images of the data."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, UInt8

from vaectl.data.arrays import Dataset

MOST_TRAINING, MOST_VALIDATION = 20_000, 2000
"""The most images of a split that samples are compared with, its first ones."""


class Broken(NamedTuple):
    """Samples that are unlike all images of the data, by the reason."""

    ink: Bool[np.ndarray, " images"]
    """Their ink is that of no image."""
    far: Bool[np.ndarray, " images"]
    """Their distance to the data is that of no image."""


def broken(
    samples: Float[np.ndarray, "images pixels"], dataset: Dataset
) -> Bool[np.ndarray, " images"]:
    """Mark samples that are unlike all images of the data, for either reason: see `reasons`."""
    found = reasons(samples, dataset)
    wrong: np.ndarray = found.ink | found.far
    return wrong


def reasons(samples: Float[np.ndarray, "images pixels"], dataset: Dataset) -> Broken:
    """Mark samples whose ink, or whose distance to the data, no image of the data has.

        ink        a(x) = sum_i x_i;   outside its 0.1 % to 99.9 % quantiles over training images
        distance   d(x) = min_j |x - x_j| over training images x_j;   above its 99 % quantile over
                   validation images

    Grey, inverted and empty pictures have a wrong ink, noise a large distance. A blurred mixture of
    two classes passes both, so this is a lower bound on what a person would call broken.

    Args:
        samples: decoded means, from 0 to 1.
        dataset: the data of the model.
    """
    training = _unit(np.asarray(dataset.train.flat[:MOST_TRAINING]))
    held_out = _unit(np.asarray(dataset.validation.flat[:MOST_VALIDATION]))
    least, most = np.quantile(training.sum(axis=1), [0.001, 0.999])
    farthest = np.quantile(_distance(held_out, training), 0.99)
    ink = samples.sum(axis=1)
    return Broken((ink < least) | (ink > most), _distance(samples, training) > farthest)


def _unit(images: UInt8[np.ndarray, "images pixels"]) -> Float[np.ndarray, "images pixels"]:
    return images.astype(np.float32) / np.float32(255)


def _distance(
    images: Float[np.ndarray, "images pixels"], others: Float[np.ndarray, "others pixels"]
) -> Float[np.ndarray, " images"]:
    """Return the distance of each image to the nearest of the others."""
    lengths = np.square(others).sum(axis=1)
    parts = np.array_split(images, -(-len(images) // 250))  # 20 MB each
    nearest = np.concatenate([(lengths - 2 * part @ others.T).min(axis=1) for part in parts])
    squared = np.square(images).sum(axis=1) + nearest
    distance: np.ndarray = np.sqrt(np.maximum(squared, 0))
    return distance
