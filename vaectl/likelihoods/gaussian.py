"""The normal distribution, for grey levels."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from vaectl.likelihoods._scaled import Scale, Scaled
from vaectl.likelihoods.base import in_a_row, sum_pixels

if TYPE_CHECKING:
    from jaxtyping import Array, Float, Key


class Gaussian(Scaled, name="gaussian"):
    """Independent normal pixels x_i ~ N(m_i, s_i^2) with means in (0, 1).

        log p(x|z) = sum_i -(x_i - m_i)^2 / (2 s_i^2) - log s_i - log(2 pi) / 2,
        m_i = 1 / (1 + exp(-raw_i)),   s_i = smallest + fixed_scale exp(...) if it is learned

    This is a density of grey levels: its logarithm may be positive, and does not compare with
    log p(x|z) of black and white images.

    Kingma & Welling 2013, appendix C.2, with the means of their section 5 (Frey Face).
    """

    smallest: Scale = 0.01
    """Lower limit of a learned s, so that constant pixels cannot make the density infinite."""

    def log_prob(
        self, raw: Float[Array, "*#batch h w c numbers"], x: Float[Array, "*#batch h w c"]
    ) -> Float[Array, "..."]:
        """Return log p(x|z) of each image, in nats."""
        import jax.numpy as jnp

        raw, x = in_a_row(raw, x)
        log_s = self.log_scale(raw)
        distance = (x - self.mean(raw)) * jnp.exp(-log_s)
        return -sum_pixels(0.5 * distance**2 + log_s + 0.5 * math.log(2 * math.pi))

    def mean(self, raw: Float[Array, "*batch h w c numbers"]) -> Float[Array, "*batch h w c"]:
        """Return the mean of each pixel."""
        import jax

        return jax.nn.sigmoid(raw[..., 0])

    def sample(
        self, raw: Float[Array, "*batch h w c numbers"], key: Key[Array, ""]
    ) -> Float[Array, "*batch h w c"]:
        """Draw each pixel; values may lie outside [0, 1]."""
        import jax

        mean = self.mean(raw)
        return mean + self.drawn_scale(raw) * jax.random.normal(key, mean.shape)
