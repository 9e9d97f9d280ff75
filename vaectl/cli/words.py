"""The words of the command line, for completion: its commands, options, values and keys."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

import typer.main

from vaectl.cli.app import app
from vaectl.cli.usage import choices, named_options


def all_words() -> dict[str, Any]:
    """Return all words, as `vaectl.completion.words` keeps them."""
    import vaectl.cli  # noqa: F401  # registers the commands
    from vaectl.base import plugins
    from vaectl.config import schema as config

    plugins.load_what_loads()
    schema = config.Config.model_json_schema()
    keys = dict(_keys(schema, schema, ""))
    short: dict[str, list[str]] = {}
    """The short forms of keys of the chosen plug, without its name."""
    for key, values in keys.items():
        kind, *inside = key.split(".")
        if kind in config.CHOICES and len(inside) == 2:
            plug, name = inside
            if len(config.CHOICES[kind].path_of(name, plug)) == 2:  # the key has a short form
                same = short.setdefault(f"{kind}.{name}", [])
                same += [value for value in values if value not in same]
    root = typer.main.get_command(app)
    return {"command": _command(root, typer.Context(root)), "keys": keys, "short": short}


def _command(command: Any, context: typer.Context) -> dict[str, Any]:
    options = {
        name: _parameter(parameter, name, context)
        for name, parameter in named_options(command.params)
    }
    return {
        "help": _first_line(command.help),
        "options": {**options, "--help": _HELP},
        "arguments": [
            _parameter(each, each.name, context)
            for each in command.params
            if each.param_type_name == "argument"
        ],
        "commands": {
            name: _command(below, context)
            for name, below in getattr(command, "commands", {}).items()
        },
    }


_HELP = {
    "name": "--help",
    "metavar": "",
    "takes": 0,
    "repeats": False,
    "values": [],
    "help": "Show this message and exit.",
}


def _parameter(parameter: Any, name: str, context: typer.Context) -> dict[str, Any]:
    return {
        "name": name,
        "metavar": parameter.metavar or "",
        "takes": 0 if getattr(parameter, "is_flag", False) else parameter.nargs,
        "repeats": parameter.nargs == -1,
        "values": choices(parameter, context),
        "help": _first_line(parameter.help),
    }


def _first_line(text: str | None) -> str:
    """Return the first clause of the first line of a help text."""
    first = " ".join((text or "").partition("\n\n")[0].split())
    return re.split(r"[:;] | \(|\.$", first, maxsplit=1)[0]


def _keys(
    schema: Mapping[str, Any], section: Mapping[str, Any], prefix: str
) -> Iterator[tuple[str, list[str]]]:
    """Yield the dotted path and the values of each key of a JSON Schema."""
    for name, field in section["properties"].items():
        found = _resolved(schema, field)
        if "properties" in found:
            yield from _keys(schema, found, f"{prefix}{name}.")
        else:
            yield prefix + name, [*dict.fromkeys(_choices(schema, found))]


def _choices(schema: Mapping[str, Any], field: Mapping[str, Any]) -> Iterator[str]:
    """Yield the values that a key can have, or examples and its default."""
    found = _resolved(schema, field)
    for value in (*found.get("enum", ()), *found.get("examples", ())):
        yield _text(value)
    if "const" in found:
        yield _text(found["const"])
    if found.get("type") == "boolean":
        yield from ("true", "false")
    if found.get("type") == "null":
        yield "null"
    for part in found.get("anyOf", ()):
        yield from _choices(schema, part)
    if "default" in found and not isinstance(found["default"], dict | list):
        yield _text(found["default"])


def _resolved(schema: Mapping[str, Any], field: Mapping[str, Any]) -> Mapping[str, Any]:
    if "$ref" not in field:
        return field
    return {**schema["$defs"][field["$ref"].rpartition("/")[2]], **field}


def _text(value: object) -> str:
    """Write a value as YAML has it."""
    return value if isinstance(value, str) else json.dumps(value)
