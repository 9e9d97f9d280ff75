"""SOAP."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from vaectl.base.section import Count, Decay, Positive
from vaectl.optimizers._matrices import for_matrices, when
from vaectl.optimizers.base import Optimizer

if TYPE_CHECKING:
    import optax
    from jaxtyping import Array, Float, Int


class SOAP(Optimizer, name="soap"):
    """Adam in the eigenbasis of Shampoo's factors for matrices; Adam for all other parameters.

        m <- b1 m + (1 - b1) g;  v <- b2 v + (1 - b2) (P^T g Q)^2
        direction = P [P^T m' Q / (sqrt(v') + eps)] Q^T,   m' and v' corrected as Adam's
        L <- b2 L + (1 - b2) g g^T;  R <- b2 R + (1 - b2) g^T g

    P and Q are the eigenvectors of L and R, those of the largest eigenvalues first. Every `every`
    steps they and v are put in the order of P^T L P, and one step of a power iteration renews them:
    P <- QR(L P). Out of order, that step would give the first ones other directions, whose v would
    be too small. Step 0 sets the first ones, and no matrix moves. Entries of the
    direction are as large as Adam's, but in the eigenbasis; where few directions carry the
    gradient, it needs a larger learning rate. The default was tried on images of digits; the
    paper's, for language models, is 3e-3.

    Vyas et al. 2024, algorithms 3 and 4; the order and the first step are those of the authors'
    code.
    """

    learning_rate: Positive = 1e-2
    b1: Decay = 0.95
    """Decay of the first moment."""
    b2: Decay = 0.95
    """Decay of the second moment, and of the factors."""
    eps: Positive = 1e-8
    """A constant that is added to the root of the second moment."""
    every: Count = 10
    """Steps after which the eigenvectors are renewed."""
    max_side: Count = 1024
    """A side of a matrix that is longer keeps the identity as its eigenvectors."""

    def rule(self) -> optax.GradientTransformation:
        """Return the transform."""
        import optax

        others = optax.scale_by_adam(self.b1, self.b2, self.eps)
        return for_matrices(self._start, self._step, others)

    def _start(self, theta: Float[Array, "m n"]) -> Rotated:
        import jax.numpy as jnp

        def side(length: int) -> Side | None:
            square = jnp.zeros((length, length), theta.dtype)
            return Side(square, jnp.eye(length, dtype=theta.dtype)) if self._fits(length) else None

        m, n = theta.shape
        return Rotated(jnp.zeros_like(theta), jnp.zeros_like(theta), side(m), side(n))

    def _step(
        self, g: Float[Array, "m n"], state: Rotated, t: Int[Array, ""]
    ) -> tuple[Float[Array, "m n"], Rotated]:
        import jax.numpy as jnp

        left, right = state.left, state.right
        moves = t > 0
        count = jnp.maximum(t, 1)
        mu = jnp.where(moves, self.b1 * state.mu + (1 - self.b1) * g, state.mu)
        square = _rotate(g, left, right) ** 2
        nu = jnp.where(moves, self.b2 * state.nu + (1 - self.b2) * square, state.nu)
        first, second = mu / (1 - self.b1**count), nu / (1 - self.b2**count)
        scaled = _rotate(first, left, right) / (jnp.sqrt(second) + self.eps)
        direction = jnp.where(moves, _rotate_back(scaled, left, right), 0)
        left, rows = self._renew(left, g @ g.T, t)
        right, columns = self._renew(right, g.T @ g, t)
        nu = nu if rows is None else nu[rows]
        nu = nu if columns is None else nu[:, columns]
        return direction, Rotated(mu, nu, left, right)

    def _renew(
        self, side: Side | None, square: Array, t: Int[Array, ""]
    ) -> tuple[Side | None, Int[Array, " n"] | None]:
        """Add the squares of a gradient; renew the eigenvectors, and return their new order."""
        import jax.numpy as jnp

        if side is None:
            return None, None
        factor, basis = self.b2 * side.factor + (1 - self.b2) * square, side.basis
        kept, later = jnp.arange(len(basis)), (t > 0) & (t % self.every == 0)
        basis = when(t == 0, lambda: jnp.linalg.eigh(factor)[1][:, ::-1], basis)
        basis, order = when(later, lambda: _next(factor, basis), (basis, kept))
        return Side(factor, basis), order

    def _fits(self, length: int) -> bool:
        return length <= self.max_side


class Side(NamedTuple):
    """A factor of a side of a matrix, and its eigenvectors."""

    factor: Float[Array, "n n"]
    basis: Float[Array, "n n"]


class Rotated(NamedTuple):
    """Adam's moments, the second in the eigenbasis, and both sides; None for a long one."""

    mu: Float[Array, "m n"]
    nu: Float[Array, "m n"]
    left: Side | None
    right: Side | None


def _next(
    factor: Float[Array, "n n"], basis: Float[Array, "n n"]
) -> tuple[Float[Array, "n n"], Int[Array, " n"]]:
    """Return the eigenvectors after a step of a power iteration, and the order they are put in."""
    import jax.numpy as jnp

    order = jnp.argsort(-jnp.sum(basis * (factor @ basis), axis=0))
    return jnp.linalg.qr(factor @ basis[:, order])[0], order


def _rotate(g: Array, left: Side | None, right: Side | None) -> Array:
    g = g if left is None else left.basis.T @ g
    return g if right is None else g @ right.basis


def _rotate_back(g: Array, left: Side | None, right: Side | None) -> Array:
    g = g if left is None else left.basis @ g
    return g if right is None else g @ right.basis.T
