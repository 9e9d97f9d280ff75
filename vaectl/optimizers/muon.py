"""Muon."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from vaectl.base.section import Decay, Positive
from vaectl.optimizers.base import Optimizer, Rule


class Muon(Optimizer, name="muon"):
    """The orthogonalized momentum for matrices; NAdam for all other parameters.

        m <- beta m + (1 - beta) g;  direction = 0.2 sqrt(max(rows, columns)) U V^T,
        U S V^T = beta m' + (1 - beta) g', by a few steps of a Newton-Schulz iteration

    g' is g / (1 - beta^t), m' is m / (1 - beta^(t + 1)). NAdam is Adam with its `nesterov`.

    Jordan et al. 2024, with the scale of Liu et al. 2025, so that Adam's learning rates suit it.
    They correct neither g nor m for its bias, and use plain Adam; this is Optax's version.
    """

    learning_rate: Positive = 1e-3
    beta: Decay = 0.95
    """Decay of the momentum of matrices."""
    newton_schulz_steps: Annotated[int, Field(ge=1, le=100)] = 5
    """Steps of the iteration that makes a matrix orthogonal."""
    b1: Decay = 0.9
    """Decay of NAdam's first moment, for parameters that are not matrices."""
    b2: Decay = 0.999
    """Decay of NAdam's second moment, for parameters that are not matrices."""
    eps: Positive = 1e-8
    """A constant that keeps divisors from being zero: norms of matrices, and NAdam's."""

    def rule(self) -> Rule:
        """Return Optax's transform, as a direction to step against."""
        import optax

        muon = optax.contrib.muon(
            1.0,
            ns_steps=self.newton_schulz_steps,
            beta=self.beta,
            eps=self.eps,
            adam_b1=self.b1,
            adam_b2=self.b2,
            consistent_rms=0.2,
        )
        return optax.chain(muon, optax.scale(-1.0))
