"""Means of the bound over a whole split, exact: every image counts once."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, Int, UInt8, UInt32

from vaectl import streams
from vaectl.model import VAE, Params
from vaectl.objective import elbo

BATCH_SIZE = 1000  # fixed, so that the noise, and with it the numbers, never depend on a setting


class Means(NamedTuple):
    """Means over the images of a split, in nats per image."""

    kl: float
    nll: float

    @property
    def elbo(self) -> float:
        """-(NLL + KL): higher is better."""
        return -(self.nll + self.kl)


def unit(pixels: UInt8[Array, "*shape"]) -> Float[Array, "*shape"]:
    """Intensities 0 to 255 as numbers in [0, 1]."""
    scaled: Array = pixels.astype(jnp.float32) * jnp.float32(1 / 255)
    return scaled


def means(sums: Float[np.ndarray | Array, "parts 2"], images: int) -> Means:
    """Add up (KL, NLL) sums of the parts of a split in float64, and divide by its images."""
    kl, nll = (np.asarray(sums, np.float64).sum(axis=0) / images).tolist()
    return Means(kl, nll)


@partial(jax.jit, static_argnames=("graph", "samples"))
def bound_sums(
    graph: nnx.GraphDef[VAE],
    samples: int,
    params: Params,
    images: UInt8[Array, "images pixels"],
    seed: UInt32[Array, ""],
    step: Int[Array, ""],
) -> Float[Array, "batches 2"]:
    """The bound of a split, batch by batch.

    Args:
        graph: of the model.
        samples: L of the estimate of E[log p(x|z)].
        params: of the model.
        images: 0 to 255.
        seed: of the run.
        step: of the run; its noise differs from that of other steps.

    Returns:
        (KL, NLL) summed over the images of each batch, in nats.
    """
    model = nnx.merge(graph, params)
    count = images.shape[0]
    size = min(BATCH_SIZE, count)
    stream = streams.key(seed, "evaluate", step)

    def batch_sums(start: Int[Array, ""]) -> Float[Array, "2"]:
        rows = start + jnp.arange(size)
        key = jax.random.fold_in(stream, start)
        noise = jax.random.normal(key, (samples, size, model.code_size))
        # past the end the last image stands in, with weight zero
        bound = elbo(model, unit(images[jnp.minimum(rows, count - 1)]), noise)
        weights = (rows < count).astype(jnp.float32)
        return jnp.stack([bound.kl @ weights, bound.nll @ weights])

    sums: Array = jax.lax.map(batch_sums, jnp.arange(0, count, size))
    return sums
