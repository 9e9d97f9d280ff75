"""Sections of a configuration, and the types of numbers in them."""

from collections.abc import Iterator, Mapping
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field
from pydantic_core import PydanticCustomError

CONFLICT = "conflict"
"""The type of an error whose message says everything."""

Count = Annotated[int, Field(ge=1, le=10**9)]
Positive = Annotated[float, Field(gt=0, le=1e9)]
NonNegative = Annotated[float, Field(ge=0, le=1e9)]
Decay = Annotated[float, Field(ge=0, lt=1)]


def flat(values: Mapping[str, object], prefix: str = "") -> Iterator[tuple[str, object]]:
    """Yield the dotted path and the value of each key of nested mappings."""
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from flat(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value


class Section(BaseModel):
    """A section of a configuration: frozen, without unknown keys or silent conversions."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        strict=True,
        allow_inf_nan=False,
        use_attribute_docstrings=True,
    )


def conflict(message: str) -> PydanticCustomError:
    """Return what a validator raises for values that no type excludes."""
    return PydanticCustomError(CONFLICT, "{message}", {"message": message})
