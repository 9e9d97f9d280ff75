"""Shampoo."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from vaectl.base.section import Count, Decay, Positive
from vaectl.optimizers._matrices import for_matrices, when
from vaectl.optimizers.base import Optimizer

if TYPE_CHECKING:
    import optax
    from jaxtyping import Array, Float, Int


class Shampoo(Optimizer, name="shampoo"):
    """AdaGrad with a matrix for the rows and one for the columns of each matrix, and momentum.

        L <- L + g g^T;  R <- R + g^T g,   from eps I
        direction <- momentum direction + L^(-1/4) g R^(-1/4)

    The roots are computed in each of the first `every` steps, then every `every` steps. All other
    parameters have the paper's diagonal variant for one axis, which is AdaGrad:
    g / sqrt(eps + sum of g^2). As AdaGrad's, steps shrink with their number, so learning rates are
    higher than Adam's.

    Gupta, Koren & Singer 2018, algorithm 1; a long side has the diagonal of its matrix.
    """

    learning_rate: Positive = 3e-2
    momentum: Decay = 0.9
    """Decay of the momentum of the direction."""
    eps: Positive = 1e-4
    """Initial value of the diagonals."""
    every: Count = 10
    """Steps after which the roots are computed anew."""
    max_side: Count = 1024
    """A side of a matrix that is longer keeps a diagonal instead of a matrix."""

    def rule(self) -> optax.GradientTransformation:
        """Return the transform, then Optax's momentum."""
        import optax

        others = optax.scale_by_rss(self.eps, eps=0.0)
        return optax.chain(
            for_matrices(self._start, self._step, others), optax.trace(self.momentum)
        )

    def _start(self, theta: Float[Array, "m n"]) -> Sides:
        import jax.numpy as jnp

        def side(length: int) -> Side:
            ones = jnp.full(length, self.eps, theta.dtype)
            factor = jnp.diag(ones) if length <= self.max_side else ones
            return Side(factor, jnp.zeros_like(factor))

        m, n = theta.shape
        return Sides(side(m), side(n))

    def _step(
        self, g: Float[Array, "m n"], state: Sides, t: Int[Array, ""]
    ) -> tuple[Float[Array, "m n"], Sides]:
        left, right = self._renew(state.left, g, t), self._renew(state.right, g.T, t)
        return _scaled(right, _scaled(left, g).T).T, Sides(left, right)

    def _renew(self, side: Side, g: Array, t: Int[Array, ""]) -> Side:
        """Add the squares of the rows of a gradient; renew the root if it is time."""
        import jax.numpy as jnp

        long = side.factor.ndim == 1
        factor = side.factor + (jnp.sum(g**2, axis=1) if long else g @ g.T)

        def root() -> Array:
            values, vectors = jnp.linalg.eigh(factor)
            scale = jnp.maximum(values, self.eps) ** -0.25  # none is less, but for rounding
            found: Array = (vectors * scale) @ vectors.T
            return found

        if long:
            return Side(factor, factor**-0.25)
        due = (t < self.every) | (t % self.every == 0)
        return Side(factor, when(due, root, side.root))


class Side(NamedTuple):
    """The factor of a side of a matrix and its root, both diagonals for a long side."""

    factor: Float[Array, "n n"] | Float[Array, " n"]
    root: Float[Array, "n n"] | Float[Array, " n"]


class Sides(NamedTuple):
    """Both sides of a matrix."""

    left: Side
    right: Side


def _scaled(side: Side, g: Array) -> Array:
    return side.root[:, None] * g if side.root.ndim == 1 else side.root @ g
