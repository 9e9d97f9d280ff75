"""The axes of a sweep: the values of one key, or of keys that go together, or points of ranges."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Discriminator, Field, Tag, model_validator
from pydantic_core import PydanticCustomError

from vaectl.base.section import Count, Section, conflict
from vaectl.config.schema import CHOICES

DRAW = "draw"
"""The key of an axis that says how many points are drawn from its ranges."""
DIGITS = 4
"""Significant digits of values of a range, so that they read well, and equal ones are equal."""

Value = bool | int | float | str | None | list[Any]


class Range(Section):
    """Values from `low` to `high`, both among them."""

    low: float
    high: float
    count: Annotated[int, Field(ge=2, le=10_000)] | None = None
    """How many values; left out on an axis that draws."""
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


def _kind(value: object) -> str | None:
    kinds = {Range: "range", dict: "range", list: "list", int: "number"}
    return kinds.get(type(value))


def _listed(values: object) -> object:
    if isinstance(values, list):
        if not values or len({*map(repr, values)}) < len(values):
            raise PydanticCustomError("values", "should be a list of different values")
        if any(isinstance(value, dict) for value in values):
            raise PydanticCustomError("values", "should be a list of values without keys")
    return values


Varied = Annotated[
    Annotated[list[Any], BeforeValidator(_listed), Tag("list")]
    | Annotated[Range, Tag("range")]
    | Annotated[Count, Tag("number")],
    Discriminator(
        _kind,
        custom_error_type="varied",
        custom_error_message="should be a list of values, or a range with low, high and count",
    ),
]


def keys_of(axis: Mapping[str, Any]) -> list[str]:
    """Return the keys whose values an axis has."""
    return [key for key in axis if key != DRAW]


def check(axis: Mapping[str, Any]) -> None:
    """Refuse an axis without values, or with too few or too many.

    Raises:
        PydanticCustomError: it is no axis.
    """
    keys = keys_of(axis)
    if not keys:
        raise conflict("an axis without keys: give it a key of the experiment, and its values")
    for key in keys:
        if isinstance(axis[key], int):
            raise conflict(f"{key}: should be a list of values, or a range, not {axis[key]}")
    if DRAW in axis:
        if not isinstance(axis[DRAW], int):
            raise conflict(f"{DRAW}: should be the number of points to draw")
        if not any(isinstance(axis[key], Range) for key in keys):
            raise conflict(
                f"{', '.join(keys)}: there is no range to draw {axis[DRAW]} points from",
                hint="give LOW:HIGH, or in a file low and high; or leave out the drawing",
            )
        if any(isinstance(axis[key], Range) and axis[key].count for key in keys):
            raise conflict(f"a range has no count on an axis that draws {axis[DRAW]} points")
        return
    for key in keys:
        if isinstance(axis[key], Range) and not axis[key].count:
            raise conflict(
                f"{key}: a range needs count, the number of its values",
                hint="LOW:HIGH:COUNT, or in a file count; or draw points from it",
            )
    counts = {key: _length(axis[key]) for key in keys}
    if len({*counts.values()}) > 1:
        told = ", ".join(f"{key} has {number}" for key, number in counts.items())
        raise conflict(f"keys that go together need as many values each: {told}")


def _length(values: Any) -> int:
    return (values.count or 0) if isinstance(values, Range) else len(values)


def count(axis: Mapping[str, Any]) -> int:
    """Return the number of points of an axis."""
    if DRAW in axis:
        return int(axis[DRAW])
    return _length(next(iter(axis.values())))


def levels(axis: Mapping[str, Any], base: Mapping[str, Any]) -> list[dict[str, Value]]:
    """Return the values of an axis's keys at each of its points.

    Args:
        axis: the axis.
        base: the experiment that varies, which tells where whole numbers are meant.
    """
    keys = keys_of(axis)
    if DRAW in axis:
        return [
            {key: _drawn(axis[key], share, key, base) for key, share in zip(keys, row, strict=True)}
            for row in _halton(int(axis[DRAW]), len(keys))
        ]
    columns = [
        [_fitting(value, key, base) for value in values.values()]
        if isinstance(values := axis[key], Range)
        else values
        for key in keys
    ]
    return [dict(zip(keys, row, strict=True)) for row in zip(*columns, strict=True)]


def _halton(count: int, keys: int) -> list[list[float]]:
    """Return the first points of Halton's sequence in (0, 1)^keys, whose first n never change.

    Coordinate j of point i is i written in base p_j, the j-th prime, mirrored at the point.
    Halton 1960.
    """
    from scipy.stats import qmc

    sequence = qmc.Halton(keys, scramble=False)
    sequence.fast_forward(1)  # the first is 0 in all coordinates
    found: list[list[float]] = sequence.random(count).tolist()
    return found


def _drawn(values: Any, share: float, key: str, base: Mapping[str, Any]) -> Value:
    if isinstance(values, Range):
        return _fitting(values.at(share), key, base)
    chosen: Value = values[int(share * len(values))]
    return chosen


def _fitting(value: float, key: str, base: Mapping[str, Any]) -> int | float:
    """Round to a few digits; to a whole number for a key that has one in the base experiment."""
    known = _known(key, base)
    if isinstance(known, int) and not isinstance(known, bool):
        return round(value)
    return float(f"{value:.{DIGITS}g}")


def _known(key: str, values: Mapping[str, Any]) -> object:
    """Return the value of a key in an experiment, also if it is short for the chosen plug's."""
    kind, _, name = key.partition(".")
    section = values.get(kind)
    if isinstance(section, dict) and name and name not in section and kind in CHOICES:
        section = section.get(section["name"], {})
    for part in name.split(".") if name else []:
        section = section.get(part) if isinstance(section, dict) else None
    return section
