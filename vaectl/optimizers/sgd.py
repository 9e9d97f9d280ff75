"""SGD with momentum."""

from __future__ import annotations

from vaectl.base.section import Decay, Positive
from vaectl.optimizers.base import Optimizer, Rule


class SGD(Optimizer, name="sgd"):
    """Stochastic gradient descent with momentum.

        m <- g + momentum m;  direction = m

    Polyak 1964; with Nesterov's look-ahead as Sutskever et al. 2013 write it.
    """

    place_in_the_paper = 4

    learning_rate: Positive = 5e-4
    momentum: Decay = 0.9
    nesterov: bool = False
    """Look ahead by one step of momentum."""
    decay_in_momentum: bool = False
    """Add weight decay to the gradient, so that it enters the momentum, as in the paper's code."""
    reset_each_epoch: bool = False
    """Set the momentum to zero at the start of each epoch, as in the paper's code."""

    def idle(self) -> dict[str, str]:
        """Name what is for a momentum, where there is none."""
        keys = ("nesterov", "decay_in_momentum", "reset_each_epoch")
        return {} if self.momentum else dict.fromkeys(keys, "momentum is 0")

    def rule(self) -> Rule:
        """Return Optax's momentum."""
        import optax

        return optax.trace(self.momentum, nesterov=self.nesterov)

    @property
    def decays_before_the_rule(self) -> bool:
        """The setting `decay_in_momentum`."""
        return self.decay_in_momentum

    @property
    def resets_each_epoch(self) -> bool:
        """The setting `reset_each_epoch`."""
        return self.reset_each_epoch
