"""AdEMAMix."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from vaectl.base.section import Decay, NonNegative, Positive
from vaectl.optimizers.base import Optimizer

if TYPE_CHECKING:
    import optax
    from jaxtyping import Array


class AdEMAMix(Optimizer, name="ademamix"):
    """Adam with a second running mean of the gradient, which forgets much more slowly.

        m <- b1 m + (1 - b1) g;  n <- b3 n + (1 - b3) g;  v <- b2 v + (1 - b2) g^2
        direction = (m' + alpha n) / (sqrt(v') + eps),   m' and v' corrected for starting at zero

    Adam's learning rates suit it. In a run much shorter than 1 / (1 - b3) steps, n stays near zero
    and the rest is Adam.

    Pagliardini et al. 2024, with its warm-ups of alpha and b3.
    """

    learning_rate: Positive = 1e-3
    b1: Decay = 0.9
    """Decay of the fast first moment."""
    b2: Decay = 0.999
    """Decay of the second moment."""
    b3: Annotated[float, Field(gt=0, lt=1)] = 0.9999
    """Decay of the slow first moment."""
    alpha: NonNegative = 5.0
    """Weight of the slow first moment."""
    eps: Positive = 1e-8
    """A constant that is added to the root of the second moment."""
    warmup_steps: Annotated[int, Field(ge=0, le=10**9)] = 0
    """Steps in which alpha rises from 0, and the half-life of the slow moment from the fast one's;
    the paper takes all steps of a run."""

    def rule(self) -> optax.GradientTransformation:
        """Return Optax's transform, with both schedules."""
        import jax.numpy as jnp
        import optax

        def done(count: Array) -> Array:
            return jnp.minimum((count + 1) / self.warmup_steps, 1.0)

        def half_life(decay: Array | float) -> Array:
            return jnp.log(0.5) / jnp.log(decay) - 1

        def alpha(count: Array) -> Array:
            return self.alpha * done(count)

        def b3(count: Array) -> Array:
            fast, slow = half_life(self.b1), half_life(self.b3)
            steps = fast + (slow - fast) * done(count)
            return jnp.exp(jnp.log(0.5) / (steps + 1))

        return optax.contrib.scale_by_ademamix(
            self.b1,
            self.b2,
            b3 if self.warmup_steps else self.b3,
            alpha if self.warmup_steps else self.alpha,
            self.eps,
        )
