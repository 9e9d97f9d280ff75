"""Schedule-Free AdamW."""

from __future__ import annotations

from vaectl.base.section import Decay, NonNegative, Positive
from vaectl.optimizers._schedule_free import ScheduleFree
from vaectl.optimizers.base import Rule


class ScheduleFreeAdamW(ScheduleFree, name="schedule_free_adamw"):
    """AdamW whose momentum is replaced by an average of the parameters, which is what is evaluated.

        y = (1 - b1) z + b1 x;  v <- b2 v + (1 - b2) g(y)^2
        z <- z - rate (g / (sqrt(v') + eps) + decay y);  x <- (1 - c) x + c z

    v' is corrected for starting at zero; c is rate^2 over its sum, so that a warm-up counts less.
    Training is at y; validation, samples and exports take x. It needs no falling schedule, and
    allows no schedule except a warm-up. The learning rate is that of the iterate z; the authors
    advise 1 to 10 times Adam's, and the default is that of their code.

    Defazio et al. 2024, with the corrected v of the authors' code since its version 1.3.
    """

    learning_rate: Positive = 2.5e-3
    b2: Decay = 0.999
    """Decay of the second moment."""
    eps: Positive = 1e-8
    """A constant that is added to the root of the second moment."""
    decay: NonNegative = 0.0
    """Weight decay of all parameters, computed at y."""

    def rule(self) -> Rule:
        """Return Optax's Adam without its first moment, then the decay."""
        import optax

        return optax.chain(
            optax.scale_by_rms(self.b2, self.eps, eps_in_sqrt=False, bias_correction=True),
            optax.add_decayed_weights(self.decay),
        )
