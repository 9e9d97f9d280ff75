"""LAMB."""

from __future__ import annotations

from vaectl.base.section import Decay, NonNegative, Positive
from vaectl.optimizers.base import Optimizer, Rule


class LAMB(Optimizer, name="lamb"):
    """Adam's direction, scaled to the norm of the parameters of each layer.

        r = m' / (sqrt(v') + eps) + decay * theta;  direction = r |theta| / |r|

    The learning rate is the step of a layer relative to its norm. A layer whose parameters are all
    zero, as biases are at first, steps by r.

    You et al. 2020, algorithm 2, with |theta| not clipped.
    """

    learning_rate: Positive = 1e-2
    b1: Decay = 0.9
    """Decay of the first moment."""
    b2: Decay = 0.999
    """Decay of the second moment."""
    eps: Positive = 1e-6
    """A constant that is added to the root of the second moment."""
    decay: NonNegative = 1e-2
    """Weight decay before scaling; `optimizer.weight_decay` comes after it."""

    def rule(self) -> Rule:
        """Return Optax's Adam, the decay, and the scale of each layer."""
        import optax

        return optax.chain(
            optax.scale_by_adam(self.b1, self.b2, self.eps),
            optax.add_decayed_weights(self.decay),
            optax.scale_by_trust_ratio(),
        )
