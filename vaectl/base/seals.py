"""Seals of JSON files, which show that a file was damaged or edited.

A seal is the SHA-256 of all other fields. It is not a signature: anybody who changes a file on
purpose can seal it again, so that types, ranges and consistency are still checked.
"""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

_SEAL = "seal"


def seal(fields: Mapping[str, Any]) -> str:
    """Return the SHA-256 of fields; their order does not matter."""
    return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()


def sealed(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return fields with their seal added."""
    return {**fields, _SEAL: seal(fields)}


def check(content: bytes, *, optional: bool = False) -> None:
    """Check the seal of a JSON object.

    Args:
        content: the JSON text.
        optional: whether an object without a seal is accepted.

    Raises:
        ValueError: the text is not a JSON object, has no seal, or is not what was sealed.
    """
    try:
        fields = json.loads(content)  # including fields that a later vaectl added
        if optional and isinstance(fields, dict) and _SEAL not in fields:
            return
        if not isinstance(fields, dict) or fields.pop(_SEAL, None) != seal(fields):
            raise ValueError("not what was sealed")
    except RecursionError:
        raise ValueError("nested too deeply") from None
