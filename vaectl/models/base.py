"""The protocol of models."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, Protocol, Self

from pydantic import Field, model_validator

from vaectl.base.plugs import Choice, Plug
from vaectl.base.section import conflict

if TYPE_CHECKING:
    from flax import nnx
    from jaxtyping import Array, Float

Precision = Literal["float32", "bfloat16", "auto"]
ImageShape = tuple[int, int, int]
"""Height, width and channels of an image."""


class Coder(Protocol):
    """The `nnx.Module` that a model builds: an encoder and a decoder with their parameters.

    The size of a batch is `x.shape[0]`, not `len(x)`: in an export it is a symbol.
    """

    def encode(
        self, x: Float[Array, "batch h w c"]
    ) -> tuple[Float[Array, "batch code"], Float[Array, "batch code"]]:
        """Return mean and log-variance of the diagonal Gaussian q(z|x) for each image."""

    def decode(self, z: Float[Array, "*batch code"]) -> Float[Array, "*batch h w c numbers"]:
        """Return the likelihood's inputs for each pixel."""


class Model(Plug, kind="model"):
    """The settings of an encoder q(z|x) and a decoder of p(x|z), from which they are built."""

    conditional: ClassVar[bool] = False
    """True if `build` can make them take the classes of images too."""

    @property
    def draws(self) -> bool:
        """True if layers draw random numbers in training, as dropout does."""
        return False

    @property
    def averages_batches(self) -> bool:
        """True if layers use means over the batch in training, as batch normalization does."""
        return False

    def summary(self, code_size: int) -> str:
        """Describe the model in a few words, for tables."""
        return f"{self.name}-{code_size}"

    @abstractmethod
    def build(
        self,
        image_shape: ImageShape,
        code_size: int,
        outputs: int,
        rngs: nnx.Rngs,
    ) -> nnx.Module:
        """Build a `Coder` with new parameters.

        The `build` of a `conditional` model also takes `classes`, the number of classes, 0 by
        default. If it is above 0, `encode` and `decode` have a second argument y: one weight per
        class for each image of a batch.

        Args:
            image_shape: height, width and channels.
            code_size: dimensions of z.
            outputs: decoder outputs for each pixel and channel; the likelihood sets it.
            rngs: random keys of the initial parameters.
        """


class ModelChoice(Choice[Model]):
    """The encoder and decoder, and the size of the code between them."""

    plugs = Model
    default = "mlp"

    code_size: Annotated[int, Field(ge=1, le=100_000)] = 20
    """Dimensions of the latent code z; the paper has 2 and 20."""
    condition: Literal["none", "label"] = "none"
    """`label`: the encoder and the decoder are told the class of each image, q(z|x,y) and p(x|z,y),
    so that images of a class can be asked for (Sohn et al. 2015). `none`: they are not."""

    precision: Precision = "float32"
    """Precision of the matrix products of training. `bfloat16`: their operands are rounded to 8
    significant bits, which is faster on hardware with such products; sums, parameters, the
    optimizer, validation and all later evaluations stay in float32. `auto`: bfloat16 on such
    hardware, else float32; the run's configuration has the one that was chosen."""

    @model_validator(mode="after")
    def _can_be_told(self) -> Self:
        if self.condition != "none" and not self.chosen.conditional:
            raise conflict(
                f"model.condition is {self.condition}, and the model {self.name} takes no classes",
                "--set model.condition=none, or another model",
            )
        return self
