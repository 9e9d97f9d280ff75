"""AdamW."""

from __future__ import annotations

from vaectl.base.section import Decay, NonNegative, Positive
from vaectl.optimizers.base import Optimizer, Rule


class AdamW(Optimizer, name="adamw"):
    """Adam with decoupled weight decay.

        direction = m' / (sqrt(v') + eps) + decay * theta

    The same as `adam` with `optimizer.weight_decay`, but with AdamW's usual default.

    Loshchilov & Hutter 2019, algorithm 2.
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
        """Return Optax's Adam, then the decay."""
        import optax

        return optax.chain(
            optax.scale_by_adam(self.b1, self.b2, self.eps), optax.add_decayed_weights(self.decay)
        )
