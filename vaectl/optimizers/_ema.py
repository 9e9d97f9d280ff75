"""An exponential moving average of the parameters that train, which is what is evaluated."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import optax
    from jaxtyping import Array, Float, Int


class Averaged(NamedTuple):
    """State of a direction, and of the average."""

    direction: optax.OptState
    offset: optax.Updates
    """w, the distance of the parameters from their average, in learning rates."""
    steps: Int[Array, ""]


def with_average(
    direction: optax.GradientTransformationExtraArgs, decay: float
) -> optax.GradientTransformationExtraArgs:
    """Return the same direction, whose state also has an average x of the parameters y.

        y <- y - rate d;  x <- c x + (1 - c) y,   c = min(decay, (1 + t) / (10 + t))

    In the first steps t the average is short, so that the initial parameters soon count for
    nothing. The state is w = (y - x) / learning_rate, where rate = learning_rate s:

        w <- c (w - s d)

    so the learning rate need not be known here, and what training computes stays the same.

    After Polyak & Juditsky 1992; the warm-up is that of TensorFlow's `ExponentialMovingAverage`.
    """
    import jax
    import jax.numpy as jnp
    import optax

    def init(params: optax.Params) -> Averaged:
        return Averaged(
            direction.init(params), optax.tree.zeros_like(params), jnp.zeros((), jnp.int32)
        )

    def update(
        updates: optax.Updates,
        state: Averaged,
        params: optax.Params | None = None,
        *,
        schedule: Float[Array, ""] | float = 1.0,
    ) -> tuple[optax.Updates, Averaged]:
        d, inner = direction.update(updates, state.direction, params, schedule=schedule)
        t = state.steps.astype(jnp.float32)
        c = jnp.minimum(decay, (1 + t) / (10 + t))
        offset = jax.tree.map(lambda w, d: c * (w - schedule * d), state.offset, d)
        return d, Averaged(inner, offset, state.steps + 1)

    return optax.GradientTransformationExtraArgs(init, update)


def average(
    params: optax.Params, offset: optax.Updates, learning_rate: Float[Array, ""]
) -> optax.Params:
    """Return the average x of parameters y by their offset w = (y - x) / learning_rate."""
    import jax

    return jax.tree.map(lambda y, w: y - learning_rate * w, params, offset)
