"""ADOPT."""

from __future__ import annotations

from vaectl.base.section import Decay, Positive
from vaectl.optimizers.base import Optimizer, Rule


class ADOPT(Optimizer, name="adopt"):
    """The running mean of gradients that are divided by the root of the second moment before them.

        m <- b1 m + (1 - b1) clip(g / max(sqrt(v), eps), t^(1/4));  direction = m
        v <- b2 v + (1 - b2) g^2

    Step t = 0 only sets v to g^2. Adam's learning rates suit it.

    Taniguchi et al. 2024, with the clipping of its second version on arXiv; v is not corrected, and
    does not start at zero.
    """

    learning_rate: Positive = 1e-3
    b1: Decay = 0.9
    """Decay of the first moment."""
    b2: Decay = 0.9999
    """Decay of the second moment."""
    eps: Positive = 1e-6
    """The least divisor."""
    clip: bool = True
    """Clip the scaled gradients, which the authors added to keep the first steps small."""

    def rule(self) -> Rule:
        """Return Optax's transform."""
        import optax

        return optax.contrib.scale_by_adopt(self.b1, self.b2, self.eps, use_clipping=self.clip)
