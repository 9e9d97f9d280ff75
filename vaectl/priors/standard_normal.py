"""The standard normal distribution of codes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, final

from vaectl.priors.base import Distribution, Encode, Prior
from vaectl.vae.posterior import log_normal

if TYPE_CHECKING:
    from jaxtyping import Array, Float, Key

    from vaectl.vae.posterior import Codes


class StandardNormal(Prior, name="standard_normal"):
    """z ~ N(0, I).

    Kingma & Welling 2013, section 3; the paper's.
    """

    @property
    def standard(self) -> bool:
        """True: this is N(0, I)."""
        return True

    def given(self, learned: Any, encode: Encode, code_size: int) -> Distribution:  # noqa: ARG002
        """Return N(0, I)."""
        return Normal(code_size)


@final
class Normal(Distribution):
    """N(0, I)."""

    def __init__(self, code_size: int) -> None:
        self.code_size = code_size

    def log_prob(self, z: Float[Array, "*batch code"]) -> Float[Array, "*batch"]:
        """Return log p(z) = -1/2 sum_j (z_j^2 + log(2 pi))."""
        import jax.numpy as jnp

        return jnp.sum(self.log_marginals(z), axis=-1)

    def log_marginals(self, z: Float[Array, "*batch code"]) -> Float[Array, "*batch code"]:
        """Return log p(z_j) of each dimension."""
        import jax.numpy as jnp

        return log_normal(jnp.square(z))

    def sample(
        self, key: Key[Array, ""], count: int, temperature: float = 1.0
    ) -> Float[Array, "count code"]:
        """Draw codes from N(0, temperature^2)."""
        import jax

        return temperature * jax.random.normal(key, (count, self.code_size))

    def log_ratio(self, codes: Codes) -> Float[Array, "samples batch"]:
        """Return log p(z) - log q(z|x) = 1/2 sum_j (noise_j^2 + log_var_j - z_j^2)."""
        import jax.numpy as jnp

        inside = jnp.square(codes.noise) + codes.log_var - jnp.square(codes.z)
        return 0.5 * jnp.sum(inside, axis=-1)

    def kl(self, codes: Codes) -> Float[Array, " batch"]:
        """Return KL = 1/2 sum_j (mu_j^2 + exp(log_var_j) - 1 - log_var_j), which is exact.

        `expm1` keeps it exact near the prior, where exp(log_var) - 1 would cancel.

        Kingma & Welling 2013, appendix B; the first sum of eq. 10.
        """
        return _kl(codes.mu, codes.log_var)

    def kl_by_dimension(self, codes: Codes) -> Float[Array, "batch code"]:
        """Return the terms of the sum in `kl`."""
        return _kl(codes.mu[..., None], codes.log_var[..., None])


def _kl(mu: Float[Array, "*batch code"], log_var: Float[Array, "*batch code"]) -> Array:
    import jax.numpy as jnp

    total: Array = jnp.sum(jnp.square(mu) + jnp.expm1(log_var) - log_var, axis=-1)
    return 0.5 * total
