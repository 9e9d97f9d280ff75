"""Plugs as options of the command line have them."""

from __future__ import annotations

import re
from typing import Any

from vaectl.base import plugins
from vaectl.base.errors import ConfigError
from vaectl.base.plugs import Plug
from vaectl.config import documents, reading


def parse(kind: type[Plug], text: str, option: str) -> Any:
    """Read NAME, NAME:KEY=VALUE,KEY=VALUE with values in YAML, or NAME:VALUE of its `argument`.

    Raises:
        ConfigError: no such plug, no such setting, one that comes twice, or a wrong value.
    """
    origin = f"{option} {text}"
    name, colon, rest = text.partition(":")
    plug = plugins.named(kind, name, origin)
    values: dict[str, Any] = {}
    hint = f"the settings of {name}: {', '.join(plug.model_fields) or 'none'}"
    for setting in re.split(r",(?=\w+=)", rest) if colon else ():
        key, equals, value = setting.partition("=")
        if not (equals and key.isidentifier()):
            if not plug.argument:
                raise ConfigError(f"{origin}: {setting!r} is not of the form KEY=VALUE", hint=hint)
            key, value = plug.argument, setting
        if key in values:
            raise ConfigError(f"{origin}: {key} comes twice", hint="give each setting once")
        values[key] = documents.parse_value(value, origin)
    return reading.build(plug, values, {(key,): origin for key in values}, hint=hint)
