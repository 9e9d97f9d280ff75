"""A part of a configuration, and the kinds of numbers that stand in one."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field
from pydantic_core import PydanticCustomError

CONFLICT = "conflict"
"""The type of an error whose message says everything."""

Count = Annotated[int, Field(ge=1, le=10**9)]
Positive = Annotated[float, Field(gt=0, le=1e9)]
NonNegative = Annotated[float, Field(ge=0, le=1e9)]
Decay = Annotated[float, Field(ge=0, lt=1)]


class Section(BaseModel):
    """A part of the configuration: frozen, no unknown keys, no silent conversions."""

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
