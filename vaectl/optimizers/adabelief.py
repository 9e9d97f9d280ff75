"""AdaBelief."""

from __future__ import annotations

from vaectl.base.section import Decay, NonNegative, Positive
from vaectl.optimizers.base import Optimizer, Rule


class AdaBelief(Optimizer, name="adabelief"):
    """The running mean of the gradient, divided by how far gradients lie from it.

        m <- b1 m + (1 - b1) g;  s <- b2 s + (1 - b2) (g - m)^2 + eps_root
        direction = m' / (sqrt(s') + eps),   m' and s' corrected for starting at zero

    Adam's learning rates suit it; where gradients agree it makes longer steps than Adam.

    Zhuang et al. 2020, algorithm 2, with the constants of the authors' code, 1e-16.
    """

    divisors = ("eps", "eps_root")

    learning_rate: Positive = 1e-3
    b1: Decay = 0.9
    """Decay of the first moment."""
    b2: Decay = 0.999
    """Decay of the squared distance from it."""
    eps: NonNegative = 1e-16
    """A constant that is added to the root of the squared distance."""
    eps_root: NonNegative = 1e-16
    """A constant that is added to the squared distance in each step."""

    def rule(self) -> Rule:
        """Return Optax's transform."""
        import optax

        return optax.scale_by_belief(self.b1, self.b2, self.eps, self.eps_root)
