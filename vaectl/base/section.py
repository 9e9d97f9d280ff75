"""Sections of a configuration, and the types of numbers in them."""

import ast
import inspect
import textwrap
from collections.abc import Iterator, Mapping
from functools import cache
from itertools import pairwise
from typing import Annotated, Any, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field, GetJsonSchemaHandler, model_validator
from pydantic_core import CoreSchema, PydanticCustomError

CONFLICT = "conflict"
"""The type of an error whose message says everything."""

Count = Annotated[int, Field(ge=1, le=10**9)]
Positive = Annotated[float, Field(gt=0, le=1e9)]
NonNegative = Annotated[float, Field(ge=0, le=1e9)]
Decay = Annotated[float, Field(ge=0, lt=1)]


def flat(values: Mapping[str, object], prefix: str = "") -> Iterator[tuple[str, object]]:
    """Yield the dotted path and the value of each key of nested mappings."""
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from flat(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value


_DEEPEST = 20


def nested(values: Mapping[str, object]) -> dict[str, Any]:
    """Undo `flat`: return nested mappings for dotted paths.

    Raises:
        ValueError: a path goes on below a value, or is deeper than any configuration.
    """
    found: dict[str, Any] = {}
    for path, value in values.items():
        *above, name = path.split(".")
        place: Any = found
        for each in above:
            place = place.setdefault(each, {}) if isinstance(place, dict) else None
        if not isinstance(place, dict) or len(above) > _DEEPEST:
            raise ValueError(f"{path} is no path of a configuration")
        place[name] = value
    return found


class Section(BaseModel):
    """A section of a configuration: frozen, without unknown keys or silent conversions.

    The text below a field describes it in the JSON Schema. A list is taken for a tuple, which YAML
    does not have.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _lists_as_tuples(cls, values: object) -> object:
        """Turn lists into tuples where a field is made of tuples."""
        if not isinstance(values, dict):
            return values
        lists = [key for key, value in values.items() if isinstance(value, list)]
        fields = {key: cls.model_fields[key] for key in lists if key in cls.model_fields}
        tuples = [key for key, field in fields.items() if _has_tuples(field.annotation)]
        return {**values, **{key: _as_tuple(values[key]) for key in tuples}} if tuples else values

    def idle(self) -> dict[str, str]:
        """Return why each setting that the others leave without effect has none, by its key.

        Settings with their default values may be among them; users are only told of the others.
        """
        return {}

    @classmethod
    def __get_pydantic_json_schema__(
        cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        """Describe the fields; pydantic would read all source files at each start of vaectl."""
        found = handler(core_schema)
        for name, field in handler.resolve_ref_schema(found).get("properties", {}).items():
            if text := _text_below(cls, name):
                field.setdefault("description", text)
        return found


def _has_tuples(annotation: Any) -> bool:
    """Tell whether a type is a tuple, or a union with one."""
    if tuple in (annotation, get_origin(annotation)):
        return True
    return get_origin(annotation) is not list and any(map(_has_tuples, get_args(annotation)))


def _as_tuple(value: Any) -> Any:
    return tuple(map(_as_tuple, value)) if isinstance(value, list) else value


def _text_below(section: type[Section], key: str) -> str:
    """Return the text below a field in its class, or in the nearest base that has one."""
    bases = (base for base in section.__mro__ if issubclass(base, Section))
    return next((texts[key] for base in bases if key in (texts := _descriptions(base))), "")


@cache
def _descriptions(section: type[Section]) -> dict[str, str]:
    """Return the text below each field of a class; an empty mapping if its source is missing."""
    try:
        lines = ast.parse(textwrap.dedent(inspect.getsource(section))).body
    except (OSError, TypeError, SyntaxError):  # made by a function, or defined interactively
        return {}
    found = {}
    for field, below in pairwise(lines[0].body if isinstance(lines[0], ast.ClassDef) else []):
        if isinstance(field, ast.AnnAssign) and isinstance(below, ast.Expr):
            name, text = field.target, below.value
            if isinstance(name, ast.Name) and isinstance(text, ast.Constant):
                found[name.id] = inspect.cleandoc(str(text.value))
    return found


def description(section: type[Section], key: str) -> str:
    """Return the text below a field in one line; empty if there is none."""
    text = _text_below(section, key) or section.model_fields[key].description or ""
    return " ".join(text.split())


def conflict(message: str, hint: str = "") -> PydanticCustomError:
    """Return the error that a validator raises for values that conflict with each other."""
    return PydanticCustomError(CONFLICT, "{message}", {"message": message, "hint": hint})
