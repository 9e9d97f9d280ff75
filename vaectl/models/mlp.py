"""A model of fully connected layers."""

from __future__ import annotations

import math
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from vaectl.base.section import Decay, NonNegative
from vaectl.models._layers import Activation, Normalization, activation_of, norm
from vaectl.models.base import ImageShape, Model

if TYPE_CHECKING:
    from flax import nnx
    from jaxtyping import Array


class MLP(Model, name="mlp"):
    """Fully connected layers, with the same hidden layers in the encoder and the decoder.

        h = f(W x + b), ...;  [mu, log_var] = W' h + b'
        h = f(W z + b), ...;  raw = W' h + b'

    One matrix product gives the mean and the log-variance. With normalization n and dropout d, a
    hidden layer is d(f(n(W x + b))).

    Kingma & Welling 2013, appendix C.
    """

    conditional = True
    first_defaults = MappingProxyType({"activation": "tanh"})

    hidden_size: Annotated[int, Field(ge=1, le=1_000_000)] = 500
    """Units of each hidden layer."""
    hidden_layers: Annotated[int, Field(ge=1, le=100)] = 1
    """Hidden layers of the encoder, and as many of the decoder; the paper has one."""
    activation: Activation = "relu"
    """Activation function of the hidden layers; the paper has `tanh`."""
    weight_init: Literal["lecun_normal", "lecun_uniform"] = "lecun_normal"
    """Distribution of initial weights, of variance 1/fan-in; the paper's `lecun_uniform` is uniform
    in ±sqrt(3/fan-in)."""
    bias_init: Literal["zeros", "unit_uniform"] = "zeros"
    """Initial biases; the paper's `unit_uniform` is uniform in ±sqrt(3), of variance 1."""
    normalization: Normalization = "none"
    """Normalization before the activation: `batch`, over the images of a batch in training, and by
    their running means in evaluation; `layer`, over the units of an image; or `none`."""
    dropout: Decay = 0.0
    """Probability with which training drops a unit of a hidden layer; evaluation has all units.
    Srivastava et al. 2014."""
    input_noise: NonNegative = 0.0
    """Standard deviation of the normal noise that training adds to the images of the encoder, not
    to those whose likelihood is computed: a denoising VAE, Im et al. 2017."""

    def summary(self, code_size: int) -> str:
        """Name the sizes of the encoder's layers, and the activation."""
        sizes = [self.hidden_size] * self.hidden_layers + [code_size]
        return f"{'-'.join(map(str, sizes))} {self.activation}"

    @property
    def draws(self) -> bool:
        """True if there is dropout or noise."""
        return bool(self.dropout or self.input_noise)

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
        """Build an encoder and a decoder for flattened images."""
        from flax import nnx

        from vaectl.vae.networks import AutoEncoder, InputNoise, Layers

        weights = getattr(nnx.initializers, self.weight_init)()
        zeros = nnx.initializers.zeros_init()
        biases = unit_uniform if self.bias_init == "unit_uniform" else zeros

        def linear(wide: int, narrow: int, *, use_bias: bool = True) -> nnx.Module:
            return nnx.Linear(
                wide,
                narrow,
                use_bias=use_bias,
                kernel_init=weights,
                bias_init=biases,
                rngs=rngs,
            )

        def hidden(wide: int, before: list[nnx.Module]) -> nnx.Module:
            # batch normalization subtracts a bias
            layer = linear(wide, self.hidden_size, use_bias=self.normalization != "batch")
            return joined(*before, layer, *norm(self.normalization, self.hidden_size, rngs))

        def dropped() -> list[nnx.Module]:
            return [nnx.Dropout(self.dropout, rngs=rngs)] if self.dropout else []

        def layers(inputs: int, results: int, last: str) -> Layers:
            found = {"hidden": hidden(inputs, [])}
            for number in range(2, self.hidden_layers + 1):
                found[f"hidden_{number}"] = hidden(self.hidden_size, dropped())
            found[last] = joined(*dropped(), linear(self.hidden_size, results))
            return Layers(activation_of(self.activation), found)

        pixels = math.prod(image_shape)
        noise = InputNoise(self.input_noise, rngs=rngs) if self.input_noise else None
        encoder = layers(pixels + classes, 2 * code_size, "heads")
        decoder = layers(code_size + classes, pixels * outputs, "logits")
        return AutoEncoder(encoder, decoder, (*image_shape, outputs), noise=noise)


def joined(*layers: nnx.Module) -> nnx.Module:
    """Return one layer for several; one alone keeps the names of its parameters."""
    from flax import nnx

    return nnx.Sequential(*layers) if layers[1:] else layers[0]


def unit_uniform(key: Array, shape: tuple[int, ...], dtype: Any = "float32") -> Array:
    """Draw from the uniform distribution in ±sqrt(3), which has variance 1."""
    import jax

    limit = math.sqrt(3)
    return jax.random.uniform(key, shape, dtype, minval=-limit, maxval=limit)
