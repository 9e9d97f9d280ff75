"""Seals: whoever reads JSON with one notices that it was damaged or edited.

A seal is the SHA-256 of all other fields. It is no signature: whoever changes a file on purpose can
seal it again, so what is read is still checked for types, ranges and consistency.
"""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

_SEAL = "seal"


def seal(fields: Mapping[str, Any]) -> str:
    """SHA-256 of fields, in whatever order they stand."""
    return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()


def sealed(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Add the seal to fields."""
    return {**fields, _SEAL: seal(fields)}


def check(content: bytes, *, optional: bool = False) -> None:
    """Check the seal of a JSON object.

    Args:
        content: the JSON.
        optional: whether an object without a seal passes.

    Raises:
        ValueError: it is no JSON object, has no seal, or is not what was sealed.
    """
    try:
        fields = json.loads(content)  # with those that a later vaectl may have added
        if optional and isinstance(fields, dict) and _SEAL not in fields:
            return
        if not isinstance(fields, dict) or fields.pop(_SEAL, None) != seal(fields):
            raise ValueError("not what was sealed")
    except RecursionError:
        raise ValueError("nested too deeply") from None
