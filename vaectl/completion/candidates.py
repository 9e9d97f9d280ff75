"""Find the words that may stand at the cursor, by the words before it."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from vaectl.completion import places
from vaectl.completion.shells import Candidate

BY_METAVAR: Mapping[str, Callable[[places.Given, str], Sequence[str]]] = {
    "RUN": places.runs,
    "RUN|CONFIG": places.runs,
    "RUN|COMPARISON": places.drawable,
    "RUN_NAME": places.owned,
    "GLOB": places.names,
    "CONFIG": places.configurations,
    "CHECKPOINT": places.checkpoints,
}
"""Functions that look up values at each call, by the metavar of an option or argument."""
_PLAIN = re.compile(r"[\w@%+=:,./-]+", re.ASCII)
"""A word that needs no quotes. Other words are not offered: zsh evaluates the candidates, and the
name of a directory may contain anything."""
ASSIGNMENTS = ("KEY=VALUE", "KEY=VALUES")
"""The metavars of settings of the configuration."""


def find(known: Mapping[str, Any], before: Sequence[str], word: str) -> list[Candidate]:
    """Return all words that begin like the word at the cursor, with their descriptions.

    Args:
        known: see `vaectl.completion.words`.
        before: the words after `vaectl` and before the cursor.
        word: its beginning.
    """
    command, waiting, given, position = _read(known["command"], before)
    option, equals, value = word.partition("=")
    if waiting is None and equals and option in command["options"]:
        found = _values(known, command["options"][option], given, value)
        return [(f"{option}={each}", told) for each, told in found]
    if waiting is not None:
        return _values(known, waiting, given, word)
    if word.startswith("-"):
        options = command["options"].items()
        return [(name, option["help"]) for name, option in options if name.startswith(word)]
    found = [
        (name, below["help"])
        for name, below in command["commands"].items()
        if name.startswith(word) and not position
    ]
    argument = _argument(command, position)
    return found + (_values(known, argument, given, word) if argument else [])


def _read(
    command: Mapping[str, Any], before: Sequence[str]
) -> tuple[Mapping[str, Any], Mapping[str, Any] | None, dict[str, str], int]:
    """Read a line until the cursor.

    Returns:
        Its command, the option that waits for a value, what is given, and the number of arguments
        that the command has already.
    """
    given: dict[str, str] = {}
    waiting, missing, position = None, 0, 0
    for word in before:
        option, equals, value = word.partition("=")
        if missing:
            missing -= 1
            _note(given, waiting, word)
        elif word in command["options"]:
            waiting = command["options"][word]
            missing = waiting["takes"]
        elif equals and option in command["options"]:
            _note(given, command["options"][option], value)
        elif word in command["commands"] and not position:
            command = command["commands"][word]
        elif not word.startswith("-"):
            _note(given, _argument(command, position), word)
            position += 1
    return command, waiting if missing else None, given, position


def _note(given: dict[str, str], what: Mapping[str, Any] | None, word: str) -> None:
    if what is not None:
        given.update({what["name"]: word, what["metavar"]: word})


def _argument(command: Mapping[str, Any], position: int) -> Mapping[str, Any] | None:
    """Return the argument at a position; the last one may repeat."""
    arguments: Sequence[Mapping[str, Any]] = command["arguments"]
    if position < len(arguments):
        return arguments[position]
    return arguments[-1] if arguments and arguments[-1]["repeats"] else None


def _values(
    known: Mapping[str, Any], what: Mapping[str, Any], given: Mapping[str, str], word: str
) -> list[Candidate]:
    values: Sequence[str]
    if what["metavar"] in ASSIGNMENTS:
        values = _assignments(known["keys"], known["short"], word)
    elif what["metavar"] in BY_METAVAR:
        values = BY_METAVAR[what["metavar"]](given, word)
    else:
        values = what["values"]
    return [(value, "") for value in values if value.startswith(word) and _PLAIN.fullmatch(value)]


def _assignments(
    keys: Mapping[str, Sequence[str]], short: Mapping[str, Sequence[str]], word: str
) -> list[str]:
    """Return matching keys, or the values of a key that is complete or the only match.

    A shell adds a space after a single candidate, so a key is never offered alone, without a value.
    """
    key, equals, _ = word.partition("=")
    if not any(name.startswith(key) for name in keys):
        keys = short
    meant = [key] if equals else [name for name in keys if name.startswith(key)]
    if len(meant) == 1:
        return [f"{meant[0]}={value}" for value in ("", *keys.get(meant[0], ()))][bool(equals) :]
    return [f"{name}=" for name in meant]
