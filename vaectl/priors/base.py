"""The protocol of priors, and of the distribution of codes that one stands for."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeAlias

from vaectl.base.plugs import Choice, Plug

if TYPE_CHECKING:
    from flax import nnx
    from jaxtyping import Array, Float, Key

    from vaectl.vae.posterior import Codes

Encode: TypeAlias = "Callable[[Float[Array, 'batch h w c']], tuple[Array, Array]]"
"""An encoder: from images to the mean and the log-variance of q(z|x)."""


class Distribution(ABC):
    """A distribution p(z) of codes; logarithms and divergences are in nats."""

    @abstractmethod
    def log_prob(self, z: Float[Array, "*batch code"]) -> Float[Array, "*batch"]:
        """Return log p(z) of each code."""

    @abstractmethod
    def log_marginals(self, z: Float[Array, "*batch code"]) -> Float[Array, "*batch code"]:
        """Return log p(z_j) of each dimension j alone."""

    @abstractmethod
    def sample(
        self, key: Key[Array, ""], count: int, temperature: float = 1.0
    ) -> Float[Array, "count code"]:
        """Draw codes; a temperature below 1 draws them nearer to the modes."""

    def log_ratio(self, codes: Codes) -> Float[Array, "samples batch"]:
        """Return log p(z) - log q(z|x) of each sample.

        The sum with log p(x|z) is the logarithm of an importance weight: Burda et al. 2016, eq. 8.
        """
        import jax.numpy as jnp

        return self.log_prob(codes.z) - jnp.sum(codes.log_marginals(), axis=-1)

    def kl(self, codes: Codes) -> Float[Array, " batch"]:
        """Return KL(q(z|x) || p(z)) of each image, as a mean over its samples by default."""
        return -self.log_ratio(codes).mean(axis=0)

    def kl_by_dimension(self, codes: Codes) -> Float[Array, "batch code"]:
        """Return KL(q(z_j|x) || p(z_j)) of each image and each dimension j alone.

        Where the dimensions depend on each other under p(z), the sum is not the KL of the code.
        """
        return (codes.log_marginals() - self.log_marginals(codes.z)).mean(axis=0)


class Prior(Plug, kind="prior"):
    """The settings of a distribution p(z) of codes, which may have parameters that are learned."""

    @property
    def standard(self) -> bool:
        """True if p(z) = N(0, I), from which the KL is a known formula, a sum over dimensions."""
        return False

    def build(
        self,
        image_shape: tuple[int, int, int],
        code_size: int,
        rngs: nnx.Rngs,
    ) -> nnx.Module | None:
        """Build the parameters that are learned; by default there are none.

        Args:
            image_shape: height, width and channels.
            code_size: dimensions of z.
            rngs: random keys of the initial parameters.
        """
        del image_shape, code_size, rngs
        return None

    @abstractmethod
    def given(self, learned: Any, encode: Encode, code_size: int) -> Distribution:
        """Return the distribution.

        Args:
            learned: the result of `build`, with the current parameters.
            encode: the encoder, for priors that are made of posteriors.
            code_size: dimensions of z.
        """


class PriorChoice(Choice[Prior]):
    """p(z), the distribution of codes before an image is seen."""

    plugs = Prior
    default = "standard_normal"
