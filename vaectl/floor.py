"""The floor under every measure: the time that its matrix products alone take.

The products have the shapes of the work that is measured and nothing around them, by the best of
the BLAS at hand in this process: XLA's on the device, and on a CPU NumPy's too.
"""

import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple, final

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from vaectl import config
from vaectl.training import Program


class Product(NamedTuple):
    """A matrix product: [rows, inner] by [inner, columns]."""

    rows: int
    inner: int
    columns: int
    transposed: str = ""
    """`left` or `right`: which of the two is stored the other way round."""

    @property
    def operations(self) -> int:
        """Multiplications and additions."""
        return 2 * self.rows * self.inner * self.columns


def encoding(model: config.Model, pixels: int, batch: int) -> list[Product]:
    """The products of the encoder."""
    hidden, code = model.hidden_size, model.code_size
    return [Product(batch, pixels, hidden), Product(batch, hidden, 2 * code)]


def decoding(model: config.Model, pixels: int, batch: int) -> list[Product]:
    """The products of the decoder."""
    hidden, code = model.hidden_size, model.code_size
    return [Product(batch, code, hidden), Product(batch, hidden, pixels)]


def step(program: Program) -> list[Product]:
    """The products of a training step.

    The gradient of Y = X W takes two more: X^T dY, and dY W^T but for the first layer, whose X is
    data.
    """
    batch = program.batch_size
    up = encoding(program.model, program.pixels, batch)
    down = decoding(program.model, program.pixels, batch * program.samples)
    weights = [Product(p.inner, p.rows, p.columns, "left") for p in (*up, *down)]
    inputs = [Product(p.rows, p.columns, p.inner, "right") for p in (*up[1:], *down)]
    return [*up, *down, *weights, *inputs]


@final
class Floor:
    """Some products, repeated."""

    def __init__(self, products: Sequence[Product], times: int) -> None:
        rng = np.random.default_rng(0)

        def matrix(rows: int, columns: int, stored_across: bool) -> Float[np.ndarray, "m n"]:
            shape = (columns, rows) if stored_across else (rows, columns)
            return rng.standard_normal(shape, np.float32)

        self._times = times
        self._transposed = tuple(p.transposed for p in products)
        self.operands = [
            (
                matrix(p.rows, p.inner, p.transposed == "left"),
                matrix(p.inner, p.columns, p.transposed == "right"),
            )
            for p in products
        ]
        self._device = jax.device_put(self.operands)
        [device] = self._device[0][0].devices()
        self._on_cpu = device.platform == "cpu"
        self.seconds()  # compiles

    def seconds(self) -> float:
        """How long they take now, by the fastest library."""
        return min(self._xla(), self._numpy()) if self._on_cpu else self._xla()

    def _xla(self) -> float:
        start = time.perf_counter()
        repeat(self._transposed, self._device, self._times).block_until_ready()
        return time.perf_counter() - start

    def _numpy(self) -> float:
        start = time.perf_counter()
        for _ in range(self._times):
            for transposed, (left, right) in zip(self._transposed, self.operands, strict=True):
                np.dot(
                    left.T if transposed == "left" else left,
                    right.T if transposed == "right" else right,
                )
        return time.perf_counter() - start


_barrier: Callable[[Any], Any] = jax.lax.optimization_barrier  # JAX does not annotate it


@partial(jax.jit, static_argnames="transposed")
def repeat(
    transposed: tuple[str, ...],
    operands: Sequence[tuple[Float[Array, "m k"], Float[Array, "k n"]]],
    times: int,
) -> Float[Array, ""]:
    """Sum the first entries of all products, over as many repetitions."""

    def once(_: int, total: Float[Array, ""]) -> Float[Array, ""]:
        # barriers: else XLA takes the products out of the loop, or computes only what is asked for
        these, _ = _barrier((operands, total))
        results = [
            (left.T if side == "left" else left) @ (right.T if side == "right" else right)
            for side, (left, right) in zip(transposed, these, strict=True)
        ]
        results = _barrier(results)
        after: Float[Array, ""] = total + sum(result[0, 0] for result in results)
        return after

    total: Float[Array, ""] = jax.lax.fori_loop(0, times, once, jnp.zeros(()))
    return total
