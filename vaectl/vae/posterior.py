"""The posterior q(z|x), a diagonal Gaussian, and codes drawn from it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from jaxtyping import Array, Float


class Codes(NamedTuple):
    """Samples of the posteriors of a batch, with the means, variances and noise that give them.

    z = mu + exp(log_var / 2) * noise,   noise ~ N(0, I)

    Kingma & Welling 2013, section 2.4.
    """

    z: Float[Array, "samples batch code"]
    mu: Float[Array, "batch code"]
    log_var: Float[Array, "batch code"]
    noise: Float[Array, "samples batch code"]

    @classmethod
    def draw(
        cls,
        mu: Float[Array, "batch code"],
        log_var: Float[Array, "batch code"],
        noise: Float[Array, "samples batch code"],
    ) -> Codes:
        """Draw samples from posteriors by their means, log-variances and standard normal noise."""
        import jax.numpy as jnp

        return cls(mu + jnp.exp(0.5 * log_var) * noise, mu, log_var, noise)

    def log_marginals(self) -> Float[Array, "samples batch code"]:
        """Return log q(z_j|x) of each dimension j, in nats."""
        import jax.numpy as jnp

        return log_normal(jnp.square(self.noise), self.log_var)


def log_normal(
    squares: Float[Array, "*#shape"], log_var: Float[Array, "*#shape"] | float = 0.0
) -> Float[Array, "..."]:
    """Return the logarithms of normal densities, one for each number.

    Args:
        squares: the squared distance from the mean, in variances.
        log_var: the logarithm of the variance.
    """
    return -0.5 * (squares + log_var + math.log(2 * math.pi))
