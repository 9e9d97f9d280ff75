"""Grey levels in [0, 1], by a Bernoulli's log-odds and its missing constant."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vaectl.likelihoods.base import Likelihood, sum_pixels
from vaectl.likelihoods.bernoulli import softplus

if TYPE_CHECKING:
    from jaxtyping import Array, Float, Key

_SMALL = 0.05
"""Below this |l| series stand in for quotients of small numbers."""


class ContinuousBernoulli(Likelihood, name="continuous_bernoulli"):
    """Independent pixels in [0, 1] with a density, by their log-odds l.

        log p(x|z) = sum_i x_i l_i - softplus(l_i) + log C(l_i),   C(l) = l / tanh(l / 2)

    A Bernoulli of grey levels is no density; C makes it one. Its logarithm may be above zero, and
    is not to be compared with that of black and white images.

    Loaiza-Ganem & Cunningham 2019, eq. 4 to 8, in log-odds.
    """

    def log_prob(
        self, raw: Float[Array, "*#batch h w c 1"], x: Float[Array, "*#batch h w c"]
    ) -> Float[Array, "..."]:
        """Return log p(x|z) of each image, in nats."""
        import jax.numpy as jnp

        logits = raw[..., 0]
        safe = jnp.where(jnp.abs(logits) < _SMALL, 1.0, logits)
        quotient = jnp.log(safe / jnp.tanh(0.5 * safe))
        series = jnp.log(2.0) + logits**2 / 12 - 7 * logits**4 / 1440
        log_constant = jnp.where(jnp.abs(logits) < _SMALL, series, quotient)
        return sum_pixels(x * logits - softplus()(logits) + log_constant)

    def mean(self, raw: Float[Array, "*batch h w c 1"]) -> Float[Array, "*batch h w c"]:
        """Return the mean of each pixel, s(l) / tanh(l / 2) - 1 / l: not s(l), as a Bernoulli's."""
        import jax
        import jax.numpy as jnp

        logits = raw[..., 0]
        safe = jnp.where(jnp.abs(logits) < _SMALL, 1.0, logits)
        quotient = jax.nn.sigmoid(safe) / jnp.tanh(0.5 * safe) - 1 / safe
        series = 0.5 + logits / 12 - logits**3 / 720
        return jnp.where(jnp.abs(logits) < _SMALL, series, quotient)

    def sample(
        self, raw: Float[Array, "*batch h w c 1"], key: Key[Array, ""]
    ) -> Float[Array, "*batch h w c"]:
        """Draw each pixel, by the inverse of its distribution function."""
        import jax
        import jax.numpy as jnp

        logits = raw[..., 0]
        u = jax.random.uniform(key, logits.shape)
        # by symmetry for |l| alone, whose exponential does not overflow
        size = jnp.abs(logits)
        safe = jnp.where(size < _SMALL, 1.0, size)
        drawn = -jnp.log1p(u * jnp.expm1(-safe)) / safe
        drawn = jnp.where(size < _SMALL, u, drawn)
        return jnp.where(logits < 0, drawn, 1 - drawn)
