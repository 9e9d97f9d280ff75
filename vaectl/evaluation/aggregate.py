"""The aggregate posterior q(z) = 1/N sum_n q(z|x_n), and how far it is from the prior."""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int32

_BYTES = 2**26
"""Bytes of the differences between codes and means that are taken at once."""


class Densities(NamedTuple):
    """log q(z) of codes under a mixture of N posteriors, in nats."""

    whole: Float[Array, " codes"]
    """Under all N posteriors, the code's own image included."""
    others: Float[Array, " codes"]
    """Under the N - 1 posteriors of other images."""


def densities(
    z: Float[Array, "codes code"],
    own: Int32[Array, " codes"],
    mu: Float[Array, "images code"],
    log_var: Float[Array, "images code"],
) -> Densities:
    """Return the log density of codes under the mixture of posteriors.

    With z ~ q(z|x) of one of the N images, the means of the two bracket the mean of log q(z) for the
    aggregate posterior of the whole population, in expectation: the first from above, the second
    from below. So they bracket KL(q(z) || p(z)) = E[log q(z) - log p(z)], too. By the first the
    mutual information is at most log N.

    Args:
        z: codes.
        own: the image of each code; -1 if it has none, and then both are the same.
        mu: means of the posteriors.
        log_var: their log-variances.

    Hoffman & Johnson 2016, eq. 6; for the two sides Poole et al. 2019, section 2.3.
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
