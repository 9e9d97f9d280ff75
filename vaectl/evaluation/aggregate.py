"""The aggregate posterior q(z) = 1/N sum_n q(z|x_n), and how far it is from the prior.

A conditional model has one aggregate posterior for each class y: q(z|y), over the images of the
class.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Int32

from vaectl.vae.posterior import log_normal

_BYTES = 2**26
"""The most bytes for the differences between codes and means that are computed at once."""
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
    """Under the N - 1 posteriors of other images; the same if the code is that of no image."""


class Codes(NamedTuple):
    """Codes, each with its class and the moments of the posteriors that it is compared with."""

    z: Float[Array, "codes code"]
    own: Int32[Array, " codes"]
    """The image of each code; -1 if it has none."""
    told: Int32[Array, " codes"]
    """The class of each code."""
    mean: Float[Array, "codes code"]
    """The mean of the mixture of the posteriors of other images of its class."""
    variance: Float[Array, "codes code"]
    """The variance of that mixture."""


def densities(
    codes: Codes,
    width: Float[Array, ""],
    mu: Float[Array, "images code"],
    log_var: Float[Array, "images code"],
    classes: Int32[Array, " images"],
) -> Densities:
    """Return the log density of codes under the mixture of the posteriors of their class.

    With z ~ q(z|x) of one of the N images, the means of the two bracket the mean of log q(z) for
    the aggregate posterior of the whole population, in expectation: the first from above, the
    second from below. So they bracket KL(q(z) || p(z)) = E[log q(z) - log p(z)], too. By the first
    the mutual information is at most log N.

    Components may be wider than the posteriors, while the width of the mixture stays the same:

        mu' = m + c (mu - m),   var' = c^2 var + h^2 s^2,   c^2 + h^2 = 1

    m and s^2 are the moments that come with each code, and h is the width: 0 leaves the posteriors
    as they are, 1 makes all of them the same Gaussian. m and s^2 must not include the code's own
    image, since the code is drawn near it: otherwise the second is not a bound.

    Args:
        codes: codes, and what they are compared with.
        width: h.
        mu: means of the posteriors.
        log_var: their log-variances.
        classes: the class of the image of each; of each class of a code there are two or more.

    Hoffman & Johnson 2016; for the two sides Poole et al. 2019; for wider components West 1993.
    """
    count, size = mu.shape
    variances = jnp.exp(log_var)
    kept, wider = jnp.sqrt(1 - jnp.square(width)), jnp.square(width)

    def of_one(code: Codes) -> Densities:
        counts = classes == code.told
        # differences are squared, not expanded: z^2 - 2 z mu + mu^2 would cancel in float32
        apart = code.z - mu + (1 - kept) * (mu - code.mean)
        var = (1 - wider) * variances + wider * code.variance
        each = jnp.sum(log_normal(jnp.square(apart) / var, jnp.log(var)), axis=-1)
        each = jnp.where(counts, each, -jnp.inf)
        others = jnp.where(jnp.arange(count) == code.own, -jnp.inf, each)
        alike = counts.sum()
        return Densities(
            jax.nn.logsumexp(each) - jnp.log(alike),
            jax.nn.logsumexp(others) - jnp.log(alike - (code.own >= 0)),
        )

    at_once = max(_BYTES // (4 * count * size), 1)
    found: Densities = jax.lax.map(of_one, codes, batch_size=min(at_once, len(codes.z)))
    return found


compiled_densities = jax.jit(densities)


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

    r is the mixture of the posteriors of all images except the code's own, with wider components
    (by the moments of the same images). Half of the codes choose the width, the other half give the
    bound. q_N is the mixture of all N posteriors; it is too dense at the code, since it includes
    the code's own posterior.

    Args:
        z: a code from the posterior of an image.
        own: this image, one of two or more of its class.
        posteriors: of the N images.
        log_p: log p(z) of the codes.
    """
    told = posteriors.classes[own]
    values = {width: under(z, own, told, posteriors, width).others - log_p for width in WIDTHS}
    half = len(z) // 2
    width = max(WIDTHS, key=lambda each: float(values[each][:half].mean()))
    most = np.asarray(under(z, own, told, posteriors).whole) - log_p
    return Divergence(np.asarray(values[width][half:]), most, width)


def under(
    z: Float[np.ndarray, "codes code"],
    own: Int[np.ndarray, " codes"],
    told: Int[np.ndarray, " codes"],
    posteriors: Posteriors,
    width: float = 0.0,
) -> Densities:
    """Return `densities` of arrays in host memory.

    Args:
        z: codes.
        own: the image of each code; -1 if it has none, and then all images are others.
        told: the class of each code.
        posteriors: of the N images.
        width: of the components.
    """
    codes = Codes(*map(jnp.asarray, (z, own, told, *_moments(own, told, posteriors))))
    found = compiled_densities(codes, jnp.float32(width), *map(jnp.asarray, posteriors))
    return Densities(*map(np.asarray, found))


def _moments(
    own: Int[np.ndarray, " codes"], told: Int[np.ndarray, " codes"], posteriors: Posteriors
) -> tuple[Float[np.ndarray, "codes code"], Float[np.ndarray, "codes code"]]:
    """Return mean and variances of the mixture of the other posteriors of the class of each code.

    The own image is taken out of the sums over the class, in float64.
    """
    mu, var = posteriors.mu.astype(np.float64), np.exp(posteriors.log_var.astype(np.float64))
    mean, variance = np.empty((2, len(own), mu.shape[1]))
    for each in np.unique(told):
        alike, codes = posteriors.classes == each, told == each
        centre = mu[alike].mean(axis=0)
        squares = np.square(mu - centre) + var
        is_own = own[codes, None] >= 0
        count = alike.sum() - is_own
        first = -np.where(is_own, mu[own[codes]] - centre, 0) / count
        second = (squares[alike].sum(axis=0) - np.where(is_own, squares[own[codes]], 0)) / count
        mean[codes] = centre + first
        # rounding must not make it less than that of any of them
        variance[codes] = np.maximum(second - np.square(first), var[alike].min(axis=0))
    return mean, variance
