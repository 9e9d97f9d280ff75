"""Versions of file formats, so that an older vaectl refuses files of a newer one."""

from pathlib import Path

from pydantic import BaseModel, ValidationError

from vaectl.base.errors import RunError


class _Versioned(BaseModel):
    format_version: int = 1


def refuse_newer(file: Path, content: bytes, known: int) -> None:
    """Refuse JSON of a newer format, before anything else in it is checked.

    Raises:
        RunError: its format is newer than `known`.
    """
    try:
        version = _Versioned.model_validate_json(content).format_version
    except ValidationError:
        return  # not this kind of file at all; the caller reports that
    if version > known:
        raise RunError(
            f"{file}: format {version} is newer than this vaectl reads",
            hint="pip install --upgrade vaectl",
        )
