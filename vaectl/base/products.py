"""Matrix products and convolutions of a program, in the forms that have fast kernels."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.experimental.layout import Layout, with_layout_constraint
from jax.extend.core import ClosedJaxpr, Jaxpr, Literal
from jaxtyping import Array

from vaectl.base.shapes import is_product, is_program, like

T = TypeVar("T")


def in_fast_forms(function: Callable[..., T], *, bfloat16: bool) -> Callable[..., T]:
    """Return the same function with its matrix products and convolutions in fast forms.

    On a CPU the gradient of a convolution's kernel is one product of matrices for each pixel of the
    kernel: XLA's convolution takes up to 180 times as long inside a loop. All other operations keep
    their bits, unless `bfloat16` asks for rounded operands.

    Args:
        function: a function of arrays, such as a gradient, whose backward pass is changed too. It
            may be called inside `shard_map`, but not call it.
        bfloat16: round the float32 operands of products, which are summed in float32. For matrices
            a and b each element is then off by at most (2u + u^2) |a| |b|, with u = 2^-8, beside
            float32's own errors. Products for which a precision was asked stay as they are.
    """

    def changed(*arguments: Any) -> T:
        program, out = jax.make_jaxpr(function, return_shape=True)(*arguments)
        found = _evaluate(program, bfloat16, *jax.tree.leaves(arguments))
        result: T = jax.tree.unflatten(jax.tree.structure(out), found)
        return result

    return changed


def _evaluate(program: ClosedJaxpr, bfloat16: bool, *arguments: Any) -> list[Any]:
    """Evaluate a program with its products in fast forms."""
    values = dict(zip(program.jaxpr.constvars, program.consts, strict=True))
    values |= zip(program.jaxpr.invars, arguments, strict=True)

    def read(variable: Any) -> Any:
        return variable.val if isinstance(variable, Literal) else values[variable]

    for equation in program.jaxpr.eqns:
        operands = [read(variable) for variable in equation.invars]
        values |= zip(equation.outvars, _compute(equation, operands, bfloat16), strict=True)
    return [read(variable) for variable in program.jaxpr.outvars]


def _compute(equation: Any, operands: list[Any], bfloat16: bool) -> Sequence[Any]:
    if is_product(equation):
        left, right = operands
        params = dict(equation.params)
        floats = left.dtype == right.dtype == jnp.float32
        if bfloat16 and floats and params["precision"] is None:
            left, right = left.astype(jnp.bfloat16), right.astype(jnp.bfloat16)
            params["preferred_element_type"] = jnp.dtype(jnp.float32)
        if equation.primitive is lax.dot_general_p:
            return [_matrices(left, right, params)]
        return [_convolution(left, right, params, equation.outvars[0].aval.shape)]
    changed = partial(_changed, bfloat16=bfloat16)
    params = {
        name: jax.tree.map(changed, value, is_leaf=is_program)
        for name, value in equation.params.items()
    }
    bound = equation.primitive.get_bind_params(params)
    results = equation.primitive.bind(*operands, **bound)
    found: Sequence[Any] = results if equation.primitive.multiple_results else [results]
    return found


def _changed(value: Any, bfloat16: bool) -> Any:
    """Return a loop's body, a branch or an inner function with its products in fast forms."""
    if not is_program(value):
        return value
    closed = value if isinstance(value, ClosedJaxpr) else ClosedJaxpr(value, ())
    evaluate = partial(_evaluate, closed, bfloat16)
    changed = jax.make_jaxpr(evaluate)(*map(like, closed.in_avals))
    return changed.jaxpr if isinstance(value, Jaxpr) else changed


def _matrices(left: Array, right: Array, params: dict[str, Any]) -> Array:
    """Multiply matrices; those of bfloat16 in the form that XLA's kernel for CPUs takes.

    The kernel (YNNPACK, `__ynn_fusion` in the optimized program) contracts the last axis of a left
    operand that is stored so. The gradient of a weight contracts the first axes, those of images:
    JAX computes g^T x and transposes it. Here x^T is stored, and the same numbers are (x^T g)^T,
    whose two transpositions cancel.
    """
    (axes, others), batches = params["dimension_numbers"]
    multiply: Callable[..., Array] = partial(lax.dot_general_p.bind, **params)
    if left.dtype != jnp.bfloat16:
        return multiply(left, right)
    if any(batches) or not axes == others == tuple(range(len(axes))):
        return multiply(_stored(left), right)
    size = math.prod(left.shape[: len(axes)])
    turned = _stored(right.reshape(size, -1).T)
    two_axes = ((1,), (0,)), batches
    product = _stored(multiply(turned, left.reshape(size, -1), dimension_numbers=two_axes))
    return product.T.reshape(*left.shape[len(axes) :], *right.shape[len(axes) :])


def _stored(array: Array) -> Array:
    """Store an array in the order of its axes on a CPU; XLA would read its source transposed."""
    rows = partial(with_layout_constraint, layouts=Layout(tuple(range(array.ndim))))
    stored: Array = lax.platform_dependent(array, cpu=rows, default=lambda array: array)
    return stored


def _convolution(
    left: Array, right: Array, params: dict[str, Any], shape: tuple[int, ...]
) -> Array:
    """Convolve; on a CPU the gradient of a kernel is written as products of matrices.

    That gradient contracts the images, the first axis of the layer's input on the left and of the
    gradient of its output on the right, and has a place for each pixel of the kernel.
    """
    numbers = params["dimension_numbers"]
    convolve = partial(lax.conv_general_dilated_p.bind, **params)
    contracts_images = numbers.lhs_spec[1] == numbers.rhs_spec[1] == 0
    ungrouped = params["feature_group_count"] == params["batch_group_count"] == 1
    if not (contracts_images and ungrouped and math.prod(shape) and left.size and right.size):
        plain: Array = convolve(left, right)
        return plain
    places = [shape[axis] for axis in numbers.out_spec[2:]]
    by_places = partial(_by_places, params=params, places=places)
    found: Array = lax.platform_dependent(left, right, cpu=by_places, default=convolve)
    return found


def _by_places(left: Array, right: Array, params: dict[str, Any], places: Sequence[int]) -> Array:
    """Convolve by a product of matrices for each pixel of the result, one after another.

    The product contracts the pixels that the right operand covers there, and the features.
    """
    numbers = params["dimension_numbers"]
    pixels, covered = numbers.lhs_spec[2:], numbers.rhs_spec[2:]
    pairs = [*zip(pixels, covered, strict=True), (numbers.lhs_spec[1], numbers.rhs_spec[1])]
    of_left, of_right = zip(*sorted(pairs), strict=True)  # in this order, images come first
    kept = {key: params[key] for key in ("precision", "preferred_element_type")}
    how = {"dimension_numbers": (((0,), (0,)), ((), ())), "out_sharding": None, **kept}
    matrix = _as_matrix(right, of_right)
    margins, extents, steps = [(0, 0, 0)] * left.ndim, [*left.shape], [1] * left.ndim
    starts = np.zeros((math.prod(places), left.ndim), np.int32)
    starts[:, list(pixels)] = [*np.ndindex(*places)]
    for number, axis in enumerate(pixels):
        margins[axis] = *params["padding"][number], params["lhs_dilation"][number] - 1
        steps[axis] = params["rhs_dilation"][number]
        extents[axis] = (right.shape[covered[number]] - 1) * steps[axis] + 1
        starts[:, axis] *= params["window_strides"][number]
    padded = lax.pad(left, jnp.zeros((), left.dtype), margins)
    every = tuple(slice(None, None, step) for step in steps)

    def at(place: Array) -> Array:
        window = lax.dynamic_slice(padded, place, extents)[every]
        return _matrices(_as_matrix(window, of_left), matrix, how)

    results = jnp.moveaxis(lax.map(at, jnp.asarray(starts)), 0, -1)
    found: Array = results.reshape(*results.shape[:2], *places)
    return found.transpose(*np.argsort(numbers.out_spec))


def _as_matrix(array: Array, axes: tuple[int, ...]) -> Array:
    """Join some axes to the rows of a matrix, whose columns are the axis that is left."""
    [last] = {*range(array.ndim)} - {*axes}
    return array.transpose(*axes, last).reshape(-1, array.shape[last])
