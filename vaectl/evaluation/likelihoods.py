"""Values for each image of a split: KL, NLL, importance-weighted bound, posterior means.

`vaectl evaluate` takes means and standard errors of them; training uses
`vaectl.evaluation.means`.
"""

from collections.abc import Callable, Iterator
from itertools import repeat
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Int32, Key, UInt8

from vaectl.base import streams
from vaectl.base.products import in_fast_forms
from vaectl.data.stored import Stored
from vaectl.evaluation.weights import Weights
from vaectl.vae.posterior import Codes
from vaectl.vae.vae import VAE, Variables

IMPORTANCE_BATCH = 250
IMPORTANCE_CHUNK = 4
"""Images, and samples of z for each, that are decoded at once; K does not change the memory."""


class Likelihoods(NamedTuple):
    """Values for each image of a split, in nats."""

    kl: Float[np.ndarray, " images"]
    nll: Float[np.ndarray, " images"]
    iw: Float[np.ndarray, " images"] | None
    """The importance-weighted bound on log p(x), if it was asked for."""
    mu: Float[np.ndarray, "images code"]
    """Posterior means."""
    kl_by_dimension: Float[np.ndarray, " code"]
    """KL of each dimension of the code, as a mean over images."""


def likelihoods(
    vae: VAE,
    variables: Variables,
    rows: UInt8[np.ndarray, "images numbers"] | UInt8[Stored, "images numbers"],
    *,
    samples: int,
    importance_samples: int,
    seed: int,
    bfloat16: bool = False,
    watch: Callable[[int, int], None] = lambda _done, _total: None,
) -> Likelihoods:
    """Evaluate every image of a split.

        IW-K(x) = log 1/K sum_k w_k,   log w_k = log p(x|z_k) + log p(z_k) - log q(z_k|x)

    The expectation of IW-K grows with K towards log p(x); for K = 1 it is the ELBO.

    Args:
        vae: the structure of the network.
        variables: the arrays of the network.
        rows: images of intensities 0 to 255, each with its class if the model is told it.
        samples: L of the ELBO's estimate.
        importance_samples: K; 0 to leave the bound out.
        seed: the seed of the noise.
        bfloat16: whether the decoder's products of the bound have operands in bfloat16.
        watch: called with the number of images done, and of all.

    Burda et al. 2016, eq. 8.
    """
    done, parts, bounds = 0, [], []
    for key, count, batch in _batches(rows, seed):
        pixels, y = vae.apart(jnp.asarray(batch))
        x = vae.unit(pixels)
        found = compiled_bound(vae, variables, x, y, key, samples)
        parts.append([values[:count] for values in found])
        if importance_samples:
            k = jnp.asarray(importance_samples, jnp.int32)
            found_bound = compiled_weighted_bound(vae, variables, x, y, key, k, bfloat16=bfloat16)
            bounds.append(found_bound[:count])
            bounds[-1].block_until_ready()
        done += count
        watch(done, len(rows))
    kl, kl_each, nll, mu = (np.concatenate(part) for part in zip(*parts, strict=True))
    return Likelihoods(
        kl=kl,
        nll=nll,
        iw=np.concatenate(bounds) if bounds else None,
        mu=mu,
        kl_by_dimension=kl_each.mean(axis=0, dtype=np.float64),
    )


def weighted_bounds(
    vae: VAE,
    variables: Variables,
    x: Float[Array, "images h w c"],
    y: Float[Array, "images classes"] | None,
    importance_samples: int,
    seed: int,
) -> Float[np.ndarray, " images"]:
    """Return IW-K of images in [0, 1], the same numbers as `likelihoods` returns."""
    k = jnp.asarray(importance_samples, jnp.int32)
    told = repeat(None) if y is None else (each for _, _, each in _batches(np.asarray(y), seed))
    bounds = [
        np.asarray(compiled_weighted_bound(vae, variables, batch, classes, key, k))[:count]
        for (key, count, batch), classes in zip(_batches(np.asarray(x), seed), told, strict=False)
    ]
    return np.concatenate(bounds) if bounds else np.empty(0, np.float32)


def _batches(
    images: np.ndarray | Stored, seed: int
) -> Iterator[tuple[Key[Array, ""], int, np.ndarray]]:
    """Yield the random key of each batch, its number of images, and the images.

    A short batch is filled with copies of its last image, so that only one shape is compiled.
    """
    stream = streams.key(seed, "evaluate")
    for start in range(0, len(images), IMPORTANCE_BATCH):
        batch = np.asarray(images[start : start + IMPORTANCE_BATCH])
        padding = [(0, IMPORTANCE_BATCH - len(batch)), *[(0, 0)] * (images.ndim - 1)]
        key = jax.random.fold_in(stream, start)
        yield key, len(batch), np.pad(batch, padding, mode="edge")


def bound_of_each(
    vae: VAE,
    variables: Variables,
    x: Float[Array, "batch h w c"],
    y: Float[Array, "batch classes"] | None,
    key: Key[Array, ""],
    samples: int,
) -> tuple[
    Float[Array, " batch"],
    Float[Array, "batch code"],
    Float[Array, " batch"],
    Float[Array, "batch code"],
]:
    """Return KL by image, KL by image and dimension, NLL by image, and posterior means."""
    network = vae.network(variables).given(y)
    noise = jax.random.normal(key, (samples, len(x), vae.code_size))
    codes, prior = network.draw(x, noise), network.prior
    return prior.kl(codes), prior.kl_by_dimension(codes), network.nll(codes, x), codes.mu


def importance_weighted_bound(
    vae: VAE,
    variables: Variables,
    x: Float[Array, "batch h w c"],
    y: Float[Array, "batch classes"] | None,
    key: Key[Array, ""],
    importance_samples: Int32[Array, ""],
    *,
    bfloat16: bool = False,
) -> Float[Array, " batch"]:
    """Return IW-K of each image, in nats."""
    found = importance_weighting(vae, variables, x, y, key, importance_samples, bfloat16=bfloat16)
    return found[0]


def importance_weighting(
    vae: VAE,
    variables: Variables,
    x: Float[Array, "batch h w c"],
    y: Float[Array, "batch classes"] | None,
    key: Key[Array, ""],
    importance_samples: Int32[Array, ""],
    *,
    bfloat16: bool = False,
) -> tuple[Float[Array, " batch"], Float[Array, " batch"]]:
    """Return IW-K of each image in nats, and the effective sample size of its K samples.

    Weights are added up by chunks of samples. K is traced, so that one program serves every K.
    Samples of the last chunk beyond K have weight zero. With `bfloat16` the decoder's products have
    operands in bfloat16; all else is in float32.

    Burda et al. 2016, eq. 8.
    """
    network = vae.network(variables).given(y)
    (mu, log_var), prior = network.encode(x), network.prior
    log_prob = in_fast_forms(network.log_prob, bfloat16=True) if bfloat16 else network.log_prob

    def add_chunk(chunk: Int[Array, ""], weights: Weights) -> Weights:
        shape = (IMPORTANCE_CHUNK, len(x), vae.code_size)
        noise = jax.random.normal(jax.random.fold_in(key, chunk), shape)
        codes = Codes.draw(mu, log_var, noise)
        log_w = log_prob(codes.z, x) + prior.log_ratio(codes)
        index = chunk * IMPORTANCE_CHUNK + jnp.arange(IMPORTANCE_CHUNK)
        return weights.add(jnp.where(index[:, None] < importance_samples, log_w, -jnp.inf))

    chunks = (importance_samples + IMPORTANCE_CHUNK - 1) // IMPORTANCE_CHUNK
    weights: Weights = jax.lax.fori_loop(0, chunks, add_chunk, Weights.none(len(x)))
    return weights.log_mean(importance_samples), weights.effective


compiled_bound = jax.jit(bound_of_each, static_argnames=("vae", "samples"))
compiled_weighted_bound = jax.jit(importance_weighted_bound, static_argnames=("vae", "bfloat16"))
compiled_weighting = jax.jit(importance_weighting, static_argnames="vae")
