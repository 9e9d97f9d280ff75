"""AdaGrad."""

from __future__ import annotations

from vaectl.base.section import NonNegative, Positive
from vaectl.optimizers.base import Optimizer, Rule


class AdaGrad(Optimizer, name="adagrad"):
    """The gradient divided by the root of the sum of its squares.

        s <- s + g^2;  direction = g / sqrt(s + eps)

    Duchi, Hazan & Singer 2011.
    """

    place_in_the_paper = 3

    learning_rate: Positive = 1e-2
    initial_accumulator: NonNegative = 0.1
    """Initial value of the sum of squared gradients."""
    eps: NonNegative = 1e-7
    """A constant that is added to the sum, under the root."""

    def rule(self) -> Rule:
        """Return Optax's transform."""
        import optax

        return optax.scale_by_rss(self.initial_accumulator, self.eps)
