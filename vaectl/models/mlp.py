"""A model of fully connected layers."""

from __future__ import annotations

import math
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from vaectl.models.base import ImageShape, Model

if TYPE_CHECKING:
    from flax import nnx
    from jaxtyping import Array


class MLP(Model, name="mlp"):
    """Fully connected layers, with the same hidden layers in the encoder and the decoder.

        h = f(W x + b), ...;  [mu, log_var] = W' h + b'
        h = f(W z + b), ...;  raw = W' h + b'

    One matrix product gives the mean and the log-variance. Kingma & Welling 2013, appendix C.
    """

    conditional = True
    first_defaults = MappingProxyType({"activation": "tanh"})

    hidden_size: Annotated[int, Field(ge=1, le=1_000_000)] = 500
    """Units of each hidden layer."""
    hidden_layers: Annotated[int, Field(ge=1, le=100)] = 1
    """Hidden layers of the encoder, and as many of the decoder; the paper has one."""
    activation: Literal["relu", "tanh"] = "relu"
    """Activation function of the hidden layers; the paper has `tanh`."""
    weight_init: Literal["lecun_normal", "lecun_uniform"] = "lecun_normal"
    """Distribution of initial weights, of variance 1/fan-in; the paper's `lecun_uniform` is uniform
    in ±sqrt(3/fan-in)."""
    bias_init: Literal["zeros", "unit_uniform"] = "zeros"
    """Initial biases; the paper's `unit_uniform` is uniform in ±sqrt(3), of variance 1."""

    def summary(self, code_size: int) -> str:
        """Name the sizes of the encoder's layers, and the activation."""
        sizes = [self.hidden_size] * self.hidden_layers + [code_size]
        return f"{'-'.join(map(str, sizes))} {self.activation}"

    def build(
        self,
        image_shape: ImageShape,
        code_size: int,
        outputs: int,
        rngs: nnx.Rngs,
        classes: int = 0,
    ) -> nnx.Module:
        """Build an encoder and a decoder for flattened images."""
        import jax.numpy as jnp
        from flax import nnx

        from vaectl.vae.networks import AutoEncoder, Layers

        weights = {
            "lecun_normal": nnx.initializers.lecun_normal(),
            "lecun_uniform": nnx.initializers.lecun_uniform(),
        }
        biases = {"zeros": nnx.initializers.zeros_init(), "unit_uniform": unit_uniform}
        activation = {"tanh": jnp.tanh, "relu": relu}[self.activation]

        def layers(inputs: int, results: int, last: str) -> Layers:
            names = [f"hidden_{i + 1}" if i else "hidden" for i in range(self.hidden_layers)]
            widths = [inputs, *[self.hidden_size] * self.hidden_layers, results]
            linear = {
                name: nnx.Linear(
                    wide,
                    narrow,
                    kernel_init=weights[self.weight_init],
                    bias_init=biases[self.bias_init],
                    rngs=rngs,
                )
                for name, wide, narrow in zip([*names, last], widths[:-1], widths[1:], strict=True)
            }
            return Layers(activation, linear)

        pixels = math.prod(image_shape)
        encoder = layers(pixels + classes, 2 * code_size, "heads")
        decoder = layers(code_size + classes, pixels * outputs, "logits")
        return AutoEncoder(encoder, decoder, (*image_shape, outputs))


def relu(a: Array) -> Array:
    """Return max(a, 0), and NaN for NaN, which XLA's maximum on a CPU may turn into 0."""
    import jax.numpy as jnp

    return jnp.where(a <= 0, 0.0, a)


def unit_uniform(key: Array, shape: tuple[int, ...], dtype: Any = None) -> Array:
    """Draw from the uniform distribution in ±sqrt(3), which has variance 1."""
    import jax

    limit = math.sqrt(3)
    return jax.random.uniform(key, shape, dtype or "float32", minval=-limit, maxval=limit)
