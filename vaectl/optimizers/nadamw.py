"""NAdamW."""

from __future__ import annotations

from vaectl.base.section import Decay, NonNegative, Positive
from vaectl.optimizers.base import Optimizer, Rule


class NAdamW(Optimizer, name="nadamw"):
    """Adam that looks ahead by one step of momentum, with decoupled weight decay.

        direction = (b1 m' + (1 - b1) g') / (sqrt(v') + eps) + decay * theta

    g' is g / (1 - b1^t), m' is m / (1 - b1^(t + 1)). Adam's learning rates suit it.

    Dozat 2016, algorithm 2, without its factor b2 of v'; Loshchilov & Hutter 2019, algorithm 2.
    """

    learning_rate: Positive = 1e-3
    b1: Decay = 0.9
    """Decay of the first moment."""
    b2: Decay = 0.999
    """Decay of the second moment."""
    eps: Positive = 1e-8
    """A constant that is added to the root of the second moment."""
    decay: NonNegative = 1e-2
    """Weight decay of all parameters."""

    def rule(self) -> Rule:
        """Return Optax's Adam with Nesterov's momentum, then the decay."""
        import optax

        return optax.chain(
            optax.scale_by_adam(self.b1, self.b2, self.eps, nesterov=True),
            optax.add_decayed_weights(self.decay),
        )
