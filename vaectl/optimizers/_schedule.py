"""Schedules of the learning rate."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from vaectl.base.section import NonNegative, Section

if TYPE_CHECKING:
    from jaxtyping import Array, Float, Int


class Schedule(Section):
    """The factor of the learning rate at step t, with w warm-up steps of T in all.

        warm-up    (t + 1) / w                                         t < w
        constant   1                                                   t >= w
        cosine     final + (1 - final) (1 + cos(pi (t - w) / (T - w))) / 2

    The cosine is that of Loshchilov & Hutter 2017, eq. 5, without restarts.
    """

    name: Literal["constant", "cosine"] = "constant"
    """After the warm-up, stay at 1 (`constant`) or fall to `final` along half a cosine."""
    warmup_epochs: NonNegative = 0.0
    """Epochs over which the learning rate rises linearly from zero; 0: no warm-up."""
    final: float = Field(0.0, ge=0, le=1)
    """The last factor of `cosine`."""

    def scale(
        self, *, steps_per_epoch: int, steps: int
    ) -> Callable[[Int[Array, ""]], Float[Array, ""]]:
        """Return the factor as a function of the step t.

        Args:
            steps_per_epoch: converts epochs into steps.
            steps: T, the steps of the whole run.
        """
        import jax.numpy as jnp
        import optax

        warmup = round(self.warmup_epochs * steps_per_epoch)
        after: optax.Schedule = (
            optax.cosine_decay_schedule(1.0, max(steps - warmup, 1), self.final)
            if self.name == "cosine"
            else optax.constant_schedule(1.0)
        )

        def scale(step: Int[Array, ""]) -> Float[Array, ""]:
            rise = (step.astype(jnp.float32) + 1.0) / max(warmup, 1)
            return jnp.where(step < warmup, rise, jnp.asarray(after(step - warmup), jnp.float32))

        return scale
