"""Matrix products in bfloat16."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import jax
import jax.numpy as jnp
from jax.extend.core import ClosedJaxpr, Jaxpr, Literal

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
    params = {
        name: jax.tree.map(_changed, value, is_leaf=is_program) for name, value in params.items()
    }
    bound = equation.primitive.get_bind_params(params)
    results = equation.primitive.bind(*operands, **bound)
    found: Sequence[Any] = results if equation.primitive.multiple_results else [results]
    return found


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
