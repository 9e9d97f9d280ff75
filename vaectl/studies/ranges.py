"""Ranges of numbers, and points drawn evenly from them. No JAX."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from vaectl.base.section import Section, conflict
from vaectl.config.schema import place

DIGITS = 4
"""Significant digits of values of a range, so that they read well, and equal ones are equal."""

Value = bool | int | float | str | None | list[Any]


class Range(Section):
    """A range of values from `low` to `high`, both included."""

    low: float
    high: float
    count: Annotated[int, Field(ge=2, le=10_000)] | None = None
    """The number of values; left out on an axis that draws."""
    scale: Literal["linear", "log"] = "linear"
    """linear: equal differences; log: equal ratios."""

    @model_validator(mode="after")
    def _ordered(self) -> Range:
        if not self.low < self.high:
            raise conflict(
                f"low is {self.low:g}, high is {self.high:g}: low must be below high",
                hint="exchange them",
            )
        if self.scale == "log" and self.low <= 0:
            raise conflict(
                f"low is {self.low:g}: a range of scale log must be above 0",
                hint="a small number above 0, or scale linear",
            )
        return self

    def at(self, share: float) -> float:
        """Return the value at a share of the way from low to high, in equal steps of its scale."""
        if self.scale == "linear":
            return self.low + share * (self.high - self.low)
        return math.exp(math.log(self.low) + share * math.log(self.high / self.low))

    def values(self) -> list[float]:
        """Return `count` values with equal steps."""
        count = self.count or 2
        return [self.at(i / (count - 1)) for i in range(count)]


def halton(count: int, keys: int) -> list[list[float]]:
    """Return the first points of Halton's sequence in (0, 1)^keys, whose first n never change.

    Coordinate j of point i is i written in base p_j, the j-th prime, mirrored at the point.
    Halton 1960.
    """
    from scipy.stats import qmc

    sequence = qmc.Halton(keys, scramble=False)
    sequence.fast_forward(1)  # the first is 0 in all coordinates
    found: list[list[float]] = sequence.random(count).tolist()
    return found


def drawn(values: Any, share: float, key: str, base: Mapping[str, Any]) -> Value:
    """Return the value at a share, in [0, 1), of the way through a range or a list.

    Args:
        values: a range, or the values to choose from.
        share: the position, from 0 to below 1.
        key: whose value it is.
        base: the experiment that varies, which tells where whole numbers are meant.
    """
    if not isinstance(values, list):
        return fitting(values.at(share), key, base)
    chosen: Value = values[int(share * len(values))]
    return chosen


def listed(values: object) -> object:
    """Check that a list has different values, and no keys; return it.

    Raises:
        PydanticCustomError: the list has equal values, or keys.
    """
    if isinstance(values, list):
        if not values or len({*map(repr, values)}) < len(values):
            raise PydanticCustomError("values", "should be a list of different values")
        if any(isinstance(value, dict) for value in values):
            raise PydanticCustomError("values", "should be a list of values without keys")
    return values


def fitting(value: float, key: str, base: Mapping[str, Any]) -> int | float:
    """Round to a few digits; to a whole number for a key that has one in the base experiment."""
    known = value_of(key, base)
    if isinstance(known, int) and not isinstance(known, bool) and math.isfinite(value):
        return round(value)
    return float(f"{value:.{DIGITS}g}")


def value_of(key: str, values: Mapping[str, Any]) -> object:
    """Return the value of a key in an experiment; None if it has none."""
    found: Any = values
    for part in place(key.split("."), values):
        found = found.get(part) if isinstance(found, dict) else None
    return found
