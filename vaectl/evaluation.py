"""Means over a whole split, exact: every image counts once.

`bound_sums` is what training asks for after each epoch: sums, compiled once. `likelihoods` is what
a person asks for in the end: values of each image, for standard errors, and the importance-weighted
bound.
"""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, Int, Int32, Key, UInt8, UInt32

from vaectl import streams
from vaectl.model import VAE, Params
from vaectl.objective import (
    bernoulli_log_likelihood,
    elbo,
    gaussian_kl,
    log_importance_weights,
)

IMPORTANCE_BATCH = 250
IMPORTANCE_CHUNK = 4
"""Images and samples of z that are decoded at once; memory follows their product, never K."""

PART_BYTES = 32 * 2**20
"""Of a split so much is on the device at once where it is kept in host memory."""

BATCH_SIZE = 1000  # fixed, so that the noise, and with it the numbers, never depend on a setting


Images = UInt8[Array, "images pixels"] | UInt8[np.ndarray, "images pixels"]


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


def means(sums: Float[np.ndarray, "2"], images: int) -> Means:
    """Divide the sums of KL and NLL by the number of images."""
    kl, nll = (sums / images).tolist()
    return Means(kl, nll)


def split_means(
    graph: nnx.GraphDef[VAE],
    samples: int,
    params: Params,
    images: Images,
    seed: UInt32[Array, ""],
    step: int,
) -> Means:
    """The bound of a split, whole: its arguments are those of `bound_sums`.

    Images in host memory are brought to the device part by part.
    """
    sums = np.zeros(2)
    for first, count, part in _parts(images):
        batches = bound_sums(graph, samples, params, part, seed, step, first, count)
        sums += np.asarray(batches, np.float64).sum(axis=0)
    return means(sums, len(images))


@partial(jax.jit, static_argnames=("graph", "samples"))
def bound_sums(
    graph: nnx.GraphDef[VAE],
    samples: int,
    params: Params,
    images: UInt8[Array, "images pixels"],
    seed: UInt32[Array, ""],
    step: Int[Array, ""] | int,
    first: Int[Array, ""] | int,
    count: Int[Array, ""] | int,
) -> Float[Array, "batches 2"]:
    """The bound of a part of a split, batch by batch.

    Args:
        graph: of the model.
        samples: L of the estimate of E[log p(x|z)].
        params: of the model.
        images: 0 to 255.
        seed: of the run.
        step: of the run; its noise differs from that of other steps.
        first: where in the split the part begins; its noise depends on it.
        count: how many of the images count; those after them fill up.

    Returns:
        (KL, NLL) summed over the images of each batch, in nats.
    """
    model = nnx.merge(graph, params)
    size = min(BATCH_SIZE, len(images))
    stream = streams.key(seed, "evaluate", step)

    def batch_sums(start: Int[Array, ""]) -> Float[Array, "2"]:
        rows = start + jnp.arange(size)
        key = jax.random.fold_in(stream, first + start)
        noise = jax.random.normal(key, (samples, size, model.code_size))
        # past the end the last image stands in, with weight zero
        bound = elbo(model, unit(images[jnp.minimum(rows, count - 1)]), noise)
        weights = (rows < count).astype(jnp.float32)
        return jnp.stack([bound.kl @ weights, bound.nll @ weights])

    sums: Array = jax.lax.map(batch_sums, jnp.arange(0, len(images), size))
    return sums


def lowered(
    graph: nnx.GraphDef[VAE],
    samples: int,
    params: Params,
    images: Images,
    seed: UInt32[Array, ""],
) -> Any:
    """What `split_means` runs, to be compiled; of the parameters, shapes are enough."""
    first, count, part = next(_parts(images))
    return bound_sums.lower(graph, samples, params, part, seed, 0, first, count)


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


class Likelihoods(NamedTuple):
    """Values of each image of a split, in nats."""

    kl: Float[np.ndarray, " images"]
    nll: Float[np.ndarray, " images"]
    iw: Float[np.ndarray, " images"] | None
    """The importance-weighted bound on log p(x), where it was asked for."""
    mu: Float[np.ndarray, "images code"]
    """Posterior means."""
    kl_by_dimension: Float[np.ndarray, " code"]
    """Mean over images of the KL of each dimension of the code."""


def likelihoods(
    graph: nnx.GraphDef[VAE],
    params: Params,
    images: UInt8[np.ndarray, "images pixels"],
    *,
    samples: int,
    importance_samples: int,
    seed: int,
    watch: Callable[[int, int], None] = lambda _done, _total: None,
) -> Likelihoods:
    """Evaluate every image of a split.

        IW-K(x) = log 1/K sum_k w_k,   log w_k as in `objective.log_importance_weights`

    Its expectation never falls as K grows, and tends to log p(x); at K = 1 it is the ELBO's.

    Args:
        graph: of the model.
        params: of the model.
        images: 0 to 255.
        samples: L of the ELBO's estimate.
        importance_samples: K; 0 for none.
        seed: of the noise.
        watch: told how many images are done, of how many.

    Burda et al. 2016, eq. 8.
    """
    stream = streams.key(seed, "evaluate")
    parts, bounds = [], []
    for start in range(0, len(images), IMPORTANCE_BATCH):
        batch = images[start : start + IMPORTANCE_BATCH]
        # the last image fills a short batch up, so that there is one shape to compile
        filled = np.pad(batch, ((0, IMPORTANCE_BATCH - len(batch)), (0, 0)), mode="edge")
        key = jax.random.fold_in(stream, start)
        parts.append([a[: len(batch)] for a in _bound_of_each(graph, params, filled, key, samples)])
        if importance_samples:
            k = jnp.asarray(importance_samples, jnp.int32)
            bounds.append(importance_weighted_bound(graph, params, filled, key, k)[: len(batch)])
            bounds[-1].block_until_ready()
        watch(start + len(batch), len(images))
    kl_each, nll, mu = (np.concatenate(part) for part in zip(*parts, strict=True))
    return Likelihoods(
        kl=kl_each.sum(axis=1),
        nll=nll,
        iw=np.concatenate(bounds) if bounds else None,
        mu=mu,
        kl_by_dimension=kl_each.mean(axis=0, dtype=np.float64),
    )


@partial(jax.jit, static_argnames=("graph", "samples"))
def _bound_of_each(
    graph: nnx.GraphDef[VAE],
    params: Params,
    images: UInt8[Array, "batch pixels"],
    key: Key[Array, ""],
    samples: int,
) -> tuple[Float[Array, "batch code"], Float[Array, " batch"], Float[Array, "batch code"]]:
    """KL by image and dimension, NLL by image, posterior means."""
    model = nnx.merge(graph, params)
    x = unit(images)
    noise = jax.random.normal(key, (samples, len(images), model.code_size))
    mu, log_var = model.encoder(x)
    kl = gaussian_kl(mu[..., None], log_var[..., None])
    return kl, elbo(model, x, noise).nll, mu


@partial(jax.jit, static_argnames="graph")
def importance_weighted_bound(
    graph: nnx.GraphDef[VAE],
    params: Params,
    images: UInt8[Array, "batch pixels"],
    key: Key[Array, ""],
    importance_samples: Int32[Array, ""],
) -> Float[Array, " batch"]:
    """IW-K of each image, in nats, by a running log-sum-exp over chunks of samples.

    K is traced: one program serves every K. The samples of the last chunk beyond K weigh nothing.
    """
    model = nnx.merge(graph, params)
    x = unit(images)
    mu, log_var = model.encoder(x)

    def log_likelihood(z: Float[Array, "chunk batch code"]) -> Float[Array, "chunk batch"]:
        return bernoulli_log_likelihood(model.decoder(z), x)

    def add_chunk(chunk: Int[Array, ""], total: Float[Array, " batch"]) -> Float[Array, " batch"]:
        shape = (IMPORTANCE_CHUNK, len(images), model.code_size)
        noise = jax.random.normal(jax.random.fold_in(key, chunk), shape)
        log_w = log_importance_weights(log_likelihood, mu, log_var, noise)
        index = chunk * IMPORTANCE_CHUNK + jnp.arange(IMPORTANCE_CHUNK)
        log_w = jnp.where(index[:, None] < importance_samples, log_w, -jnp.inf)
        return jnp.logaddexp(total, jax.nn.logsumexp(log_w, axis=0))

    chunks = (importance_samples + IMPORTANCE_CHUNK - 1) // IMPORTANCE_CHUNK
    start = jnp.full(len(images), -jnp.inf)
    total = jax.lax.fori_loop(0, chunks, add_chunk, start)
    bound: Array = total - jnp.log(importance_samples.astype(jnp.float32))
    return bound
