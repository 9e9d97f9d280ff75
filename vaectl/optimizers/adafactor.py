"""Adafactor."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from vaectl.base.section import Count, Positive
from vaectl.optimizers.base import Optimizer, Rule


class Adafactor(Optimizer, name="adafactor"):
    """The gradient over the root of its mean square; a matrix keeps means of rows and columns.

        b = 1 - t^-decay_exponent;  r <- b r + (1 - b) mean of g^2 over columns;  c likewise
        u = g / sqrt(r c / mean(r));  direction = u max(1e-3, rms(theta)) / max(1, rms(u) / clip)

    The learning rate is the step relative to the root mean square of a layer's parameters; with
    `relative: false` it is absolute. The paper's rate is min(1e-2, 1 / sqrt(t)).

    Shazeer & Stern 2018, algorithms 4 and 5.
    """

    learning_rate: Positive = 1e-2
    decay_exponent: Annotated[float, Field(gt=0, le=1)] = 0.8
    """The exponent by which the running mean of squares forgets more slowly as the steps go on."""
    clip: Positive = 1.0
    """The largest root mean square of a layer's direction before it is made relative."""
    relative: bool = True
    """Scale each layer's direction by the root mean square of its parameters, at least 1e-3."""
    eps: Annotated[float, Field(gt=0, le=1)] = 1e-30
    """A constant that is added to squared gradients."""
    factor_from: Count = 2
    """Factor matrices whose sides are both at least this long."""

    def rule(self) -> Rule:
        """Return Optax's transforms: the factored scale, clipping, and the relative step."""
        import optax

        return optax.chain(
            optax.scale_by_factored_rms(
                decay_rate=self.decay_exponent,
                min_dim_size_to_factor=self.factor_from,
                epsilon=self.eps,
            ),
            optax.clip_by_block_rms(self.clip),
            optax.scale_by_param_block_rms() if self.relative else optax.identity(),
        )
