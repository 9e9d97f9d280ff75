"""Means of an objective's terms over a whole split, exact: every image counts once.

This is what training asks for after each epoch: sums, compiled once.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, UInt8, UInt32

from vaectl.base import streams
from vaectl.objectives.base import Objective, with_elbo
from vaectl.vae.vae import VAE, Variables

PART_BYTES = 32 * 2**20
"""Of a split so much is on the device at once where it is kept in host memory."""

BATCH_SIZE = 1000  # fixed, so that the noise, and with it the numbers, never depend on a setting

Images = UInt8[Array, "_ pixels"] | UInt8[np.ndarray, "_ pixels"]
"""Flat images of intensities 0 to 255, on the device or in host memory; as many as there are."""

Means = Mapping[str, float]
"""Means over the images of a split, in nats per image, by name."""


@dataclass(frozen=True)
class Estimator:
    """What is evaluated, as a value: equal ones compile once."""

    vae: VAE
    objective: Objective
    samples: int
    """L, of z per image."""


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
    """The terms of a split, whole: its arguments are those of `term_sums`.

    Images in host memory are brought to the device part by part.
    """
    sums: dict[str, float] = {}
    for first, count, part in _parts(images):
        batches = compiled_sums(estimator, variables, part, seed, step, epoch, first, count)
        for name, values in batches.items():
            sums[name] = sums.get(name, 0.0) + float(np.asarray(values, np.float64).sum())
    return means(sums, len(images))


def term_sums(
    estimator: Estimator,
    variables: Variables,
    images: UInt8[Array, "images pixels"],
    seed: UInt32[Array, ""],
    step: Int[Array, ""] | int,
    epoch: Float[Array, ""] | float,
    first: Int[Array, ""] | int,
    count: Int[Array, ""] | int,
) -> Mapping[str, Float[Array, " batches"]]:
    """The terms of a part of a split, batch by batch.

    Args:
        estimator: what is evaluated.
        variables: of the network.
        images: 0 to 255.
        seed: of the run.
        step: of the run; its noise differs from that of other steps.
        epoch: of the run.
        first: where in the split the part begins; its noise depends on it.
        count: how many of the images count; those after them fill up.

    Returns:
        Each term, summed over the images of each batch, in nats.
    """
    vae = estimator.vae
    network = vae.network(variables)
    size = min(BATCH_SIZE, len(images))
    stream = streams.key(seed, "evaluate", step)

    def batch_sums(start: Int[Array, ""]) -> Mapping[str, Float[Array, ""]]:
        rows = start + jnp.arange(size)
        key = jax.random.fold_in(stream, first + start)
        noise = jax.random.normal(key, (estimator.samples, size, vae.code_size))
        # past the end the last image stands in, with weight zero
        x = vae.unit(images[jnp.minimum(rows, count - 1)])
        _, terms = estimator.objective.terms(network, x, noise, jnp.float32(epoch))
        weights = (rows < count).astype(jnp.float32)
        return {name: values @ weights for name, values in terms.items()}

    sums: Mapping[str, Float[Array, " batches"]] = jax.lax.map(
        batch_sums, jnp.arange(0, len(images), size)
    )
    return sums


compiled_sums = jax.jit(term_sums, static_argnames="estimator")


def lowered(
    estimator: Estimator, variables: Variables, images: Images, seed: UInt32[Array, ""]
) -> Any:
    """What `split_means` runs, to be compiled; of the variables, shapes are enough."""
    first, count, part = next(_parts(images))
    return compiled_sums.lower(estimator, variables, part, seed, 0, 0.0, first, count)


def _parts(images: Images) -> Iterator[tuple[int, int, UInt8[Array, "part pixels"]]]:
    """Where each part of a split begins, how many images count, and these, on the device."""
    if not isinstance(images, np.ndarray):
        yield 0, len(images), images
        return
    # whole batches, which have the noise that they would have among all
    batches = max(PART_BYTES // (BATCH_SIZE * images.shape[1]), 1)
    size = min(batches * BATCH_SIZE, len(images))
    for first in range(0, len(images), size):
        part = images[first : first + size]
        filled = np.pad(part, ((0, size - len(part)), (0, 0)))
        yield first, len(part), jnp.asarray(filled)
