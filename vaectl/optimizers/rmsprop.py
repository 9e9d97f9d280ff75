"""RMSProp."""

from __future__ import annotations

from typing import Any

from vaectl.base.section import Decay, NonNegative, Positive, conflict
from vaectl.optimizers.base import Optimizer, Rule


class RMSProp(Optimizer, name="rmsprop"):
    """The gradient divided by the root of the running mean of its square.

        v <- decay v + (1 - decay) g^2;  direction = g / sqrt(v + eps)

    Tieleman & Hinton 2012.
    """

    place_in_the_paper = 2

    learning_rate: Positive = 1e-3
    decay: Decay = 0.9
    """Decay of the running mean of squared gradients."""
    eps: Positive = 1e-8
    """A constant that keeps the divisor from being zero."""
    eps_in_root: bool = True
    """Add `eps` under the root; false: add it to the root."""
    initial_scale: NonNegative = 0.0
    """Initial value of the running mean."""
    bias_correction: bool = False
    """Correct the running mean for starting at zero, as Adam does; not with `centered`. Where
    `initial_scale` is not 0, it starts above zero, and the first steps are short."""
    centered: bool = False
    """Divide by the standard deviation of the gradient instead of its root mean square."""
    momentum: Decay = 0.0
    """Decay of a momentum of the scaled gradient; 0: none."""
    nesterov: bool = False
    """Look ahead by one step of momentum; without `momentum` there is none."""

    def suits(self, experiment: Any) -> None:
        """Refuse a corrected variance, which is zero or less by rounding at the first steps."""
        del experiment
        if self.centered and self.bias_correction:
            raise conflict(
                "optimizer.rmsprop: bias_correction and centered are both true, but the corrected "
                "variance of one gradient is 0, by which nothing can be divided",
                hint="set one of them to false",
            )

    def idle(self) -> dict[str, str]:
        """Name what is for a momentum, where there is none."""
        return {} if self.momentum else {"nesterov": "momentum is 0"}

    def rule(self) -> Rule:
        """Return Optax's transforms: the scale, then momentum if it is not 0."""
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
