"""The axes of a sweep: the values of one key, or of keys that go together, or points of ranges."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BeforeValidator, Discriminator, Tag

from vaectl.base.section import Count, conflict
from vaectl.studies.ranges import Range, Value, drawn, fitting, halton, listed

DRAW = "draw"
"""The key of an axis that says how many points are drawn from its ranges."""


def _kind(value: object) -> str | None:
    kinds = {Range: "range", dict: "range", list: "list", int: "number"}
    return kinds.get(type(value))


Varied = Annotated[
    Annotated[list[Any], BeforeValidator(listed), Tag("list")]
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
            {key: drawn(axis[key], share, key, base) for key, share in zip(keys, row, strict=True)}
            for row in halton(int(axis[DRAW]), len(keys))
        ]
    columns = [
        [fitting(value, key, base) for value in values.values()]
        if isinstance(values := axis[key], Range)
        else values
        for key in keys
    ]
    return [dict(zip(keys, row, strict=True)) for row in zip(*columns, strict=True)]
