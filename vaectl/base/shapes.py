"""Shapes and types of arrays, and the matrix products in traced programs."""

from collections.abc import Iterator, Sequence
from typing import Any

import jax
from jax.extend.core import ClosedJaxpr, Jaxpr, Literal
from jax.interpreters.partial_eval import dce_jaxpr
from jaxtyping import Array


def shaped(shape: tuple[int, ...], dtype: Any, place: Any = None) -> Any:
    """Return a shape and type that stands in for an array, on a device or sharding."""
    return jax.ShapeDtypeStruct(shape, dtype, sharding=place)  # type: ignore[no-untyped-call]


def like(array: Array, place: Any = None) -> Any:
    """Return the shape and type of an array."""
    return shaped(array.shape, array.dtype, place)


def products(program: Any, *, every: bool = False) -> list[Any]:
    """List the matrix products and convolutions that a jaxpr and the programs inside it run.

    Those without a use are left out, and the same product of the same arrays is there once, as in
    the compiled program. Products of vectors, such as weighted sums, are left out too. Where a
    program differs between platforms, those of the default device count, each as often as it runs.

    Args:
        program: a jaxpr.
        every: count a product in a loop as often as it runs, if that is known; else once.
    """
    needed, _ = dce_jaxpr(program, [True] * len(program.outvars))
    found: list[Any] = []
    _collect(needed, _unknown(needed.invars), {}, found, every=every)
    return found


def _unknown(variables: Sequence[Any]) -> list[object]:
    return [object() for _ in variables]


def _collect(
    program: Any,
    operands: Sequence[object],
    known: dict[object, Sequence[object]],
    found: list[Any],
    *,
    every: bool,
) -> Sequence[object]:
    """Add the products of a program to those found.

    Args:
        program: a jaxpr.
        operands: an object for each input; the same object stands for the same array.
        known: the objects of all results so far, by what they were computed of.
        found: the products so far.
        every: as in `products`.

    Returns:
        An object for each result.
    """
    values = dict(zip(program.invars, operands, strict=True))

    def read(variable: Any) -> object:
        is_literal = isinstance(variable, Literal)
        return str(variable) if is_literal else values.setdefault(variable, object())

    for equation in program.eqns:
        name, inputs = equation.primitive.name, [read(each) for each in equation.invars]
        inner = list(inner_programs(equation))
        platforms = equation.params.get("branches_platforms")
        if platforms:  # the first input is the number of the branch
            inner, inputs = [inner[_of_device(platforms)]], inputs[1:]
        # what `jax.checkpoint` computes again stands apart
        is_call = len(inner) == 1 and name != "scan" and not equation.params.get("differentiated")
        results: Sequence[object] = _unknown(equation.outvars)
        if name == "stop_gradient":
            results = inputs
        elif is_call and len(inner[0].invars) == len(inputs):
            results = _collect(inner[0], inputs, known, found, every=every or bool(platforms))
        elif inner:
            times = equation.params["length"] if every and name == "scan" else 1
            for one in inner * times:
                _collect(one, _unknown(one.invars), {}, found, every=every)
        else:
            key = name, str(equation.params), *inputs
            if is_product(equation) and key not in known:
                found.append(equation)
            results = known.setdefault(key, results)
        values |= zip(equation.outvars, results, strict=True)
    return [read(variable) for variable in program.outvars]


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
