"""A variational auto-encoder as a value without parameters, and its network with parameters."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any, TypeAlias, final

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, UInt8

from vaectl.base.errors import ConfigError
from vaectl.likelihoods.base import Likelihood
from vaectl.models.base import ImageShape, Model
from vaectl.priors.base import Distribution, Prior
from vaectl.vae.posterior import Codes

_SHARED = "likelihood"
"""The network's attribute with the parameters that the likelihood shares between pixels."""
_PRIOR = "prior"
"""The network's attribute with the parameters of the prior."""

Variables: TypeAlias = dict[str, Any]
"""All arrays of a network, in nested dictionaries by module and name: parameters, and other state
such as running means."""


@final
@dataclass(frozen=True)
class VAE:
    """The model, likelihood, prior and sizes that define the structure of a network."""

    model: Model
    likelihood: Likelihood
    prior: Prior
    code_size: int
    image_shape: ImageShape
    classes: int = 0
    """The number of classes if the model is conditional; 0 otherwise."""

    @property
    def pixels(self) -> int:
        """The number of values of an image, over all channels."""
        return math.prod(self.image_shape)

    @property
    def row(self) -> int:
        """The bytes of an image as it is stored: its pixels, and its class if that is told."""
        return self.pixels + bool(self.classes)

    def apart(
        self, rows: UInt8[Array, "*batch numbers"]
    ) -> tuple[UInt8[Array, "*batch pixels"], Float[Array, "*batch classes"] | None]:
        """Return pixels, and the class of each image as a one among zeros; None without classes."""
        if not self.classes:
            return rows, None
        return rows[..., :-1], jax.nn.one_hot(rows[..., -1], self.classes)

    def init(self, key: Array) -> Variables:
        """Draw the initial arrays of a network."""
        return _pure(nnx.state(self._build(nnx.Rngs(key, params=key))))

    def network(self, *variables: Variables, training: bool = False) -> Network:
        """Join the structure and its arrays; inside compiled functions this costs nothing.

        Args:
            variables: all arrays of the network, in one or several parts.
            training: whether layers such as dropout act as in training.
        """
        return Network(self, nnx.merge(_graph(self, training), *variables))

    def unit(self, images: UInt8[Array, "*batch pixels"]) -> Float[Array, "*batch h w c"]:
        """Turn flat images of intensities 0 to 255 into images of numbers in [0, 1]."""
        return unit(images).reshape(*images.shape[:-1], *self.image_shape)

    def first_class(self, count: int) -> Float[Array, "count classes"] | None:
        """Return the labels of class 0 for `count` images of a conditional network; else None."""
        return jax.nn.one_hot(jnp.zeros(count, int), self.classes) if self.classes else None

    def _build(self, rngs: nnx.Rngs) -> nnx.Module:
        told = {"classes": self.classes} if self.classes else {}
        module = self.model.build(
            self.image_shape, self.code_size, self.likelihood.outputs, rngs, **told
        )
        added: dict[str, Any] = {}
        if self.likelihood.shared:
            added[_SHARED] = nnx.Param(jnp.zeros(self.likelihood.shared))
        if learned := self.prior.build(self.image_shape, self.code_size, rngs):
            added[_PRIOR] = learned
        for name, parameters in added.items():
            if hasattr(module, name):
                raise ConfigError(
                    f"the model {self.model.name}: its module has an attribute {name}, which would "
                    f"be replaced by the parameters of the {name}",
                    hint="give the attribute another name",
                )
            setattr(module, name, parameters)
        return module


@final
class Network:
    """An encoder and a decoder with their arrays, the likelihood p(x|z) and the prior p(z)."""

    def __init__(
        self, vae: VAE, module: Any, y: Float[Array, "batch classes"] | None = None
    ) -> None:
        self.module = module
        self.vae = vae
        self._told = () if y is None else (y,)

    def given(self, y: Float[Array, "batch classes"] | None) -> Network:
        """Return the same network, which is told the classes of the images of a batch.

        Args:
            y: weights of the classes that sum to 1, for each image; None without classes.
        """
        return Network(self.vae, self.module, y)

    @cached_property
    def prior(self) -> Distribution:
        """The distribution p(z) of codes."""
        learned = getattr(self.module, _PRIOR, None)
        return self.vae.prior.given(learned, self.encode, self.vae.code_size)

    def encode(
        self, x: Float[Array, "batch h w c"]
    ) -> tuple[Float[Array, "batch code"], Float[Array, "batch code"]]:
        """Return mean and log-variance of q(z|x) for each image."""
        posterior: tuple[Array, Array] = self.module.encode(x, *self._told)
        return posterior

    def draw(
        self, x: Float[Array, "batch h w c"], noise: Float[Array, "samples batch code"]
    ) -> Codes:
        """Draw codes from q(z|x) of each image."""
        return Codes.draw(*self.encode(x), noise)

    def decode(self, z: Float[Array, "*batch code"]) -> Float[Array, "*batch h w c numbers"]:
        """Return the likelihood's inputs for each pixel."""
        raw: Array = self.module.decode(z, *self._told)
        if self.vae.likelihood.shared:
            shared = getattr(self.module, _SHARED)[...]
            raw = jnp.concatenate(
                [raw, jnp.broadcast_to(shared, raw.shape[:-1] + shared.shape)], -1
            )
        return raw

    def log_prob(
        self, z: Float[Array, "samples batch code"], x: Float[Array, "batch h w c"]
    ) -> Float[Array, "samples batch"]:
        """Return log p(x|z) of each image, in nats."""
        return self.vae.likelihood.log_prob(self.decode(z), x)

    def nll(self, codes: Codes, x: Float[Array, "batch h w c"]) -> Float[Array, " batch"]:
        """Return -log p(x|z) of each image as a mean over its samples, in nats.

        With the KL it is the negative of the ELBO: Kingma & Welling 2013, eq. 10.
        """
        return -jnp.mean(self.log_prob(codes.z, x), axis=0)

    def mean(self, z: Float[Array, "*batch code"]) -> Float[Array, "*batch h w c"]:
        """Return the mean of each pixel under p(x|z)."""
        return self.vae.likelihood.mean(self.decode(z))

    def split(self) -> tuple[Variables, Variables]:
        """Return the parameters, and all other arrays."""
        _, *parts = nnx.split(self.module, nnx.Param, ...)
        learned, kept = map(_pure, parts)
        return learned, kept

    @property
    def variables(self) -> Variables:
        """All arrays of the network."""
        return _pure(nnx.state(self.module))


def unit(pixels: UInt8[Array, "*shape"]) -> Float[Array, "*shape"]:
    """Scale intensities 0 to 255 to numbers in [0, 1]."""
    scaled: Array = pixels.astype(jnp.float32) * jnp.float32(1 / 255)
    return scaled


def _pure(state: Any) -> Variables:
    variables: Variables = nnx.to_pure_dict(state)
    return variables


@cache
def _graph(vae: VAE, training: bool) -> nnx.GraphDef[nnx.Module]:
    """Return the structure of a network, without its arrays."""

    def build() -> nnx.Module:
        module = vae._build(nnx.Rngs(0))
        module.set_attributes(
            deterministic=not training, use_running_average=not training, raise_if_not_found=False
        )
        return module

    return nnx.graphdef(nnx.eval_shape(build))
