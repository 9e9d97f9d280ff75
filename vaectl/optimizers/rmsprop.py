"""RMSProp: the gradient divided by the root of its running mean square."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vaectl.base.section import Decay, NonNegative, Positive
from vaectl.optimizers.base import Optimizer

if TYPE_CHECKING:
    import optax


class RMSProp(Optimizer, name="rmsprop"):
    """Tieleman & Hinton 2012.

    v <- decay v + (1 - decay) g^2;  direction = g / sqrt(v + eps)
    """

    place_in_the_paper = 2

    learning_rate: Positive = 1e-3
    decay: Decay = 0.9
    """Of the running mean of squared gradients."""
    eps: NonNegative = 1e-8
    """Keeps the divisor from zero."""
    eps_in_root: bool = True
    """Whether `eps` is added under the root, or to it."""
    initial_scale: NonNegative = 0.0
    """The running mean starts here."""
    bias_correction: bool = False
    """Correct the running mean for where it started, as Adam does."""
    centered: bool = False
    """Divide by the standard deviation of the gradient instead of its root mean square."""
    momentum: Decay = 0.0
    """On the scaled gradient."""
    nesterov: bool = False
    """Look ahead by one step of momentum."""

    def rule(self) -> optax.GradientTransformation:
        """Return Optax's transforms: the scale, then momentum if there is any."""
        import optax

        scale = optax.scale_by_stddev if self.centered else optax.scale_by_rms
        return optax.chain(
            scale(
                self.decay,
                self.eps,
                self.initial_scale,
                eps_in_sqrt=self.eps_in_root,
                bias_correction=self.bias_correction,
            ),
            optax.trace(self.momentum, nesterov=self.nesterov)
            if self.momentum
            else optax.identity(),
        )
