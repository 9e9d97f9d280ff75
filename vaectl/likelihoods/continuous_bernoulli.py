"""The continuous Bernoulli distribution, for grey levels in [0, 1]."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vaectl.likelihoods.base import Likelihood, in_a_row, sum_pixels
from vaectl.likelihoods.bernoulli import softplus

if TYPE_CHECKING:
    from jaxtyping import Array, Float, Key

_SMALL = 0.05
"""The |l| below which a series replaces the quotient of two small numbers."""
_UNIFORM = 1e-6
"""The |l| below which a draw is that of a uniform distribution, to rounding."""


class ContinuousBernoulli(Likelihood, name="continuous_bernoulli"):
    """Independent continuous Bernoulli pixels x in [0, 1] with log-odds l.

        log p(x|z) = sum_i x_i l_i - softplus(l_i) + log C(l_i),   C(l) = l / tanh(l / 2)

    C normalizes the Bernoulli formula to a density of grey levels. Its logarithm may be positive,
    and does not compare with log p(x|z) of black and white images.

    Loaiza-Ganem & Cunningham 2019, eq. 4 to 8, in log-odds.
    """

    def log_prob(
        self, raw: Float[Array, "*#batch h w c 1"], x: Float[Array, "*#batch h w c"]
    ) -> Float[Array, "..."]:
        """Return log p(x|z) of each image, in nats."""
        import jax.numpy as jnp

        raw, x = in_a_row(raw, x)
        logits = raw[..., 0]
        near, far = _apart(logits)
        quotient = jnp.log(far / jnp.tanh(0.5 * far))
        series = jnp.log(2.0) + near**2 / 12 - 7 * near**4 / 1440
        log_constant = jnp.where(jnp.abs(logits) < _SMALL, series, quotient)
        return sum_pixels(x * logits - softplus()(logits) + log_constant)

    def mean(self, raw: Float[Array, "*batch h w c 1"]) -> Float[Array, "*batch h w c"]:
        """Return the mean of each pixel, s(l) / tanh(l / 2) - 1 / l, where s is the sigmoid."""
        import jax
        import jax.numpy as jnp

        logits = raw[..., 0]
        near, far = _apart(logits)
        quotient = jax.nn.sigmoid(far) / jnp.tanh(0.5 * far) - 1 / far
        series = 0.5 + near / 12 - near**3 / 720
        return jnp.where(jnp.abs(logits) < _SMALL, series, quotient)

    def sample(
        self, raw: Float[Array, "*batch h w c 1"], key: Key[Array, ""]
    ) -> Float[Array, "*batch h w c"]:
        """Draw each pixel by the inverse of the distribution function."""
        import jax
        import jax.numpy as jnp

        logits = raw[..., 0]
        u = jax.random.uniform(key, logits.shape)
        # for |l|, whose exponential does not overflow; the other half follows by symmetry
        size = jnp.abs(logits)
        safe = jnp.maximum(size, _UNIFORM)
        drawn = -jnp.log1p(u * jnp.expm1(-safe)) / safe
        return jnp.where(logits < 0, drawn, 1 - drawn)


def _apart(
    logits: Float[Array, "*shape"],
) -> tuple[Float[Array, "*shape"], Float[Array, "*shape"]]:
    """Return log-odds for the series and for the quotient, harmless where the other is taken.

    Otherwise the gradient of the one that is not taken would be infinite or no number.
    """
    import jax.numpy as jnp

    small = jnp.abs(logits) < _SMALL
    return jnp.where(small, logits, 0.0), jnp.where(small, 1.0, logits)
