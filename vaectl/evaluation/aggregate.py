"""The aggregate posterior q(z) = 1/N sum_n q(z|x_n), and how far it is from the prior."""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Int32

_BYTES = 2**26
"""Bytes of the differences between codes and means that are taken at once."""
WIDTHS = (0.0, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 1.0)
"""Widths that are tried for the components of a mixture, relative to the whole mixture."""


class Densities(NamedTuple):
    """log q(z) of codes under a mixture of N posteriors, in nats."""

    whole: Float[Array, " codes"] | Float[np.ndarray, " codes"]
    """Under all N posteriors, the code's own image included."""
    others: Float[Array, " codes"] | Float[np.ndarray, " codes"]
    """Under the N - 1 posteriors of other images."""


def densities(
    z: Float[Array, "codes code"],
    own: Int32[Array, " codes"],
    mu: Float[Array, "images code"],
    log_var: Float[Array, "images code"],
) -> Densities:
    """Return the log density of codes under the mixture of posteriors.

    With z ~ q(z|x) of one of the N images, the means of the two bracket the mean of log q(z) for
    the aggregate posterior of the whole population, in expectation: the first from above, the
    second from below. So they bracket KL(q(z) || p(z)) = E[log q(z) - log p(z)], too. By the first
    the mutual information is at most log N.

    Args:
        z: codes.
        own: the image of each code; -1 if it has none, and then both are the same.
        mu: means of the posteriors.
        log_var: their log-variances.

    Hoffman & Johnson 2016; for the two sides Poole et al. 2019.
    """
    count, size = mu.shape
    # differences are squared, not expanded: z^2 - 2 z mu + mu^2 would cancel in float32
    constant = -0.5 * jnp.sum(log_var + math.log(2 * math.pi), axis=-1)
    precision = jnp.exp(-log_var)

    def of_one(code: tuple[Array, Array]) -> Densities:
        z, own = code
        each = constant - 0.5 * jnp.sum(jnp.square(z - mu) * precision, axis=-1)
        without = jnp.where(jnp.arange(count) == own, -jnp.inf, each)
        alone = count - (own >= 0)
        return Densities(
            jax.nn.logsumexp(each) - math.log(count), jax.nn.logsumexp(without) - jnp.log(alone)
        )

    at_once = max(_BYTES // (4 * count * size), 1)
    found: Densities = jax.lax.map(of_one, (z, own), batch_size=min(at_once, len(z)))
    return found


compiled_densities = jax.jit(densities)


def smoothed(
    mu: Float[np.ndarray, "images code"], log_var: Float[np.ndarray, "images code"], width: float
) -> tuple[Float[np.ndarray, "images code"], Float[np.ndarray, "images code"]]:
    """Return the means and log-variances of wider components, whose mixture is as wide as before.

        mu' = m + c (mu - m),   var' = c^2 var + h^2 s^2,   c^2 + h^2 = 1

    m and s^2 are the mean and the variances of the mixture, and h is the width: 0 leaves the
    posteriors as they are, 1 makes all of them the same Gaussian.

    West 1993.
    """
    mean, shrunk = mu.mean(axis=0), math.sqrt(1 - width**2)
    variance = mu.var(axis=0) + np.exp(log_var).mean(axis=0)
    wider = np.exp(log_var) * (1 - width**2) + width**2 * variance
    return mean + shrunk * (mu - mean), np.log(wider)


class Divergence(NamedTuple):
    """Bounds on KL(q(z) || p(z)) of the population, in nats; both hold in expectation."""

    least: Float[np.ndarray, " half"]
    most: Float[np.ndarray, " codes"]
    """Values of codes, whose means are the bounds."""
    width: float
    """The width of the components that the lower bound is by."""


def divergence(
    z: Float[np.ndarray, "codes code"],
    own: Int[np.ndarray, " codes"],
    mu: Float[np.ndarray, "images code"],
    log_var: Float[np.ndarray, "images code"],
    log_p: Float[np.ndarray, " codes"],
) -> Divergence:
    """Bound the divergence of the aggregate posterior from the prior.

        E[log r(z) - log p(z)] <= KL(q(z) || p(z)) <= E[log q_N(z) - log p(z)],   z ~ q(z)

    r is the mixture of the posteriors of other images than the code's own, with wider components;
    half of the codes choose their width, the other half give the bound. q_N is the mixture of all N
    posteriors, which the code's own makes too dense.

    Args:
        z: a code from the posterior of an image.
        own: this image.
        mu: means of the N posteriors.
        log_var: their log-variances.
        log_p: log p(z) of the codes.
    """
    values = {
        width: under(z, own, *smoothed(mu, log_var, width)).others - log_p for width in WIDTHS
    }
    half = len(z) // 2
    width = max(WIDTHS, key=lambda each: float(values[each][:half].mean()))
    most = np.asarray(under(z, own, mu, log_var).whole) - log_p
    return Divergence(np.asarray(values[width][half:]), most, width)


def under(
    z: Float[np.ndarray, "codes code"],
    own: Int[np.ndarray, " codes"],
    mu: Float[np.ndarray, "images code"],
    log_var: Float[np.ndarray, "images code"],
) -> Densities:
    """Return `densities` of arrays in host memory."""
    arrays = (z, own.astype(np.int32), mu, log_var)
    return Densities(*map(np.asarray, compiled_densities(*map(jnp.asarray, arrays))))
