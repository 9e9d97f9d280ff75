"""Matrix products in bfloat16."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental.layout import Layout, with_layout_constraint
from jax.extend.core import ClosedJaxpr, Jaxpr, Literal
from jaxtyping import Array

from vaectl.base.shapes import is_product, is_program, like

if TYPE_CHECKING:
    from vaectl.config.schema import Config
    from vaectl.models.base import Precision

T = TypeVar("T")

_CPU = "amx_bf16"
"""The instruction of processors whose products of bfloat16 are much faster."""
_GPU = 8.0
"""Compute capability from which GPUs multiply bfloat16."""


def in_bfloat16(function: Callable[..., T]) -> Callable[..., T]:
    """Return the same function with its matrix products and convolutions in bfloat16.

    Operands in float32 are rounded, and products summed in float32, so that for matrices a and b
    each element is off by at most (2u + u^2) |a| |b|, with u = 2^-8, beside float32's own errors.
    Products for which a precision was asked stay as they are, and so do all other operations. Of a
    gradient, the products of its backward pass are
    changed too.
    """

    def changed(*arguments: Any) -> T:
        program, out = jax.make_jaxpr(function, return_shape=True)(*arguments)
        found = _evaluate(program, *jax.tree.leaves(arguments))
        result: T = jax.tree.unflatten(jax.tree.structure(out), found)
        return result

    return changed


def _evaluate(program: ClosedJaxpr, *arguments: Any) -> list[Any]:
    """Evaluate a program with rounded operands of its products."""
    values = dict(zip(program.jaxpr.constvars, program.consts, strict=True))
    values |= zip(program.jaxpr.invars, arguments, strict=True)

    def read(variable: Any) -> Any:
        return variable.val if isinstance(variable, Literal) else values[variable]

    for equation in program.jaxpr.eqns:
        results = _compute(equation, [read(variable) for variable in equation.invars])
        values |= zip(equation.outvars, results, strict=True)
    return [read(variable) for variable in program.jaxpr.outvars]


def _compute(equation: Any, operands: list[Any]) -> Sequence[Any]:
    params = dict(equation.params)
    plain = is_product(equation) and params["precision"] is None
    if plain and all(operand.dtype == jnp.float32 for operand in operands):
        operands = [operand.astype(jnp.bfloat16) for operand in operands]
        params["preferred_element_type"] = jnp.dtype(jnp.float32)
        if equation.primitive is lax.dot_general_p:
            left, right = operands
            return [_product(left, right, params)]
    params = {
        name: jax.tree.map(_changed, value, is_leaf=is_program) for name, value in params.items()
    }
    bound = equation.primitive.get_bind_params(params)
    results = equation.primitive.bind(*operands, **bound)
    found: Sequence[Any] = results if equation.primitive.multiple_results else [results]
    return found


def _product(left: Array, right: Array, params: dict[str, Any]) -> Array:
    """Multiply in the form that XLA's fast kernel for CPUs takes.

    The kernel (YNNPACK, `__ynn_fusion` in the optimized program) contracts the last axis of a left
    operand that is stored so. The gradient of a weight contracts the first axes, those of images:
    JAX computes g^T x and transposes it. Here x^T is stored, and the same numbers are (x^T g)^T,
    whose two transpositions cancel.
    """
    (axes, others), batches = params["dimension_numbers"]
    first = tuple(range(len(axes)))
    if any(batches) or not axes == others == first:
        plain: Array = lax.dot_general_p.bind(_stored(left), right, **params)
        return plain
    params["dimension_numbers"] = ((1,), (0,)), batches
    size = math.prod(left.shape[: len(axes)])
    turned = _stored(right.reshape(size, -1).T)
    product = _stored(lax.dot_general_p.bind(turned, left.reshape(size, -1), **params))
    return product.T.reshape(*left.shape[len(axes) :], *right.shape[len(axes) :])


def _stored(array: Array) -> Array:
    """Store an array in the order of its axes on a CPU; XLA would read its source transposed."""
    rows = partial(with_layout_constraint, layouts=Layout(tuple(range(array.ndim))))
    stored: Array = lax.platform_dependent(array, cpu=rows, default=lambda array: array)
    return stored


def _changed(value: Any) -> Any:
    """Return a loop's body, a branch or an inner function with rounded operands."""
    if not is_program(value):
        return value
    closed = value if isinstance(value, ClosedJaxpr) else ClosedJaxpr(value, ())
    changed = jax.make_jaxpr(partial(_evaluate, closed))(*map(like, closed.in_avals))
    return changed.jaxpr if isinstance(value, Jaxpr) else changed


def resolved(settings: Config, device: jax.Device) -> tuple[Config, str]:
    """Replace the precision `auto` by the one that suits a device; leave any other.

    Returns:
        The settings, and what to tell: the choice with its reason, or that bfloat16 does not suit
        the device; empty if there is nothing to tell.
    """
    asked = settings.model.precision
    has, why = multiplies_bfloat16(device)
    if asked == "bfloat16" and not has:
        return settings, f"model.precision bfloat16: {why}, so it may take longer than float32"
    if asked != "auto":
        return settings, ""
    chosen: Precision = "bfloat16" if has else "float32"
    return _with(settings, chosen), f"model.precision auto: {chosen}, since {why}"


def as_chosen(settings: Config, stored: Config) -> Config:
    """Replace `auto` by what a run has chosen before, on whatever device."""
    return (
        _with(settings, stored.model.precision) if settings.model.precision == "auto" else settings
    )


def _with(settings: Config, precision: Precision) -> Config:
    model = settings.model.model_copy(update={"precision": precision})
    return settings.model_copy(update={"model": model})


def multiplies_bfloat16(
    device: jax.Device, facts: Path = Path("/proc/cpuinfo")
) -> tuple[bool, str]:
    """Tell whether a device has fast products of bfloat16, and by what that is known.

    Args:
        device: a CPU, a GPU or another accelerator.
        facts: the file in which Linux lists the instructions of the processor.
    """
    if device.platform == "gpu":
        capability = str(getattr(device, "compute_capability", "0"))
        with suppress(ValueError):
            return float(capability) >= _GPU, f"the GPU has compute capability {capability}"
        return True, f"the GPU is {device.device_kind}"
    if device.platform != "cpu":
        return True, f"the device is {device.device_kind}"
    try:
        listed = facts.read_text().split()
    except OSError:
        return False, "nothing is known of the instructions of this processor"
    has = _CPU in listed
    return has, f"the processor has {'' if has else 'no '}{_CPU}"
