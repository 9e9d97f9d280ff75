"""DoG."""

from __future__ import annotations

from vaectl.base.section import NonNegative, Positive
from vaectl.optimizers.base import Optimizer, Rule


class DoG(Optimizer, name="dog"):
    """The gradient, scaled by the distance from the start over the root of all squared gradients.

        r <- max(r, |theta - theta_0|);  s <- s + |g|^2;  direction = g r / sqrt(s + eps)

    Norms are over all parameters. The learning rate is a factor of the step that is estimated: 1
    takes it as it is, and a schedule scales it. The first r is `initial` (1 + |theta_0|). Weight
    decay is added to the gradient.

    Ivgi, Hinder & Carmon 2023; the authors average the parameters, which is left out.
    """

    learning_rate: Positive = 1.0
    initial: Positive = 1e-6
    """The first distance, relative to the norm of the parameters; it must be small."""
    eps: NonNegative = 1e-8
    """A constant that is added to the sum of squared gradients, under the root."""

    def rule(self) -> Rule:
        """Return Optax's transform, as a direction to step against."""
        import optax

        dog = optax.contrib.dog(1.0, ("heuristic", self.initial), self.eps)
        return optax.chain(dog, optax.scale(-1.0))

    @property
    def decays_before_the_rule(self) -> bool:
        """True: a decay of the direction would not be scaled by the estimated step."""
        return True
