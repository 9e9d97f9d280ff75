"""Prodigy."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from vaectl.base.section import Decay, NonNegative, Positive
from vaectl.optimizers.base import Optimizer, Rule


class Prodigy(Optimizer, name="prodigy"):
    """Adam that estimates its learning rate from the distance that the parameters have moved.

        m <- b1 m + (1 - b1) d g;  v <- b2 v + (1 - b2) d^2 g^2;  c = sqrt(1 - b2^t) / (1 - b1^t)
        r <- b3 r + c d^2 <g, theta_0 - theta>;  s <- b3 s + c d^2 g;  b3 = sqrt(b2)
        d <- max(d, growth r / |s|_1);  direction = c d (m / (sqrt(v) + eps d) + decay theta)

    The learning rate is a factor of the estimate d: 1 takes it as it is. A schedule scales the
    steps; it does not enter the weights of r and s. A falling schedule is recommended.

    Mishchenko & Defazio 2024, algorithm 4, with the bias correction c of the authors' code. The d
    outside the brackets is the one before the step; in the paper, the one inside is too.
    """

    learning_rate: Positive = 1.0
    b1: Decay = 0.9
    """Decay of the first moment."""
    b2: Annotated[float, Field(gt=0, lt=1)] = 0.999
    """Decay of the second moment; its root is that of the estimate's sums."""
    eps: Positive = 1e-8
    """A constant that is added to the root of the second moment."""
    initial: Positive = 1e-6
    """The first estimate, which must be too small."""
    growth: Positive = 1.0
    """Factor of the estimate where it grows."""
    decay: NonNegative = 0.0
    """Weight decay, times the estimate; `optimizer.weight_decay` is not, which is much stronger."""

    def rule(self) -> Rule:
        """Return Optax's transform, as a direction to step against."""
        import optax

        prodigy = optax.contrib.prodigy(
            1.0,
            (self.b1, self.b2),
            eps=self.eps,
            estim_lr0=self.initial,
            estim_lr_coef=self.growth,
            weight_decay=self.decay,
        )
        return optax.chain(prodigy, optax.scale(-1.0))
