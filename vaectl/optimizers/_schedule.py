"""Schedules of the learning rate."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import count, takewhile
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
        tripling   10^(-i/7) in stage i = 0, 1, ..., which has 3^i epochs

    The cosine is that of Loshchilov & Hutter 2017, eq. 5, without restarts; the stages are those of
    Burda et al. 2016, section 5.
    """

    name: Literal["constant", "cosine", "tripling"] = "constant"
    """After the warm-up, stay at 1 (`constant`), fall to `final` along half a cosine, or fall by
    stages, each three times as long as the one before (`tripling`)."""
    warmup_epochs: NonNegative = 0.0
    """Epochs over which the learning rate rises linearly from zero; 0: no warm-up."""
    final: float = Field(0.0, ge=0, le=1)
    """The last factor of `cosine`; the others have none."""

    def idle(self) -> dict[str, str]:
        """Name what is for a cosine, where there is none."""
        return {} if self.name == "cosine" else {"final": f"name {self.name} does not fall to it"}

    @property
    def needs_the_end(self) -> bool:
        """True if the factor of a step depends on how many there are in all."""
        return self.name == "cosine"

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
        after: optax.Schedule = optax.constant_schedule(1.0)
        if self.name == "cosine":
            after = optax.cosine_decay_schedule(1.0, max(steps - warmup, 1), self.final)
        elif self.name == "tripling":
            begins = takewhile(lambda step: step < steps, _stages(steps_per_epoch))
            after = optax.piecewise_constant_schedule(1.0, dict.fromkeys(begins, 10 ** (-1 / 7)))

        def scale(step: Int[Array, ""]) -> Float[Array, ""]:
            rise = (step.astype(jnp.float32) + 1.0) / max(warmup, 1)
            return jnp.where(step < warmup, rise, jnp.asarray(after(step - warmup), jnp.float32))

        return scale


def _stages(steps_per_epoch: int) -> Iterator[int]:
    """Yield the first step of each stage but the first: after 1, 1 + 3, 1 + 3 + 9, ... epochs."""
    return (steps_per_epoch * (3**i - 1) // 2 for i in count(1))
