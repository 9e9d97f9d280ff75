"""The scale of likelihoods that have a location and a scale for each pixel."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from vaectl.likelihoods.base import Likelihood

if TYPE_CHECKING:
    from jaxtyping import Array, Float

Scale = Annotated[float, Field(ge=1e-6, le=1e6)]
"""A scale by which float32 can divide; pixels are from 0 to 1."""


class Scaled(Likelihood):
    """A likelihood with a scale s beside the location of each pixel, which comes first in `raw`.

    A learned s is smallest + fixed_scale exp(...). Only its logarithm is computed, and 1 / s by it:
    s itself would overflow where a decoder that diverges asks for exp(89), and a gradient would not
    be a number.
    """

    scale: Literal["pixel", "one", "fixed"] = "one"
    """s: a decoder output for each pixel, one learned number for all pixels, or `fixed_scale`."""
    fixed_scale: Scale = 0.1
    """s if `scale` is `fixed`; otherwise about the initial value of s."""
    smallest: Scale  # each likelihood has a default of its own, and describes it

    def idle(self) -> dict[str, str]:
        """Name the limit of a learned scale, where none is learned."""
        return {"smallest": "scale fixed has no limit"} if self.scale == "fixed" else {}

    @property
    def outputs(self) -> int:
        """1 for the location, and 1 more for the scale if it is `pixel`."""
        return 2 if self.scale == "pixel" else 1

    @property
    def shared(self) -> int:
        """1 for the scale if it is `one`."""
        return int(self.scale == "one")

    def log_scale(self, raw: Float[Array, "*batch h w c numbers"]) -> Float[Array, "*batch h w c"]:
        """Return log s of each pixel."""
        import jax.numpy as jnp

        fixed = math.log(self.fixed_scale)
        if self.scale == "fixed":
            return jnp.full_like(raw[..., 0], fixed)
        return jnp.logaddexp(math.log(self.smallest), fixed + raw[..., 1])

    def drawn_scale(
        self, raw: Float[Array, "*batch h w c numbers"]
    ) -> Float[Array, "*batch h w c"]:
        """Return s of each pixel, at most exp(50), by which any draw is finite."""
        import jax.numpy as jnp

        return jnp.exp(jnp.minimum(self.log_scale(raw), 50.0))
