"""The floor of a measurement: the time that its matrix products alone take.

The products have the shapes of the measured work. They are computed by XLA on the device and, on a
CPU, by NumPy's BLAS too; the faster one counts.
"""

import math
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple, final

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from vaectl.base import shapes
from vaectl.base.shapes import shaped
from vaectl.training import compiled
from vaectl.training import step as training
from vaectl.training.program import Program


class Product(NamedTuple):
    """A matrix product or a convolution of a traced program."""

    equation: Any
    """The equation in the jaxpr: the primitive, its parameters and the shapes of its inputs."""

    @property
    def shapes(self) -> list[Any]:
        """Shapes and types of the inputs."""
        return [shaped(v.aval.shape, v.aval.dtype) for v in self.equation.invars]

    @property
    def operations(self) -> int:
        """The number of multiplications and additions."""
        left, right = (shape.shape for shape in self.shapes)
        out: int = math.prod(self.equation.outvars[0].aval.shape)
        if self.equation.primitive.name == "dot_general":
            (contracted, _), _ = self.equation.params["dimension_numbers"]
            inner: int = math.prod(left[axis] for axis in contracted)
            return 2 * out * inner
        features = self.equation.params["dimension_numbers"].rhs_spec[0]
        inner = math.prod(right) // right[features]
        return 2 * out * inner

    def __call__(self, left: Any, right: Any) -> Any:
        """Compute the product."""
        return self.equation.primitive.bind(left, right, **self.equation.params)


def products(
    function: Callable[..., Any], *arguments: object, every: bool = False
) -> list[Product]:
    """List the products that a function runs.

    Args:
        function: a function of arrays, which is traced.
        arguments: its arguments; for arrays, shapes are enough.
        every: count a product in a loop as often as it runs; else once.
    """
    traced = jax.make_jaxpr(function)(*arguments).jaxpr
    return [Product(found) for found in shapes.products(traced, every=every)]


def looped(function: Callable[..., Any], *arguments: object) -> list[Product]:
    """List the products that a function runs at each turn of its loops of unknown length."""
    traced = jax.make_jaxpr(function)(*arguments).jaxpr
    loops = [equation for equation in traced.eqns if equation.primitive.name == "while"]
    bodies = [equation.params["body_jaxpr"].jaxpr for equation in loops]
    return [Product(found) for body in bodies for found in shapes.products(body)]


def step(program: Program) -> list[Product]:
    """List the products of a training step, those of each micro-batch among them."""
    member = program.somebody
    pixels = shaped((program.batch_size, program.row), jnp.uint8)
    weights = shaped((program.batch_size,), jnp.float32)
    state = compiled.shapes(program, member)
    return products(partial(training.step, program, member), state, pixels, weights, every=True)


@final
class Floor:
    """Products that are computed repeatedly, to time them."""

    def __init__(self, products: Sequence[Product], times: int) -> None:
        rng = np.random.default_rng(0)
        self._times = times
        self._products = tuple(products)
        self.operands = [
            [rng.standard_normal(s.shape, np.float32).astype(s.dtype) for s in product.shapes]
            for product in products
        ]
        self._device = jax.device_put(self.operands)
        [device] = self._device[0][0].devices()
        # NumPy has no convolutions
        self._in_numpy = device.platform == "cpu" and all(map(_numpy, products))
        self._repeat = jax.jit(partial(repeat, self._products))
        self.seconds()  # compiles

    def seconds(self) -> float:
        """Measure the products with each library, and return the shortest time."""
        return min(self._xla(), self._by_numpy()) if self._in_numpy else self._xla()

    def _xla(self) -> float:
        start = time.perf_counter()
        self._repeat(self._device, self._times).block_until_ready()
        return time.perf_counter() - start

    def _by_numpy(self) -> float:
        work = [(_numpy(p), *pair) for p, pair in zip(self._products, self.operands, strict=True)]
        start = time.perf_counter()
        for _ in range(self._times):
            for axes, left, right in work:
                np.tensordot(left, right, axes)
        return time.perf_counter() - start


def _numpy(product: Product) -> Any:
    """Return the axes that NumPy contracts; None for products that its BLAS does not have.

    These are convolutions, batched products, and those of bfloat16.
    """
    if product.equation.primitive.name != "dot_general":
        return None
    if any(shape.dtype != jnp.float32 for shape in product.shapes):
        return None
    axes, batches = product.equation.params["dimension_numbers"]
    return None if any(batches) else axes


_barrier: Callable[[Any], Any] = jax.lax.optimization_barrier  # JAX does not annotate it


def repeat(
    products: Sequence[Product], operands: Sequence[Sequence[Array]], times: int
) -> Float[Array, ""]:
    """Sum the first entries of all products over `times` repetitions."""

    def once(_: int, total: Float[Array, ""]) -> Float[Array, ""]:
        # without barriers XLA would move products out of the loop, or compute one entry only
        these, _ = _barrier((operands, total))
        results = _barrier([p(*pair) for p, pair in zip(products, these, strict=True)])
        after: Float[Array, ""] = total + sum(result.ravel()[0] for result in results)
        return after

    total: Float[Array, ""] = jax.lax.fori_loop(0, times, once, jnp.zeros(()))
    return total
