"""The check of a new plug's settings, before a configuration has them."""

from __future__ import annotations

from typing import Any

from pydantic import PydanticUndefinedAnnotation, ValidationError
from pydantic_core import PydanticSerializationError

from vaectl.base.errors import ConfigError, first_line
from vaectl.base.section import Section
from vaectl.base.validation import reason, shown

_TYPES = "a file holds true and false, numbers, text, and tuples and sections of these"


def check_settings(section: type[Section], what: str, *, hashable: bool) -> None:
    """Refuse settings whose defaults a configuration file cannot hold.

    Args:
        section: the class of the settings.
        what: the beginning of a message: the file and the plug.
        hashable: whether the values are constants of compiled programs, which must be hashable.

    Raises:
        ConfigError: a type is not defined, or a default is missing, wrong, not hashable, or not the
            same once it was written into a file and read.
    """
    try:
        section.model_rebuild()
        made: Any = section()
        read: Any = section.model_validate(made.model_dump(mode="json", warnings=False))
    except PydanticUndefinedAnnotation as error:
        raise ConfigError(
            f"{what}: {error.name}, the type of a setting, is not defined",
            hint=f"import {error.name} above the class, and not below `if TYPE_CHECKING`",
        ) from None
    except PydanticSerializationError as error:
        raise ConfigError(f"{what}: its settings: {first_line(error)}", hint=_TYPES) from None
    except ValidationError as error:
        raise _refusal(error, what) from None
    for key, value in made:
        if value != getattr(read, key):
            raise ConfigError(
                f"{what}: its setting {key} is {shown(getattr(read, key))} when it is read from a "
                f"file, not {shown(value)}",
                hint=_TYPES,
            )
        try:
            _ = hashable and hash(value)
        except TypeError as error:
            raise ConfigError(
                f"{what}: its setting {key}: {error}",
                hint="make it a tuple, as in betas: tuple[float, float] = (0.9, 0.99)",
            ) from None


def _refusal(error: ValidationError, what: str) -> ConfigError:
    """Return the error for the first default that is refused."""
    details = error.errors()[0]
    key = ".".join(map(str, details["loc"]))
    if not key:
        return ConfigError(f"{what}: its defaults: {reason(details)}", hint="change the defaults")
    if details["type"] == "missing":
        return ConfigError(
            f"{what}: its setting {key} has no default",
            hint=f"give it one, as in {key}: float = 0.1",
        )
    given = shown(details["input"])
    return ConfigError(
        f"{what}: the default of its setting {key} {reason(details)}, not {given}",
        hint=f"give it a default that its type allows; {_TYPES}",
    )
