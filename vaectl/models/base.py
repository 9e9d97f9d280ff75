"""What a model is."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Annotated, Protocol

from pydantic import Field

from vaectl.base.plugs import Choice, Plug

if TYPE_CHECKING:
    from flax import nnx
    from jaxtyping import Array, Float

ImageShape = tuple[int, int, int]
"""Height, width and channels of an image."""


class Coder(Protocol):
    """An encoder and a decoder with their parameters: the `nnx.Module` that a model builds."""

    def encode(
        self, x: Float[Array, "batch h w c"]
    ) -> tuple[Float[Array, "batch code"], Float[Array, "batch code"]]:
        """Return mean and log-variance of q(z|x), a diagonal Gaussian, for each image."""

    def decode(self, z: Float[Array, "*batch code"]) -> Float[Array, "*batch h w c numbers"]:
        """Return the numbers that the likelihood takes for each pixel."""


class Model(Plug, kind="model"):
    """The encoder q(z|x) and the decoder of p(x|z)."""

    def summary(self, code_size: int) -> str:
        """Say in a few words what it is, for a table."""
        return f"{self.name}-{code_size}"

    @abstractmethod
    def build(
        self, image_shape: ImageShape, code_size: int, outputs: int, rngs: nnx.Rngs
    ) -> nnx.Module:
        """Build a `Coder` with new parameters.

        Args:
            image_shape: height, width and channels.
            code_size: dimensions of z.
            outputs: numbers for each pixel and channel, which the likelihood asks for.
            rngs: where initial values are drawn.
        """


class ModelChoice(Choice[Model]):
    """The encoder and decoder, and the size of the code between them."""

    plugs = Model
    default = "mlp"

    code_size: Annotated[int, Field(ge=1, le=100_000)] = 20
    """Dimensions of the latent code z; the paper has 2 and 20."""
