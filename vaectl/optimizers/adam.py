"""Adam."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from vaectl.base.section import Decay, NonNegative, Positive
from vaectl.optimizers.base import Optimizer

if TYPE_CHECKING:
    import optax


class Adam(Optimizer, name="adam"):
    """The running mean of the gradient, divided by the root of the running mean of its square.

        m <- b1 m + (1 - b1) g;  v <- b2 v + (1 - b2) g^2
        direction = m' / (sqrt(v' + eps_root) + eps),   m' and v' corrected for starting at zero

    Kingma & Ba 2015, algorithm 1.
    """

    place_in_the_paper = 1
    divisors = ("eps", "eps_root")

    learning_rate: Positive = 1e-3
    b1: Decay = 0.9
    """Decay of the first moment."""
    b2: Decay = 0.999
    """Decay of the second moment."""
    eps: NonNegative = 1e-8
    """A constant that is added to the root of the second moment."""
    eps_root: NonNegative = 0.0
    """A constant that is added to the second moment, under the root."""
    nesterov: bool = False
    """Use NAdam, which looks ahead by one step of momentum."""
    bias_correction: bool = True
    """Correct the moments for starting at zero; the paper's code does not."""

    def rule(self) -> optax.GradientTransformation:
        """Return Optax's transform, or the one without bias correction."""
        import optax

        scale_by_adam = optax.scale_by_adam if self.bias_correction else scale_by_uncorrected_adam
        return scale_by_adam(self.b1, self.b2, self.eps, self.eps_root, nesterov=self.nesterov)


class Moments(NamedTuple):
    """State of `scale_by_uncorrected_adam`: running means of the gradient and of its square."""

    mu: optax.Updates
    nu: optax.Updates


def scale_by_uncorrected_adam(
    b1: float, b2: float, eps: float, eps_root: float = 0.0, *, nesterov: bool = False
) -> optax.GradientTransformation:
    """Return Adam without the correction of moments that start at zero, as in the paper's code.

        m <- b1 m + (1 - b1) g;  v <- b2 v + (1 - b2) g^2
        direction = m / (sqrt(v + eps_root) + eps)

    The first step is (1 - b1) / sqrt(1 - b2) times Adam's: 3.2 times with the usual decays.

    Kingma & Ba 2015, algorithm 1, without bias correction.
    """
    import jax
    import jax.numpy as jnp
    import optax

    def init(params: optax.Params) -> Moments:
        return Moments(mu=optax.tree.zeros_like(params), nu=optax.tree.zeros_like(params))

    def update(
        updates: optax.Updates, state: Moments, params: optax.Params | None = None
    ) -> tuple[optax.Updates, Moments]:
        del params
        mu = optax.tree.update_moment(updates, state.mu, b1, 1)
        nu = optax.tree.update_moment_per_elem_norm(updates, state.nu, b2, 2)
        ahead = optax.tree.update_moment(updates, mu, b1, 1) if nesterov else mu
        direction = jax.tree.map(lambda m, v: m / (jnp.sqrt(v + eps_root) + eps), ahead, nu)
        return direction, Moments(mu, nu)

    return optax.GradientTransformation(init, update)
