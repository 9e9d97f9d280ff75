"""Messages about values that a validation refuses, in plain words."""

import math
import re
from collections.abc import Mapping

from pydantic_core import ErrorDetails

_WORDS: Mapping[str, str] = {
    **dict.fromkeys(("bool_type", "bool_parsing"), "should be true or false"),
    **dict.fromkeys(
        ("int_type", "int_parsing", "int_from_float", "int_parsing_size"),
        "should be a whole number",
    ),
    **dict.fromkeys(("float_type", "float_parsing"), "should be a number"),
    "finite_number": "should be a finite number",
    "string_type": "should be text",
    **dict.fromkeys(("list_type", "tuple_type"), "should be a list"),
    "too_short": "should be a list of at least {min_length}",
    "too_long": "should be a list of at most {max_length}",
    **dict.fromkeys(
        ("model_type", "dict_type", "model_attributes_type"),
        "should be a mapping of keys to values",
    ),
    "greater_than": "should be more than {gt}",
    "greater_than_equal": "should be at least {ge}",
    "less_than": "should be less than {lt}",
    "less_than_equal": "should be at most {le}",
}
"""Words for types of pydantic's errors, with the limits that an error carries."""


def reason(details: ErrorDetails) -> str:
    """Say what a value should be."""
    if details["type"] not in _WORDS:
        return re.sub("^(Input |Value error, |Assertion failed, )", "", details["msg"])
    limits = {name: _number(limit) for name, limit in details.get("ctx", {}).items()}
    return _WORDS[details["type"]].format(**limits)


def shown(value: object) -> str:
    """Write a value as YAML does, shortened if it is long."""
    if isinstance(value, dict):
        return "a mapping"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, float) and not math.isfinite(value):
        return ".nan" if math.isnan(value) else f"{'-' * (value < 0)}.inf"
    value = list(value) if isinstance(value, tuple) else value
    try:
        # values that are neither text nor numbers, such as dates, are written as text
        text = repr(value) if isinstance(value, str | int | float | list) else str(value)
    except ValueError:  # Python converts at most 4300 digits
        return "a number of thousands of digits"
    return text if len(text) <= 60 else text[:57] + "..."


def _number(limit: object) -> object:
    """Write a whole number without a fraction."""
    return int(limit) if isinstance(limit, float) and limit.is_integer() else limit
