"""The discretized logistic distribution, for bytes."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from vaectl.likelihoods._scaled import Scale, Scaled
from vaectl.likelihoods.base import Measure, in_a_row, sum_pixels
from vaectl.likelihoods.bernoulli import softplus

if TYPE_CHECKING:
    from jaxtyping import Array, Float, Key

_HALF = 1 / 510
"""Half the distance of two levels."""


class DiscretizedLogistic(Scaled, name="discretized_logistic"):
    """Independent pixels of 256 levels: a logistic distribution in bins around 0, 1/255, ..., 1.

        p(x|z) = prod_i F(x_i + 1/510) - F(x_i - 1/510),   F(t) = s((t - m_i) / s_i),
        m_i = (1 + raw_i) / 2,   s_i = smallest + fixed_scale exp(...) if it is learned

    s is the sigmoid. The bins of 0 and 1 take the tails: F(-1/510) counts as 0 and F(1 + 1/510) as
    1. These are probabilities of bytes, so log p(x|z) is at most 0; divided by the number of pixels
    and by log 2 it is in bits per dimension. The centre m may lie beyond [0, 1], so that black and
    white pixels can be certain.

    The bin is s(b) s(-a) (1 - exp(a - b)) with b and a at its ends, whose logarithms are exact to
    rounding where a difference of sigmoids would cancel.

    Kingma et al. 2016, section 6; Salimans et al. 2017, eq. 2, with one component.
    """

    smallest: Scale = 5e-4
    """Lower limit of a learned s; the code of Salimans et al. has exp(-7) / 2."""

    @property
    def measure(self) -> Measure:
        """Probability of bytes."""
        return "bytes"

    def log_prob(
        self, raw: Float[Array, "*#batch h w c numbers"], x: Float[Array, "*#batch h w c"]
    ) -> Float[Array, "..."]:
        """Return log p(x|z) of each image, in nats; the bin is around x, which is a level."""
        import jax.numpy as jnp

        raw, x = in_a_row(raw, x)
        log_scale = self.log_scale(raw)
        # log of the width, whose exponential may underflow, and must not overflow
        log_width = math.log(2 * _HALF) - log_scale
        width = jnp.exp(jnp.maximum(log_width, -20.0))
        centre = (x - self._centre(raw)) * jnp.exp(-log_scale)
        below_end = -softplus()(-centre - 0.5 * width)
        above_start = -softplus()(centre - 0.5 * width)
        between = log_width + jnp.log(-jnp.expm1(-width) / width)
        lowest, highest = x < _HALF, x > 1 - _HALF
        return sum_pixels(
            jnp.where(highest, 0.0, below_end)
            + jnp.where(lowest, 0.0, above_start)
            + jnp.where(lowest | highest, 0.0, between)
        )

    def mean(self, raw: Float[Array, "*batch h w c numbers"]) -> Float[Array, "*batch h w c"]:
        """Return the mean of each pixel over its 256 levels, sum_k P(x > k/255) / 255."""
        import jax
        import jax.numpy as jnp

        rates = jnp.exp(-self.log_scale(raw))
        ends = (jnp.arange(255, dtype=raw.dtype) + 0.5) / 255
        beyond = (self._centre(raw)[..., None] - ends) * rates[..., None]
        mean: Array = jnp.mean(jax.nn.sigmoid(beyond), axis=-1)
        return mean

    def sample(
        self, raw: Float[Array, "*batch h w c numbers"], key: Key[Array, ""]
    ) -> Float[Array, "*batch h w c"]:
        """Draw each pixel as a multiple of 1/255."""
        import jax
        import jax.numpy as jnp

        centre = self._centre(raw)
        drawn = centre + self.drawn_scale(raw) * jax.random.logistic(key, centre.shape)
        levels: Array = jnp.round(255 * jnp.clip(drawn, 0, 1))
        return (1 / 255) * levels

    def _centre(self, raw: Float[Array, "*batch h w c numbers"]) -> Float[Array, "*batch h w c"]:
        return 0.5 + 0.5 * raw[..., 0]
