"""What a likelihood is."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING

from vaectl.base.plugs import Choice, Plug

if TYPE_CHECKING:
    from jaxtyping import Array, Float, Key


class Likelihood(Plug, kind="likelihood"):
    """p(x|z): what the numbers that a decoder gives for each pixel say of that pixel.

    raw  [..., height, width, channels, outputs + shared]  from the decoder, of any real value
    x    [..., height, width, channels]                    images in [0, 1]
    """

    @property
    def outputs(self) -> int:
        """How many numbers the decoder gives for each pixel."""
        return 1

    @property
    def shared(self) -> int:
        """How many numbers are learned once for all pixels; they stand last in `raw`."""
        return 0

    @property
    def binary(self) -> bool:
        """Whether it is a probability of black and white; else it is a density of grey levels."""
        return False

    @abstractmethod
    def log_prob(
        self, raw: Float[Array, "*#batch h w c numbers"], x: Float[Array, "*#batch h w c"]
    ) -> Float[Array, "..."]:
        """Return log p(x|z) of each image, in nats."""

    @abstractmethod
    def mean(self, raw: Float[Array, "*batch h w c numbers"]) -> Float[Array, "*batch h w c"]:
        """Return the mean of each pixel."""

    @abstractmethod
    def sample(
        self, raw: Float[Array, "*batch h w c numbers"], key: Key[Array, ""]
    ) -> Float[Array, "*batch h w c"]:
        """Draw each pixel."""


class LikelihoodChoice(Choice[Likelihood]):
    """p(x|z), the distribution of the pixels given a code."""

    plugs = Likelihood
    default = "bernoulli"


def sum_pixels(values: Float[Array, "*batch h w c"]) -> Float[Array, "*batch"]:
    """Sum over the pixels of each image."""
    import jax.numpy as jnp

    return jnp.sum(values.reshape(*values.shape[:-3], -1), axis=-1)
