"""Signum, as an example of an optimizer of your own: one file, and no other changes.

    vaectl train --plugin configs/examples/signum.py --optimizer signum
    vaectl compare-optimizers configs/compare/field-digits.yaml \
        --plugin configs/examples/signum.py --add signum

If the comparison exists already, the second command trains only Signum, and adds it to the table.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vaectl.base.section import Decay, Positive
from vaectl.optimizers.base import Optimizer

if TYPE_CHECKING:
    import optax


class Signum(Optimizer, name="signum"):
    """The sign of the running mean of the gradient.

        m <- momentum m + (1 - momentum) g;  direction = sign(m)

    Bernstein et al. 2018, algorithm 2.
    """

    learning_rate: Positive = 3e-4
    """The distance that each parameter moves in a step."""
    momentum: Decay = 0.9
    """Decay of the running mean."""

    def rule(self) -> optax.GradientTransformation:
        """Return Optax's running mean, and the sign of it."""
        import optax

        return optax.chain(optax.ema(self.momentum, debias=False), optax.scale_by_sign())
