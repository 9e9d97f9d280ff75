"""Messages about values that a schema refuses: where each is, what is wrong, and what to try."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Sequence
from typing import Any, get_args

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from vaectl.base.errors import ConfigError
from vaectl.base.nearest import did_you_mean, nearest, question
from vaectl.base.section import CONFLICT, Section, description
from vaectl.base.validation import reason, shown
from vaectl.config import schema
from vaectl.config.documents import Origins, Place
from vaectl.config.schema import BASE, chosen_name

ALL_KEYS = "vaectl config show prints every key with its default"
"""The hint for wrong keys, and for several problems of different kinds."""
_CHOICES = {"literal_error": "expected", "union_tag_invalid": "expected_tags"}
"""The types of errors for unknown names, and the keys of their contexts that list the known
ones."""


def refusal(
    error: ValidationError,
    origins: Origins,
    values: dict[str, Any],
    model: type[Section],
    hint: str | None = None,
) -> ConfigError:
    """Return one error that lists all problems, in the order of the file and the options.

    Args:
        error: the validator's.
        origins: the origin of each value.
        values: the values that are refused.
        model: the section whose keys the values are.
        hint: what to try; None to choose a hint by the problems.
    """
    found = error.errors()
    # of a plug that is unknown, the section is unknown too
    follow = [(*each["loc"][:-1], each["input"]) for each in found if _is_plug(each["loc"])]
    problems = [details for details in found if details["loc"] not in follow]
    problems.sort(key=lambda details: _rank(details, origins))
    return ConfigError(
        "\n".join(_explained(details, origins, values, model) for details in problems),
        hint=hint or _hint(problems, model),
    )


def _explained(
    details: ErrorDetails, origins: Origins, values: dict[str, Any], model: type[Section]
) -> str:
    dotted = ".".join(map(str, _given(details["loc"], values)))
    where = _origin(details, origins)
    # an option such as --epochs names its key already
    prefix = "".join(f"{each}: " for each in (where, "" if _is_option(where) else dotted) if each)
    given = details["input"]
    if details["type"] == "extra_forbidden":
        near = _nearest(dotted, values, model)
        if near and any(isinstance(part, int) for part in details["loc"]):
            near = near.rpartition(".")[2]  # known keys of list items have no index
        if where.startswith("--set ") and BASE in model.model_fields:  # it sets keys of the base
            dotted = dotted.removeprefix(f"{BASE}.")
            near = near and near.removeprefix(f"{BASE}.")
            near = None if near == dotted else near  # one of the study's own
        mean = f"; did you mean {near}?" if near else ""
        if near and "." in near and "." in str(details["loc"][-1]):  # the dots of --set, in a file
            *above, last = near.split(".")
            mean = f"; write {last} below {': '.join(above)}:"
        return f"{f'{where}: ' if where else ''}unknown key {dotted}{mean}"
    if details["type"] == "missing":
        return f"{f'{where}: ' if where else ''}{dotted} is missing"
    if details["type"] in _CHOICES:
        if details["type"] == "union_tag_invalid":
            given = details["ctx"]["tag"]
        told = str(details["ctx"][_CHOICES[details["type"]]])
        known = re.findall(r"'([^']*)'", told) or re.findall(r"\d+", told)
        near = did_you_mean(given, known) if isinstance(given, str) else ""
        return f"{prefix}should be one of {', '.join(known)}, not {shown(given)}{near}"
    if details["type"] == CONFLICT:
        return f"{prefix}{details['msg']}"
    mean = question(_meant(dotted, given, model))
    return f"{prefix}{reason(details)}, not {shown(given)}{mean}"


def _rank(details: ErrorDetails, origins: Origins) -> int:
    """Return the position of a problem in the order of the file and the options."""
    place = _known_place(details, origins)
    return list(origins).index(place) if place in origins else len(origins)


def _known_place(details: ErrorDetails, origins: Origins) -> Place:
    """Return the longest prefix of a problem's path that the file or an option has set."""
    path = details["loc"]
    return next((path[:n] for n in range(len(path), 0, -1) if path[:n] in origins), path)


def _origin(details: ErrorDetails, origins: Origins) -> str:
    """Return the file and line, or the option, that caused a problem; empty if unknown."""
    place = _known_place(details, origins)
    if place in origins or details["type"] == CONFLICT:  # a conflict may be of any keys
        return origins.get(place, "")
    # if an option set a whole section, it is also the origin of the keys inside
    below = (origin for known, origin in origins.items() if place and known[: len(place)] == place)
    return next(below, "")


def _is_option(origin: str) -> bool:
    return origin.startswith("--") and " " not in origin


def _hint(problems: Sequence[ErrorDetails], model: type[Section]) -> str:
    """Return a hint that fits all problems; if there is none, say where all keys are listed.

    That of an unknown plug is always told, since it may be the cause of the others.
    """
    hints = {_hint_of(details, model): _is_plug(details["loc"]) for details in problems}
    if len(hints) == 1:
        return next(iter(hints))
    plugs = [hint for hint, of_plug in hints.items() if of_plug]
    return "; ".join([*plugs[:1], ALL_KEYS])


def _hint_of(details: ErrorDetails, model: type[Section]) -> str:
    if details["type"] == CONFLICT:
        return str(details["ctx"].get("hint") or ALL_KEYS)
    path = [part for part in details["loc"] if isinstance(part, str)]
    if _is_plug(details["loc"]):
        return f"use one of these; --plugin FILE.py loads {path[-2]}s of your own"
    if details["type"] == "model_type":
        for meant in _meant(".".join(path), details["input"], model):
            return f"set {meant} to {details['input']}"
        return "write its keys below it, as vaectl config show prints them"
    section, field = _field(model, path)
    said = description(section, field) if section and details["type"] != "extra_forbidden" else ""
    if section is None or not said:
        return ALL_KEYS
    default = section.model_fields[field].default
    simple = default is None or isinstance(default, bool | int | float | str)
    return f"{field}{f' (default {shown(default)})' if simple else ''}: {said}"


def _is_plug(path: Place) -> bool:
    """Tell whether a path ends at the name of a plug."""
    return path[-1:] == ("name",) and path[-2:-1] != () and path[-2] in schema.CHOICES


def _meant(section: str, given: Any, model: type[Section]) -> list[str]:
    """Return the keys that a value in the place of a whole section may be meant for."""
    names = ("name", "source") if isinstance(given, str) else (section.rpartition(".")[2],)
    return [key for name in names if (key := f"{section}.{name}") in keys(model)]


def _field(model: type[Section], path: Sequence[str]) -> tuple[type[Section] | None, str]:
    """Return the section that has the key at the end of a path, and the key; None if none has."""
    sections = [model]
    for name in path[:-1]:
        there = [each.model_fields[name] for each in sections if name in each.model_fields]
        sections = [part for field in there for part in _sections(field.annotation)] or sections
    last = path[-1] if path else ""
    return next((each for each in sections if last in each.model_fields), None), last


def _given(path: Place, values: Any) -> Iterator[str | int]:
    """Yield a problem's path without the tags that the validator adds for types in a union."""
    for part in path[:-1]:
        try:
            values = values[part]
        except (KeyError, IndexError, TypeError):
            continue
        yield part
    yield from path[-1:]


def keys(section: type[Section], prefix: str = "") -> Iterator[str]:
    """Yield the dotted paths of all keys of a section."""
    for name, field in section.model_fields.items():
        yield prefix + name
        for part in _sections(field.annotation):
            yield from keys(part, f"{prefix}{name}.")


def _sections(annotation: Any) -> Iterator[type[Section]]:
    """Yield the sections in a type: itself, or the items of a list or union."""
    if isinstance(annotation, type) and issubclass(annotation, Section):
        yield annotation
    for part in get_args(annotation):
        yield from _sections(part)


def _nearest(dotted: str, values: dict[str, Any], model: type[Section]) -> str | None:
    """Find the known key that is most similar: by its last part, then as a whole."""
    known = list(keys(model))
    last = dotted.rpartition(".")[2]
    by_last: dict[str, list[str]] = {}
    for key in known:
        by_last.setdefault(key.rpartition(".")[2], []).append(key)
    # such as lr for learning_rate
    initials = {"".join(word[0] for word in name.split("_")): name for name in reversed(by_last)}
    last = initials.get(last, last) if len(last) > 1 else last
    of_study = BASE in model.model_fields and isinstance(values.get(BASE), dict)
    experiment, prefix = (values[BASE], f"{BASE}.") if of_study else (values, "")
    for name in nearest(last, by_last, alike=0.7)[:1]:
        for kind in schema.CHOICES:
            of_chosen = f"{prefix}{kind}.{chosen_name(experiment, kind)}.{name}"
            if of_chosen in by_last[name]:
                return of_chosen
        return max(by_last[name], key=lambda key: difflib.SequenceMatcher(a=dotted, b=key).ratio())
    shared = prefix if dotted.startswith(prefix) else ""  # a common prefix is similar in all
    others = [
        key.removeprefix(shared)
        for key in known
        if key.startswith(shared) and not dotted.startswith(f"{key}.")
    ]
    near = next(iter(nearest(dotted.removeprefix(shared), others)), None)
    return near and shared + near
