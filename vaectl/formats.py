"""What every JSON that vaectl reads again has: a version of its format, and a seal.

An older vaectl refuses what a newer one wrote. The seal tells an edit or a damage: a flipped digit
is a number too. It is no signature, since anybody can make it.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from vaectl.errors import RunError


class _Versioned(BaseModel):
    format_version: int = 1


def refuse_newer(file: Path, content: bytes, known: int) -> None:
    """Refuse the JSON of a newer format, before anything else is asked of it.

    Raises:
        RunError: it is newer than `known`.
    """
    try:
        version = _Versioned.model_validate_json(content).format_version
    except ValidationError:
        return  # no format at all: whoever reads it says so
    if version > known:
        raise RunError(
            f"{file}: format {version} is newer than this vaectl reads",
            hint="pip install --upgrade vaectl",
        )


def seal(fields: dict[str, Any]) -> str:
    """SHA-256 of the fields of a JSON object, in whatever order."""
    return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()


def sealed(fields: dict[str, Any]) -> str:
    """Write a JSON object with its seal as its last field."""
    return json.dumps({**fields, "seal": seal(fields)}, indent=2) + "\n"


def is_sealed(fields: dict[str, Any]) -> bool:
    """Whether the seal of a JSON object is that of its other fields."""
    others = {key: value for key, value in fields.items() if key != "seal"}
    return fields.get("seal") == seal(others)
