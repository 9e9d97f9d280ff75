"""Schedule-Free SGD."""

from __future__ import annotations

from vaectl.base.section import Positive
from vaectl.optimizers._schedule_free import ScheduleFree
from vaectl.optimizers.base import Rule


class ScheduleFreeSGD(ScheduleFree, name="schedule_free_sgd"):
    """SGD whose momentum is replaced by an average of the parameters, which is what is evaluated.

        y = (1 - b1) z + b1 x;  z <- z - rate g(y);  x <- (1 - c) x + c z

    c is rate^2 over its sum, so that a warm-up counts less. Training is at y; validation, samples
    and exports take x. It needs no falling schedule, and allows no schedule except a warm-up. The
    learning rate is that of the iterate z; the authors advise 10 to 50 times that of SGD with
    momentum. The default was tried on images of digits; with a warm-up it may be higher.

    Defazio et al. 2024.
    """

    learning_rate: Positive = 2e-2

    def rule(self) -> Rule:
        """Return the gradient itself."""
        import optax

        return optax.identity()
