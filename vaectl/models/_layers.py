"""Settings that models share: activation functions and normalization."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from flax import nnx
    from jaxtyping import Array

Activation = Literal["relu", "tanh", "gelu", "silu", "leaky_relu", "elu"]
Normalization = Literal["none", "batch", "layer"]

MOMENTUM = 0.9
"""The weight of the old value in the running means of `batch`; they adapt in tens of steps."""


def activation_of(name: Activation) -> Callable[[Array], Array]:
    """Return the activation function of a name."""
    import jax

    found: Callable[[Array], Array] = relu if name == "relu" else getattr(jax.nn, name)
    return found


def relu(a: Array) -> Array:
    """Return max(a, 0), and NaN for NaN, which XLA's maximum on a CPU may turn into 0."""
    import jax.numpy as jnp

    return jnp.where(a <= 0, 0.0, a)


def norm(name: Normalization, features: int, rngs: nnx.Rngs) -> list[nnx.Module]:
    """Return the layer of a normalization over the last axis, or none.

    Ioffe & Szegedy 2015; Ba et al. 2016.
    """
    from flax import nnx

    if name == "none":
        return []
    if name == "batch":
        return [nnx.BatchNorm(features, momentum=MOMENTUM, rngs=rngs)]
    return [nnx.LayerNorm(features, rngs=rngs)]
