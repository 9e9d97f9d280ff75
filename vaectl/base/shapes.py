"""Arrays that are not there yet: their shapes and types."""

from typing import Any

import jax
from jaxtyping import Array


def shaped(shape: tuple[int, ...], dtype: Any, place: Any = None) -> Any:
    """Return what stands for an array where only its shape counts."""
    return jax.ShapeDtypeStruct(shape, dtype, sharding=place)  # type: ignore[no-untyped-call]


def like(array: Array, place: Any = None) -> Any:
    """Return what stands for an array of the same shape and type."""
    return shaped(array.shape, array.dtype, place)
