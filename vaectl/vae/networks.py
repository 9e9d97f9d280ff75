"""Building blocks for models: layers, and an encoder with a decoder."""

import math
from collections.abc import Callable, Mapping
from typing import final

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float


@final
class Layers(nnx.Module):
    """Named layers with an activation between them; inputs are flattened."""

    def __init__(
        self, activation: Callable[[Array], Array], layers: Mapping[str, nnx.Module]
    ) -> None:
        self.activation = activation
        self.names = tuple(layers)
        for name, layer in layers.items():
            setattr(self, name, layer)

    def __call__(self, x: Float[Array, "batch *shape"]) -> Float[Array, "batch outputs"]:
        """Apply the layers in order."""
        h = x.reshape(x.shape[0], -1)
        for name in self.names[:-1]:
            h = self.activation(getattr(self, name)(h))
        outputs: Array = getattr(self, self.names[-1])(h)
        return outputs


@final
class Residual(nnx.Module):
    """An activation of the sum of the input and layers of it: f(x + layers(x)).

    He et al. 2016.
    """

    def __init__(self, activation: Callable[[Array], Array], layers: nnx.Module) -> None:
        self.activation = activation
        self.layers = layers

    def __call__(self, x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        """Apply the layers, and add the input."""
        return self.activation(x + self.layers(x))


@final
class InputNoise(nnx.Module):
    """Normal noise that is added in training, and not in evaluation."""

    def __init__(self, scale: float, *, rngs: nnx.Rngs) -> None:
        self.scale = scale
        self.deterministic = False
        self.rngs = rngs["noise"].fork()

    def __call__(self, x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        """Add the noise, unless `deterministic` is set."""
        if self.deterministic:
            return x
        noise: Array = jax.random.normal(self.rngs(), x.shape, x.dtype)
        return x + self.scale * noise


@final
class AutoEncoder(nnx.Module):
    """An encoder and a decoder without common parameters.

    Args:
        encoder: maps images to 2 * code numbers, the mean and log-variance of q(z|x).
        decoder: maps codes to as many numbers as `shape` has.
        shape: height, width, channels, and decoder outputs per pixel and channel.
        planes: how the encoder takes the classes that it is told: as channels of constant value
            behind those of the image, or as numbers behind all pixels. The decoder takes them as
            numbers behind the code.
        noise: the layer that adds noise to images before they are encoded; None for no noise.
    """

    def __init__(
        self,
        encoder: Callable[[Array], Array],
        decoder: Callable[[Array], Array],
        shape: tuple[int, int, int, int],
        *,
        planes: bool = False,
        noise: InputNoise | None = None,
    ) -> None:
        self.encoder = encoder
        self.decoder = decoder
        self.shape = shape
        self.planes = planes
        self.noise = noise

    def encode(
        self, x: Float[Array, "batch h w c"], y: Float[Array, "batch classes"] | None = None
    ) -> tuple[Float[Array, "batch code"], Float[Array, "batch code"]]:
        """Return mean and log-variance of q(z|x), or of q(z|x,y), for each image."""
        if self.noise is not None:
            x = self.noise(x)
        seen: Array = x
        if y is not None and self.planes:
            seen = _beside(x, y[:, None, None])
        elif y is not None:
            seen = _beside(x.reshape(x.shape[0], -1), y)
        mu, log_var = jnp.split(self.encoder(seen), 2, axis=-1)
        return mu, log_var

    def decode(
        self, z: Float[Array, "*batch code"], y: Float[Array, "some classes"] | None = None
    ) -> Float[Array, "*batch h w c numbers"]:
        """Return the likelihood's inputs for each pixel, of p(x|z) or of p(x|z,y)."""
        if y is not None:
            z = _beside(z, y)
        # with one batch axis: with more axes, XLA would transpose matrices in the gradient
        raw = self.decoder(z.reshape(-1, z.shape[-1]))
        return raw.reshape(*z.shape[:-1], *self.shape)


def _beside(a: Float[Array, "*shape numbers"], y: Float[Array, "*some classes"]) -> Array:
    """Put the same y, scaled, behind the last axis of all of a.

    A class is a one among zeros, scaled by the square root of the number of classes. So these
    numbers have a mean square of 1, like those of a code; otherwise the first layers would learn to
    use the class late.
    """
    scaled = math.sqrt(y.shape[-1]) * y
    joined: Array = jnp.concatenate([a, jnp.broadcast_to(scaled, (*a.shape[:-1], y.shape[-1]))], -1)
    return joined
