"""A convolutional model: two convolutions that halve the image, and their transposes."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from vaectl.models.base import ImageShape, Model

if TYPE_CHECKING:
    from flax import nnx
    from jaxtyping import Array, Float


class Conv(Model, name="conv"):
    """Two convolutions of stride 2 and one linear layer to the code, and the reverse.

    As in DCGAN (Radford et al. 2016), but without normalization.
    """

    conditional = True

    channels: Annotated[int, Field(ge=1, le=10_000)] = 32
    """Channels of the first convolution; the second has twice as many."""
    kernel_size: Annotated[int, Field(ge=1, le=99)] = 3
    """Height and width of the kernels."""

    def build(
        self,
        image_shape: ImageShape,
        code_size: int,
        outputs: int,
        rngs: nnx.Rngs,
        classes: int = 0,
    ) -> nnx.Module:
        """Build an encoder and a decoder for images of any size."""
        import jax
        from flax import nnx

        from vaectl.vae.networks import AutoEncoder

        height, width, colours = image_shape
        wide, narrow = self.channels, 2 * self.channels
        rows, columns = -(-height // 4), -(-width // 4)
        size = rows * columns * narrow
        how: dict[str, Any] = {
            "kernel_size": (self.kernel_size,) * 2,
            "strides": (2, 2),
            "rngs": rngs,
        }
        down: Any = partial(nnx.Conv, **how)
        up: Any = partial(nnx.ConvTranspose, **how)

        def flat(x: Float[Array, "batch h w c"]) -> Float[Array, "batch numbers"]:
            return x.reshape(x.shape[0], -1)

        def as_image(h: Float[Array, "batch numbers"]) -> Float[Array, "batch h w c"]:
            return h.reshape(h.shape[0], rows, columns, narrow)

        def cropped(raw: Float[Array, "batch h w c"]) -> Float[Array, "batch height width c"]:
            return raw[:, :height, :width]

        encoder = nnx.Sequential(
            down(colours + classes, wide),
            jax.nn.relu,
            down(wide, narrow),
            jax.nn.relu,
            flat,
            nnx.Linear(size, 2 * code_size, rngs=rngs),
        )
        decoder = nnx.Sequential(
            nnx.Linear(code_size + classes, size, rngs=rngs),
            jax.nn.relu,
            as_image,
            up(narrow, wide),
            jax.nn.relu,
            up(wide, colours * outputs),
            cropped,
        )
        return AutoEncoder(encoder, decoder, (*image_shape, outputs), planes=True)
