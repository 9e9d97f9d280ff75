"""Lion."""

from __future__ import annotations

from vaectl.base.section import Decay, Positive
from vaectl.optimizers.base import Optimizer, Rule


class Lion(Optimizer, name="lion"):
    """The sign of an interpolated momentum.

        direction = sign(b1 m + (1 - b1) g);  m <- b2 m + (1 - b2) g

    Every parameter moves by the learning rate, which should be 3 to 10 times lower than Adam's.

    Chen et al. 2023, algorithm 2.
    """

    learning_rate: Positive = 1e-4
    b1: Decay = 0.9
    """Weight of the momentum in the direction."""
    b2: Decay = 0.99
    """Decay of the momentum."""

    def rule(self) -> Rule:
        """Return Optax's transform."""
        import optax

        return optax.scale_by_lion(self.b1, self.b2)
