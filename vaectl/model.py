"""The MLP variational auto-encoder.

x        [batch, pixels]  images, each pixel in [0, 1]
mu       [batch, code]    mean of the posterior q(z|x)
log_var  [batch, code]    log-variance of the posterior
z        [..., code]      latent codes
logits   [..., pixels]    log-odds of the Bernoulli p(x|z)
"""

import functools
import math
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias, final

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from vaectl import config

Params: TypeAlias = dict[str, Any]
"""Arrays in nested dictionaries, by module and name."""

ACTIVATIONS: Mapping[str, Callable[[Array], Array]] = {"tanh": jnp.tanh, "relu": jax.nn.relu}


def unit_uniform(key: Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> Array:
    """Uniform in ±sqrt(3), which has variance 1."""
    limit = math.sqrt(3)
    return jax.random.uniform(key, shape, dtype, minval=-limit, maxval=limit)


WEIGHT_INITS: Mapping[str, nnx.Initializer] = {
    "lecun_normal": nnx.initializers.lecun_normal(),
    "lecun_uniform": nnx.initializers.lecun_uniform(),
}
BIAS_INITS: Mapping[str, nnx.Initializer] = {
    "zeros": nnx.initializers.zeros_init(),
    "unit_uniform": unit_uniform,
}


@final
class Encoder(nnx.Module):
    """q(z|x): one hidden layer, then mean and log-variance of a diagonal Gaussian.

        h = f(W x + b);  [mu, log_var] = W' h + b'

    Kingma & Welling 2013, appendix C.2. The two heads are one matrix product.
    """

    def __init__(self, settings: config.Model, pixels: int, *, rngs: nnx.Rngs) -> None:
        self.activation = ACTIVATIONS[settings.activation]
        self.hidden = _linear(settings, pixels, settings.hidden_size, rngs)
        self.heads = _linear(settings, settings.hidden_size, 2 * settings.code_size, rngs)

    def __call__(
        self, x: Float[Array, "batch pixels"]
    ) -> tuple[Float[Array, "batch code"], Float[Array, "batch code"]]:
        """Return mean and log-variance of the posterior of each image."""
        mu, log_var = jnp.split(self.heads(self.activation(self.hidden(x))), 2, axis=-1)
        return mu, log_var


@final
class Decoder(nnx.Module):
    """p(x|z): one hidden layer, then the log-odds of each pixel.

        logits = W' f(W z + b) + b'

    Kingma & Welling 2013, appendix C.1.
    """

    def __init__(self, settings: config.Model, pixels: int, *, rngs: nnx.Rngs) -> None:
        self.activation = ACTIVATIONS[settings.activation]
        self.hidden = _linear(settings, settings.code_size, settings.hidden_size, rngs)
        self.logits = _linear(settings, settings.hidden_size, pixels, rngs)

    def __call__(self, z: Float[Array, "*batch code"]) -> Float[Array, "*batch pixels"]:
        """Return the log-odds of each pixel."""
        # flat, because XLA transposes matrices for the gradient of products with more axes
        flat = z.reshape(-1, z.shape[-1])
        logits = self.logits(self.activation(self.hidden(flat)))
        return logits.reshape(*z.shape[:-1], logits.shape[-1])


@final
class VAE(nnx.Module):
    """An encoder and a decoder for images of `pixels` pixels, flattened."""

    def __init__(self, settings: config.Model, pixels: int, *, rngs: nnx.Rngs) -> None:
        self.code_size = settings.code_size
        self.encoder = Encoder(settings, pixels, rngs=rngs)
        self.decoder = Decoder(settings, pixels, rngs=rngs)


@functools.cache
def graph(settings: config.Model, pixels: int) -> nnx.GraphDef[VAE]:
    """The structure of a model without its parameters: `nnx.merge(graph, params)` is a VAE."""
    return nnx.graphdef(nnx.eval_shape(lambda: VAE(settings, pixels, rngs=nnx.Rngs(0))))


def init(settings: config.Model, pixels: int, key: Array) -> Params:
    """Draw the parameters of a new model."""
    model = VAE(settings, pixels, rngs=nnx.Rngs(params=key))
    params: Params = nnx.to_pure_dict(nnx.state(model, nnx.Param))
    return params


def _linear(settings: config.Model, inputs: int, outputs: int, rngs: nnx.Rngs) -> nnx.Linear:
    return nnx.Linear(
        inputs,
        outputs,
        kernel_init=WEIGHT_INITS[settings.weight_init],
        bias_init=BIAS_INITS[settings.bias_init],
        rngs=rngs,
    )
