"""Sums of importance weights, whose logarithms float32 holds and whose values it does not."""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int


class Weights(NamedTuple):
    """Sums over the samples of each image, relative to the largest weight w* among them.

    A running log-sum-exp would round at the size of log w itself, by 6e-5 at -1,000 nats, whenever
    samples are added; these sums round at the size of 1.
    """

    largest: Float[Array, " images"]
    """log w*."""
    total: Float[Array, " images"]
    """sum_k w_k / w*."""
    squares: Float[Array, " images"]
    """sum_k (w_k / w*)^2."""

    @classmethod
    def none(cls, images: int) -> "Weights":
        """Return the sums over no samples."""
        least = float(np.finfo(np.float32).min)  # finite: -inf has no distance from -inf
        return cls(jnp.full(images, least), jnp.zeros(images), jnp.zeros(images))

    def add(self, log_w: Float[Array, "samples images"]) -> "Weights":
        """Add samples by the logarithms of their weights; -inf is a weight of zero."""
        largest = jnp.maximum(self.largest, jnp.max(log_w, axis=0))
        before, each = jnp.exp(self.largest - largest), jnp.exp(log_w - largest)
        return Weights(
            largest,
            before * self.total + jnp.sum(each, axis=0),
            jnp.square(before) * self.squares + jnp.sum(jnp.square(each), axis=0),
        )

    def log_mean(self, count: Int[Array, ""] | int) -> Float[Array, " images"]:
        """Return the logarithm of the mean weight of so many samples, in nats."""
        return self.largest + (jnp.log(self.total) - jnp.log(jnp.float32(count)))

    @property
    def effective(self) -> Float[Array, " images"]:
        """The effective sample size (sum_k w_k)^2 / sum_k w_k^2, from 1 to their number."""
        return jnp.square(self.total) / self.squares
