"""Shapes and types of arrays, and the matrix products in traced programs."""

from collections.abc import Iterator, Sequence
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


def products(program: Any, *, every: bool = False) -> Iterator[Any]:
    """Yield the matrix products and convolutions of a jaxpr and of the programs inside it.

    Products of vectors, such as weighted sums, are left out. Where a program differs between
    platforms, those of the default device count, each as often as it runs.

    Args:
        program: a jaxpr.
        every: count a product in a loop as often as it runs, if that is known; else once.
    """
    for equation in program.eqns:
        if is_product(equation):
            yield equation
        inner = list(inner_programs(equation))
        platforms = equation.params.get("branches_platforms")
        if platforms:
            inner = [inner[_of_device(platforms)]]
        known = every and equation.primitive.name == "scan"
        for one in inner * (equation.params["length"] if known else 1):
            yield from products(one, every=every or bool(platforms))


def _of_device(platforms: Sequence[Sequence[str] | None]) -> int:
    """Return the number of the branch for the default device."""
    device = jax.config.jax_default_device or jax.devices()[0]  # type: ignore[attr-defined]
    return next(n for n, names in enumerate(platforms) if names is None or device.platform in names)


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
