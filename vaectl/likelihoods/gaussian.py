"""Grey levels with normal noise."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal

from vaectl.base.section import Positive
from vaectl.likelihoods.base import Likelihood, sum_pixels

if TYPE_CHECKING:
    from jaxtyping import Array, Float, Key


class Gaussian(Likelihood, name="gaussian"):
    """Independent pixels of N(m_i, s_i^2), whose means lie in (0, 1).

        log p(x|z) = sum_i -(x_i - m_i)^2 / (2 s_i^2) - log s_i - log(2 pi) / 2,
        m_i = 1 / (1 + exp(-raw_i)),   s_i = smallest + exp(...) where it is learned

    A density of grey levels between 0 and 1: its logarithm may be above zero, and is not to be
    compared with that of black and white images.

    Kingma & Welling 2013, appendix C.2, with the means of their section 5 (Frey Face).
    """

    scale: Literal["pixel", "one", "fixed"] = "one"
    """s: learned for each pixel of each image, learned once for all, or `fixed_scale`."""
    fixed_scale: Positive = 0.1
    """s where `scale` is `fixed`, and where learning begins."""
    smallest: Positive = 0.01
    """A learned s is larger, so that no pixel that never changes drives the density to infinity."""

    @property
    def outputs(self) -> int:
        """The mean, and for `pixel` the scale."""
        return 2 if self.scale == "pixel" else 1

    @property
    def shared(self) -> int:
        """The scale for `one`."""
        return int(self.scale == "one")

    def log_prob(
        self, raw: Float[Array, "*#batch h w c numbers"], x: Float[Array, "*#batch h w c"]
    ) -> Float[Array, "..."]:
        """Return log p(x|z) of each image, in nats."""
        import jax.numpy as jnp

        s = self._scale(raw)
        distance = (x - self.mean(raw)) / s
        return -sum_pixels(0.5 * distance**2 + jnp.log(s) + 0.5 * math.log(2 * math.pi))

    def mean(self, raw: Float[Array, "*batch h w c numbers"]) -> Float[Array, "*batch h w c"]:
        """Return the mean of each pixel."""
        import jax

        return jax.nn.sigmoid(raw[..., 0])

    def sample(
        self, raw: Float[Array, "*batch h w c numbers"], key: Key[Array, ""]
    ) -> Float[Array, "*batch h w c"]:
        """Draw each pixel; it may lie outside of [0, 1]."""
        import jax

        mean = self.mean(raw)
        return mean + self._scale(raw) * jax.random.normal(key, mean.shape)

    def _scale(self, raw: Float[Array, "*batch h w c numbers"]) -> Float[Array, "*batch h w c"]:
        import jax.numpy as jnp

        if self.scale == "fixed":
            return jnp.full(raw.shape[:-1], self.fixed_scale)
        return self.smallest + self.fixed_scale * jnp.exp(raw[..., 1])
