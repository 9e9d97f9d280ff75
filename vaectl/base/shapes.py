"""Shapes and types of arrays, and the matrix products in traced programs."""

from collections.abc import Iterator
from typing import Any

import jax
from jax.extend.core import ClosedJaxpr, Jaxpr
from jaxtyping import Array


def shaped(shape: tuple[int, ...], dtype: Any, place: Any = None) -> Any:
    """Return a shape and type that stands in for an array, on a device or sharding."""
    return jax.ShapeDtypeStruct(shape, dtype, sharding=place)  # type: ignore[no-untyped-call]


def like(array: Array, place: Any = None) -> Any:
    """Return the shape and type of an array."""
    return shaped(array.shape, array.dtype, place)


def products(program: Any) -> Iterator[Any]:
    """Yield the matrix products and convolutions of a jaxpr and of the programs inside it.

    Products of vectors, such as weighted sums, are left out. Of programs for several platforms,
    those for the first one count.
    """
    platforms = [e.outvars[0] for e in program.eqns if e.primitive.name == "platform_index"]
    for equation in program.eqns:
        if is_product(equation):
            yield equation
        inner = list(inner_programs(equation))
        for_platforms = any(one is two for one in platforms for two in equation.invars[:1])
        for one in inner[:1] if for_platforms else inner:
            yield from products(one)


def is_product(equation: Any) -> bool:
    """Tell whether an equation is a product of matrices or a convolution."""
    matrices = all(len(operand.aval.shape) > 1 for operand in equation.invars)
    return equation.primitive.name in ("dot_general", "conv_general_dilated") and matrices


def inner_programs(equation: Any) -> Iterator[Any]:
    """Yield the programs that an equation runs: loop bodies, branches, inner functions."""
    for inner in jax.tree.leaves(list(equation.params.values()), is_leaf=is_program):
        if is_program(inner):
            yield getattr(inner, "jaxpr", inner)


def is_program(value: object) -> bool:
    """Tell whether a parameter of an equation is a program."""
    return isinstance(value, ClosedJaxpr | Jaxpr)
