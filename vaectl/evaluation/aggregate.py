"""The aggregate posterior q(z) = 1/N sum_n q(z|x_n), and how far it is from the prior.

A model that is told the classes y of images has one for each class, q(z|y), of its images alone.
"""

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


class Posteriors(NamedTuple):
    """Diagonal Gaussians, one for each of N images."""

    mu: Float[np.ndarray, "images code"]
    log_var: Float[np.ndarray, "images code"]
    classes: Int[np.ndarray, " images"]
    """The class of each image; the same for all if the model is not told any."""


class Densities(NamedTuple):
    """log q(z), or log q(z|y), of codes under a mixture of N posteriors, in nats."""

    whole: Float[Array, " codes"] | Float[np.ndarray, " codes"]
    """Under all N posteriors, the code's own image included."""
    others: Float[Array, " codes"] | Float[np.ndarray, " codes"]
    """Under the N - 1 posteriors of other images."""


def densities(
    z: Float[Array, "codes code"],
    own: Int32[Array, " codes"],
    told: Int32[Array, " codes"],
    mu: Float[Array, "images code"],
    log_var: Float[Array, "images code"],
    classes: Int32[Array, " images"],
) -> Densities:
    """Return the log density of codes under the mixture of the posteriors of their class.

    With z ~ q(z|x) of one of the N images, the means of the two bracket the mean of log q(z) for
    the aggregate posterior of the whole population, in expectation: the first from above, the
    second from below. So they bracket KL(q(z) || p(z)) = E[log q(z) - log p(z)], too. By the first
    the mutual information is at most log N.

    Args:
        z: codes.
        own: the image of each code; -1 if it has none, and then both are the same.
        told: the class of each code, of which there are two images or more.
        mu: means of the posteriors.
        log_var: their log-variances.
        classes: the class of the image of each.

    Hoffman & Johnson 2016; for the two sides Poole et al. 2019.
    """
    count, size = mu.shape
    # differences are squared, not expanded: z^2 - 2 z mu + mu^2 would cancel in float32
    constant = -0.5 * jnp.sum(log_var + math.log(2 * math.pi), axis=-1)
    precision = jnp.exp(-log_var)

    def of_one(code: tuple[Array, Array, Array]) -> Densities:
        z, own, told = code
        counts = classes == told
        each = constant - 0.5 * jnp.sum(jnp.square(z - mu) * precision, axis=-1)
        each = jnp.where(counts, each, -jnp.inf)
        others = jnp.where(jnp.arange(count) == own, -jnp.inf, each)
        alike = counts.sum()
        return Densities(
            jax.nn.logsumexp(each) - jnp.log(alike),
            jax.nn.logsumexp(others) - jnp.log(alike - (own >= 0)),
        )

    at_once = max(_BYTES // (4 * count * size), 1)
    found: Densities = jax.lax.map(of_one, (z, own, told), batch_size=min(at_once, len(z)))
    return found


compiled_densities = jax.jit(densities)


def smoothed(posteriors: Posteriors, width: float) -> Posteriors:
    """Return wider components, whose mixture is as wide as before.

        mu' = m + c (mu - m),   var' = c^2 var + h^2 s^2,   c^2 + h^2 = 1

    m and s^2 are the mean and the variances of the mixture of a class, and h is the width: 0 leaves
    the posteriors as they are, 1 makes all of them the same Gaussian.

    West 1993.
    """
    mu, log_var = (np.array(each) for each in posteriors[:2])
    for each in np.unique(posteriors.classes):
        alike = posteriors.classes == each
        means, variances = mu[alike], np.exp(log_var[alike])
        mean, variance = means.mean(axis=0), means.var(axis=0) + variances.mean(axis=0)
        mu[alike] = mean + math.sqrt(1 - width**2) * (means - mean)
        log_var[alike] = np.log(variances * (1 - width**2) + width**2 * variance)
    return Posteriors(mu, log_var, posteriors.classes)


class Divergence(NamedTuple):
    """Bounds on KL(q(z) || p(z)) of the population, in nats; both hold in expectation.

    With classes, on the mean of KL(q(z|y) || p(z)).
    """

    least: Float[np.ndarray, " half"]
    most: Float[np.ndarray, " codes"]
    """Values of codes, whose means are the bounds."""
    width: float
    """The width of the components that the lower bound is by."""


def divergence(
    z: Float[np.ndarray, "codes code"],
    own: Int[np.ndarray, " codes"],
    posteriors: Posteriors,
    log_p: Float[np.ndarray, " codes"],
) -> Divergence:
    """Bound the divergence of the aggregate posterior from the prior.

        E[log r(z) - log p(z)] <= KL(q(z) || p(z)) <= E[log q_N(z) - log p(z)],   z ~ q(z)

    r is the mixture of the posteriors of other images than the code's own, with wider components;
    half of the codes choose their width, the other half give the bound. q_N is the mixture of all N
    posteriors, which the code's own makes too dense.

    Args:
        z: a code from the posterior of an image.
        own: this image, one of two or more of its class.
        posteriors: of the N images.
        log_p: log p(z) of the codes.
    """
    told = posteriors.classes[own]
    values = {
        width: under(z, own, told, smoothed(posteriors, width)).others - log_p for width in WIDTHS
    }
    half = len(z) // 2
    width = max(WIDTHS, key=lambda each: float(values[each][:half].mean()))
    most = np.asarray(under(z, own, told, posteriors).whole) - log_p
    return Divergence(np.asarray(values[width][half:]), most, width)


def under(
    z: Float[np.ndarray, "codes code"],
    own: Int[np.ndarray, " codes"],
    told: Int[np.ndarray, " codes"],
    posteriors: Posteriors,
) -> Densities:
    """Return `densities` of arrays in host memory."""
    mu, log_var, classes = posteriors
    own, told, classes = (each.astype(np.int32) for each in (own, told, classes))
    arrays = map(jnp.asarray, (z, own, told, mu, log_var, classes))
    return Densities(*map(np.asarray, compiled_densities(*arrays)))
