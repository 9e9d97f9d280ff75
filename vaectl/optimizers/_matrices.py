"""One rule for matrices, another for all other parameters."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

if TYPE_CHECKING:
    import optax
    from jaxtyping import Array, Bool, Float, Int

State = TypeVar("State")
Tree = TypeVar("Tree")


class Matrices(NamedTuple):
    """The number of steps, and a state for each matrix."""

    steps: Int[Array, ""]
    each: Any


def for_matrices(
    start: Callable[[Float[Array, "rows columns"]], State],
    step: Callable[
        [Float[Array, "rows columns"], State, Int[Array, ""]],
        tuple[Float[Array, "rows columns"], State],
    ],
    others: optax.GradientTransformation,
) -> optax.GradientTransformation:
    """Return a transform of matrices one by one, and of all other parameters by another transform.

    An array of more than two axes counts as a matrix too: the last axis stays, the others are
    joined. So the kernel of a convolution has one row for each input of an output.

    Args:
        start: returns a matrix's state.
        step: returns a direction and the next state, of a gradient, the state, and the number of
            steps before it.
        others: the transform of parameters of fewer than two axes.
    """
    import jax
    import jax.numpy as jnp
    import optax

    def matrix(leaf: Array) -> Array:
        return leaf.reshape(-1, leaf.shape[-1])

    def init(params: optax.Params) -> Matrices:
        each = jax.tree.map(lambda leaf: start(matrix(leaf)), params)
        return Matrices(jnp.zeros((), jnp.int32), each)

    def update(
        updates: optax.Updates, state: Matrices, params: optax.Params | None = None
    ) -> tuple[optax.Updates, Matrices]:
        del params
        done = jax.tree.map(
            lambda leaf, of_leaf: step(matrix(leaf), of_leaf, state.steps), updates, state.each
        )
        directions = jax.tree.map(lambda leaf, pair: pair[0].reshape(leaf.shape), updates, done)
        each = jax.tree.map(lambda _, pair: pair[1], updates, done)
        return directions, Matrices(state.steps + 1, each)

    return optax.partition(
        {"matrix": optax.GradientTransformation(init, update), "other": others},
        lambda params: jax.tree.map(lambda leaf: "matrix" if leaf.ndim > 1 else "other", params),
    )


def when(due: Bool[Array, ""], compute: Callable[[], Tree], kept: Tree) -> Tree:
    """Return what `compute` returns if it is due, else `kept`, without computing it.

    Under `vmap`, a `lax.cond` with a condition for each member always computes both branches. This
    function computes only if any member is due; members step together.
    """
    import jax
    import jax.numpy as jnp

    @jax.custom_batching.custom_vmap
    def of_any(due: Bool[Array, ""]) -> Bool[Array, ""]:
        return due

    @of_any.def_vmap
    def _(_size: int, _batched: list[bool], due: Bool[Array, " members"]) -> tuple[Array, bool]:
        return jnp.any(due), False

    def computed() -> Tree:
        new: Tree = jax.tree.map(lambda new, old: jnp.where(due, new, old), compute(), kept)
        return new

    found: Tree = jax.lax.cond(of_any(due), computed, lambda: kept)
    return found
