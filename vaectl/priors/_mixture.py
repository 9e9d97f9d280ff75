"""A mixture of diagonal Gaussians, which priors with components share."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, final

from vaectl.priors.base import Distribution
from vaectl.vae.posterior import log_normal

if TYPE_CHECKING:
    from jaxtyping import Array, Float, Key


@final
class Mixture(Distribution):
    """p(z) = sum_k w_k N(z; mu_k, exp(log_var_k)).

    Args:
        log_weights: log w_k; their exponentials sum to 1.
        mu: means.
        log_var: log-variances.
    """

    def __init__(
        self,
        log_weights: Float[Array, " components"],
        mu: Float[Array, "components code"],
        log_var: Float[Array, "components code"],
    ) -> None:
        self.log_weights = log_weights
        self.mu = mu
        self.log_var = log_var

    def log_prob(self, z: Float[Array, "*batch code"]) -> Float[Array, "*batch"]:
        """Return log p(z) of each code.

        Differences are squared, not expanded: z^2 - 2 z mu + mu^2 would cancel in float32. A CPU
        takes one code after another: with hundreds of components, the gradient of all codes at
        once takes ten times as long, because of how XLA sums over codes and over components.
        """
        import jax
        import jax.numpy as jnp

        inverse = jnp.exp(-self.log_var)
        at_peak = log_normal(jnp.zeros_like(self.log_var), self.log_var)
        at_mean = self.log_weights + jnp.sum(at_peak, axis=-1)

        @jax.checkpoint
        def of_one(z: Float[Array, " code"]) -> Float[Array, ""]:
            squares = jnp.sum(jnp.square(z - self.mu) * inverse, axis=-1)
            return jax.nn.logsumexp(at_mean - 0.5 * squares)

        found: Array = jax.lax.platform_dependent(
            z.reshape(-1, z.shape[-1]), cpu=partial(jax.lax.map, of_one), default=jax.vmap(of_one)
        )
        return found.reshape(z.shape[:-1])

    def log_marginals(self, z: Float[Array, "*batch code"]) -> Float[Array, "*batch code"]:
        """Return log p(z_j) of each dimension alone, a mixture of the same weights."""
        import jax
        import jax.numpy as jnp

        scaled = jnp.square(z[..., None, :] - self.mu) * jnp.exp(-self.log_var)
        each = self.log_weights[:, None] + log_normal(scaled, self.log_var)
        return jax.nn.logsumexp(each, axis=-2)

    def sample(
        self, key: Key[Array, ""], count: int, temperature: float = 1.0
    ) -> Float[Array, "count code"]:
        """Draw a component and a code from it; the temperature multiplies its deviation."""
        import jax
        import jax.numpy as jnp

        of_component, of_code = jax.random.split(key)
        k = jax.random.categorical(of_component, self.log_weights, shape=(count,))
        noise = jax.random.normal(of_code, (count, self.mu.shape[-1]))
        return self.mu[k] + temperature * jnp.exp(0.5 * self.log_var[k]) * noise
