"""Schedule-Free: an average of the parameters in place of a falling learning rate."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from vaectl.base.section import Decay
from vaectl.optimizers._ema import average
from vaectl.optimizers.base import Optimizer

if TYPE_CHECKING:
    import optax
    from jaxtyping import Array, Float


class ScheduleFree(Optimizer):
    """An optimizer that trains between its iterate z and the average x, and is evaluated at x.

        y = (1 - b1) z + b1 x;  z <- z - rate d(y);  x <- (1 - c) x + c z
        c = rate^2 / sum of rate^2

    d is the whole direction at y: the rule, with clipping, weight decay and the factor of biases.
    The parameters are y; other state of a network, such as running means, belongs to the training
    at y and is not averaged. The state is w = (y - x) / learning_rate, where rate = learning_rate
    s:

        a = w - (1 - b1) s d;  direction = (w - a - c b1 / (1 - b1) a) / s;  w <- (1 - c) a

    Defazio et al. 2024.
    """

    averages = True

    b1: Decay = 0.9
    """Weight of the average in the parameters that train; 0: they are the iterate itself."""

    def around(
        self, direction: optax.GradientTransformationExtraArgs
    ) -> optax.GradientTransformationExtraArgs:
        """Return the transform from a gradient to the step of y."""
        import jax
        import jax.numpy as jnp
        import optax

        def init(params: optax.Params) -> Averaged:
            offset = optax.tree.zeros_like(params)
            return Averaged(direction.init(params), offset, jnp.zeros(()))

        def update(
            updates: optax.Updates,
            state: Averaged,
            params: optax.Params | None = None,
            *,
            schedule: Float[Array, ""] | float = 1.0,
        ) -> tuple[optax.Updates, Averaged]:
            d, inner = direction.update(updates, state.direction, params, schedule=schedule)
            weights = state.weights + jnp.square(schedule)
            c = jnp.square(schedule) / weights
            pull = c * self.b1 / (1 - self.b1)
            w = state.offset
            a = jax.tree.map(lambda w, d: w - (1 - self.b1) * schedule * d, w, d)
            step = jax.tree.map(lambda w, a: (w - a - pull * a) / schedule, w, a)
            return step, Averaged(inner, jax.tree.map(lambda a: (1 - c) * a, a), weights)

        return optax.GradientTransformationExtraArgs(init, update)

    def evaluated(
        self, params: optax.Params, state: optax.OptState, learning_rate: Float[Array, ""]
    ) -> optax.Params:
        """Return the average x."""
        return average(params, state.offset, learning_rate)


class Averaged(NamedTuple):
    """State of a direction, and of the average."""

    direction: optax.OptState
    offset: optax.Updates
    """w, the distance of the parameters from their average, in learning rates."""
    weights: Float[Array, ""]
    """The sum of the squared factors of the schedule."""
