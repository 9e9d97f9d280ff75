"""Axes as options of the command line have them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

from vaectl.base.errors import ConfigError
from vaectl.base.nearest import did_you_mean
from vaectl.config import documents
from vaectl.sweeps.axes import DRAW

SCALES = ("linear", "log")


def axes(texts: Sequence[str], draw: int | None = None) -> list[dict[str, object]]:
    """Read axes from options; with `draw` they form one axis with `draw` points.

    Raises:
        ConfigError: a text is no axis, or there is nothing to draw from.
    """
    found = [axis(text) for text in texts]
    if draw is None:
        return found
    if not found:
        raise ConfigError(
            f"there are no ranges to draw {draw} points from",
            hint="for example --vary optimizer.learning_rate=1e-4:1e-2:log",
        )
    keys = Counter(key for each in found for key in each)
    if twice := [key for key, count in keys.items() if count > 1]:
        raise ConfigError(f"--vary: {twice[0]} comes twice", hint="give each key once")
    return [{DRAW: draw, **{key: value for each in found for key, value in each.items()}}]


def axis(text: str) -> dict[str, object]:
    """Read an axis as an option has it.

        KEY=VALUE,VALUE,...    KEY=LOW:HIGH:COUNT    KEY=LOW:HIGH:COUNT:log    KEY=LOW:HIGH:log

    Raises:
        ConfigError: the text has none of these forms.
    """
    key, sign, given = (part.strip() for part in text.partition("="))
    origin = f"--vary {text}"
    if not sign or not key or not given:
        raise ConfigError(
            f"{origin}: not of the form KEY=VALUES",
            hint="for example --vary model.code_size=2,5,20, or "
            "--vary optimizer.learning_rate=1e-4:1e-2:5:log",
        )
    if given[0] in "[{":
        return {key: documents.parse_value(given, origin)}
    low, *others = given.split(":")
    if not others or not re.fullmatch(r"[-+.\deE_]+", low):  # values may have a colon too
        return {key: documents.parse_value(f"[{given}]", origin)}
    found: dict[str, object] = {"low": _number(low, origin), "high": _number(others[0], origin)}
    for part in others[1:]:
        name = "scale" if part in SCALES else "count"
        hint = "LOW:HIGH:COUNT has equal steps, LOW:HIGH:COUNT:log equal ratios"
        if name == "count" and not part.isdecimal():
            near = did_you_mean(part, SCALES)
            raise ConfigError(
                f"{origin}: {part} is no number of values and no scale{near}", hint=hint
            )
        if name in found:
            raise ConfigError(f"{origin}: {found[name]} and {part} are each a {name}", hint=hint)
        found[name] = int(part) if name == "count" else part
    return {key: found}


def _number(text: str, origin: str) -> object:
    value = documents.parse_value(text, origin)
    return float(value) if isinstance(value, int) and not isinstance(value, bool) else value
