"""The protocol of likelihoods."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Literal

from vaectl.base.plugs import Choice, Plug

if TYPE_CHECKING:
    from jaxtyping import Array, Float, Key

Measure = Literal["binary", "density", "bytes"]
"""The pixels that a probability is of: black and white ones, grey levels as real numbers in [0, 1],
or the 256 levels of a byte. Log-probabilities of different measures do not compare."""


class Likelihood(Plug, kind="likelihood"):
    """A distribution p(x|z) of the pixels, given the decoder's outputs for each pixel.

    raw  [..., height, width, channels, outputs + shared]  any real numbers, from the decoder
    x    [..., height, width, channels]                    images in [0, 1]
    """

    @property
    def outputs(self) -> int:
        """The number of decoder outputs for each pixel."""
        return 1

    @property
    def shared(self) -> int:
        """The number of parameters that all pixels share; they come last in `raw`."""
        return 0

    @property
    def measure(self) -> Measure:
        """The measure of its probabilities: by default they are a density of grey levels."""
        return "density"

    @property
    def binary(self) -> bool:
        """True if pixels are black or white."""
        return self.measure == "binary"

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


def in_a_row(
    raw: Float[Array, "*batch h w c numbers"], x: Float[Array, "*some h w c"]
) -> tuple[Float[Array, "*batch 1 1 pixels numbers"], Float[Array, "*some 1 1 pixels"]]:
    """Lay the pixels of each image out in one row.

    What is computed for each pixel takes half the time: on a CPU, XLA only vectorizes the innermost
    axis, and the channels of a grey image are an axis of one.
    """
    return raw.reshape(*raw.shape[:-4], 1, 1, -1, raw.shape[-1]), x.reshape(*x.shape[:-3], 1, 1, -1)


def sum_pixels(values: Float[Array, "*batch h w c"]) -> Float[Array, "*batch"]:
    """Sum over the pixels of each image."""
    import jax.numpy as jnp

    return jnp.sum(values.reshape(*values.shape[:-3], -1), axis=-1)
