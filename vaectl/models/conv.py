"""A convolutional model: convolutions that halve the image, and their transposes."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from vaectl.models._layers import Activation, Normalization, activation_of, norm
from vaectl.models.base import ImageShape, Model

if TYPE_CHECKING:
    from flax import nnx
    from jaxtyping import Array, Float


class Conv(Model, name="conv"):
    """Convolutions of stride 2 and one linear layer to the code, and the reverse.

        x -> [f(n(conv(.))), blocks] * layers -> linear -> mu, log_var
        z -> f(linear(.)), blocks -> [f(n(transposed(.))), blocks] * (layers - 1) -> transposed

    f is the activation and n the normalization. A block is f(h + n(conv(f(n(conv(h)))))), with two
    convolutions of stride 1. By default there are no blocks and there is no normalization.

    Radford et al. 2016, DCGAN; the blocks are those of He et al. 2016.
    """

    conditional = True

    channels: Annotated[int, Field(ge=1, le=10_000)] = 32
    """Channels of the first convolution; each of the others has twice as many as the one before."""
    kernel_size: Annotated[int, Field(ge=1, le=99)] = 3
    """Height and width of the kernels."""
    layers: Annotated[int, Field(ge=1, le=10)] = 2
    """Convolutions of the encoder that halve the image, and as many that double it."""
    residual_blocks: Annotated[int, Field(ge=0, le=100)] = 0
    """Residual blocks after each halving, and as many in the decoder."""
    activation: Activation = "relu"
    """Activation function of all layers but the last."""
    normalization: Normalization = "none"
    """Normalization after each convolution but the last: `batch`, over the images and pixels of a
    batch in training, and by their running means in evaluation; `layer`, over the channels of a
    pixel; or `none`."""

    @property
    def averages_batches(self) -> bool:
        """True if there is batch normalization."""
        return self.normalization == "batch"

    def build(
        self,
        image_shape: ImageShape,
        code_size: int,
        outputs: int,
        rngs: nnx.Rngs,
        classes: int = 0,
    ) -> nnx.Module:
        """Build an encoder and a decoder for images of any size."""
        from flax import nnx

        from vaectl.vae.networks import AutoEncoder, Residual

        height, width, colours = image_shape
        channels = [self.channels * 2**number for number in range(self.layers)]
        rows, columns = (-(-side // 2**self.layers) for side in (height, width))
        size = rows * columns * channels[-1]
        activation = activation_of(self.activation)
        kernel: dict[str, Any] = {"kernel_size": (self.kernel_size,) * 2, "rngs": rngs}

        def flat(x: Float[Array, "batch h w c"]) -> Float[Array, "batch numbers"]:
            return x.reshape(x.shape[0], -1)

        def as_image(h: Float[Array, "batch numbers"]) -> Float[Array, "batch h w c"]:
            return h.reshape(h.shape[0], rows, columns, channels[-1])

        def cropped(raw: Float[Array, "batch h w c"]) -> Float[Array, "batch height width c"]:
            return raw[:, :height, :width]

        def normed(conv: Any, wide: int, narrow: int, strides: int) -> list[Any]:
            # batch normalization subtracts a bias
            use_bias = self.normalization != "batch"
            layer = conv(wide, narrow, strides=(strides,) * 2, use_bias=use_bias, **kernel)
            return [layer, *norm(self.normalization, narrow, rngs)]

        def block(count: int) -> nnx.Module:
            first, second = (normed(nnx.Conv, count, count, 1) for _ in range(2))
            return Residual(activation, nnx.Sequential(*first, activation, *second))

        def blocks(count: int) -> list[nnx.Module]:
            return [block(count) for _ in range(self.residual_blocks)]

        down: list[Any] = []
        for wide, narrow in pairwise([colours + classes, *channels]):
            down += [*normed(nnx.Conv, wide, narrow, 2), activation, *blocks(narrow)]
        encoder = nnx.Sequential(*down, flat, nnx.Linear(size, 2 * code_size, rngs=rngs))
        up: list[Any] = [nnx.Linear(code_size + classes, size, rngs=rngs), activation, as_image]
        up += blocks(channels[-1])
        for narrow, wide in reversed([*pairwise(channels)]):
            up += [*normed(nnx.ConvTranspose, wide, narrow, 2), activation, *blocks(narrow)]
        last = nnx.ConvTranspose(channels[0], colours * outputs, strides=(2, 2), **kernel)
        decoder = nnx.Sequential(*up, last, cropped)
        return AutoEncoder(encoder, decoder, (*image_shape, outputs), planes=True)
