"""Exact means of an objective's terms over a split: every image counts once.

Training evaluates the validation split with them after each epoch.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Float, Int, UInt8, UInt32

from vaectl.base import mesh, streams
from vaectl.data.stored import Stored
from vaectl.objectives.base import Objective, with_elbo
from vaectl.vae.vae import VAE, Variables

HostImages = UInt8[np.ndarray, "_ numbers"] | UInt8[Stored, "_ numbers"]
"""Any number of flat images of intensities 0 to 255, in host memory or on disk, each with its class
if the model is conditional."""

Images = UInt8[Array, "_ numbers"] | HostImages
"""Flat images on the device, or elsewhere."""

Shapes = Images | jax.ShapeDtypeStruct
"""Flat images, or the shape and type of images on the device, which are enough to compile."""

ON_HOST = np.ndarray, Stored
"""The types of images that travel to the device in parts."""


Means = Mapping[str, float]
"""Means over the images of a split, in nats per image, by the name of the term."""


@dataclass(frozen=True)
class Estimator:
    """A way to evaluate a network; equal values share one compiled program."""

    vae: VAE
    objective: Objective
    samples: int
    """L, the samples of z per image."""
    batch_size: int = 1000
    """Images at a time. There is no setting for it, because the noise depends on it."""
    part_bytes: int = 32 * 2**20
    """Bytes of images that are moved to the device at a time."""
    mesh: Mesh | None = None
    """The devices that share the batches; None for a single one."""


def means(sums: Mapping[str, Any], images: int) -> Means:
    """Divide sums over images by their number, and add the ELBO."""
    return with_elbo({name: float(value) / images for name, value in sums.items()})


def split_means(
    estimator: Estimator,
    variables: Variables,
    images: Images,
    seed: UInt32[Array, ""],
    step: int,
    epoch: float,
) -> Means:
    """Return the means of all terms over a split; for the arguments see `term_sums`.

    Images in host memory or on disk are moved to the device part by part.
    """
    sums: dict[str, float] = {}
    for first, count, part in _parts(estimator, images, seed):
        batches = compiled_sums(estimator, variables, part, seed, step, epoch, first, count)
        for name, values in batches.items():
            sums[name] = sums.get(name, 0.0) + float(np.asarray(values, np.float64).sum())
    return means(sums, len(images))


def term_sums(
    estimator: Estimator,
    variables: Variables,
    images: UInt8[Array, "images numbers"],
    seed: UInt32[Array, ""],
    step: Int[Array, ""] | int,
    epoch: Float[Array, ""] | float,
    first: Int[Array, ""] | int,
    count: Int[Array, ""] | int,
) -> Mapping[str, Float[Array, " batches"]]:
    """Sum the terms over each batch of a part of a split.

    Args:
        estimator: what is evaluated.
        variables: the arrays of the network.
        images: the part; intensities 0 to 255.
        seed: the run's seed.
        step: the run's step; each step has its own noise.
        epoch: the run's epoch.
        first: the index of the part's first image in the split, on which its noise depends.
        count: the number of images that count; images after them are padding.

    Returns:
        For each term, its sum over the images of each batch, in nats.
    """
    vae = estimator.vae
    network = vae.network(variables)
    size = min(estimator.batch_size, len(images))
    stream = streams.key(seed, "evaluate", step)

    def batch_sums(start: Int[Array, ""]) -> Mapping[str, Float[Array, ""]]:
        rows = start + jnp.arange(size)
        key = jax.random.fold_in(stream, first + start)
        noise = jax.random.normal(key, (estimator.samples, size, vae.code_size))
        # beyond the end: the last image, with weight zero
        pixels, y = vae.apart(images[jnp.minimum(rows, count - 1)])
        x = vae.unit(pixels)
        _, terms = estimator.objective.terms(network.given(y), x, noise, jnp.float32(epoch))
        weights = (rows < count).astype(jnp.float32)
        return {name: values @ weights for name, values in terms.items()}

    return mesh.gathered(estimator.mesh, batch_sums, jnp.arange(0, len(images), size))


compiled_sums = jax.jit(mesh.shared(term_sums), static_argnames="estimator")


def lowered(
    estimator: Estimator, variables: Variables, images: Shapes, seed: UInt32[Array, ""]
) -> Any:
    """Lower what `split_means` runs, for compilation; shapes are enough as variables."""
    first, count, part = next(_parts(estimator, images, seed))
    return compiled_sums.lower(estimator, variables, part, seed, 0, 0.0, first, count)


def _parts(
    estimator: Estimator, images: Shapes, seed: UInt32[Array, ""]
) -> Iterator[tuple[int, int, Any]]:
    """Yield the index of each part's first image, how many of its images count, and the images."""
    if not isinstance(images, ON_HOST):
        yield 0, len(images), images
        return
    # whole batches, so that each has the same noise as in a split on the device
    batches = max(estimator.part_bytes // (estimator.batch_size * images.shape[1]), 1)
    size = min(batches * estimator.batch_size, len(images))
    for first in range(0, len(images), size):
        part = np.asarray(images[first : first + size])
        filled = np.pad(part, ((0, size - len(part)), (0, 0)))
        yield first, len(part), mesh.beside(filled, seed)
