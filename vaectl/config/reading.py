"""Reading of configurations: files, the files in their key `base`, overrides, validation.

All problems are reported at once, each with its file and line or option, and its dotted path.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import ValidationError

from vaectl.base import plugins
from vaectl.base.errors import ConfigError
from vaectl.base.section import Section
from vaectl.base.validation import shown
from vaectl.config import problems, schema
from vaectl.config.documents import MOST_VALUES, SHORT, Origins, Place, parse_value, read_mapping
from vaectl.config.schema import BASE, chosen_name

if TYPE_CHECKING:
    from vaectl.config.schema import Config

_OF_STUDIES = {
    "sweep": frozenset(("vary",)),
    "comparison": frozenset(
        ("workloads", "optimizers", "protocol", "seeds", "tuning", "target", "importance_samples")
    ),
}
"""Keys by which a file is recognized as a study: each belongs to one kind of study only."""
COMMANDS = {"sweep": "sweep", "comparison": "compare-optimizers"}
"""The command of each kind of study."""

Kind = TypeVar("Kind", bound=Section)


def load(
    file: Path | None = None,
    *,
    content: bytes | None = None,
    assignments: Sequence[str] = (),
    options: Mapping[str, object] | None = None,
) -> Config:
    """Read a YAML file (or the defaults), apply overrides, validate everything once.

    Args:
        file: a YAML file; None for the built-in default.
        content: the file's content, if it was read already; it must not have the key `base`.
        assignments: `dotted.key=value`, the value in YAML; applied in order, after the file.
        options: dotted key to value (None: not given), applied last.

    Raises:
        ConfigError: lists all problems, each with its place.
    """
    values: dict[str, Any] = {}
    origins: Origins = {}
    if file is not None and content is None:
        values = read_experiment(file, origins)
    elif file is not None:
        values = read_mapping(file, origins, content=content)
    change(values, origins, assignments, options or {})
    load_plugs(values)
    return build(schema.Config, values, origins)


def of_mapping(values: Mapping[str, Any]) -> Config:
    """Validate a configuration given as nested mappings.

    Raises:
        ConfigError: lists all problems.
    """
    plain: dict[str, Any] = _plain(values)
    load_plugs(plain)
    return build(schema.Config, plain, {})


def _plain(value: Any) -> Any:
    """Return mappings of any kind as dicts, and NumPy's numbers and arrays as Python's."""
    if isinstance(value, Mapping):
        return {key: _plain(each) for key, each in value.items()}
    return value.tolist() if hasattr(value, "tolist") else value


def study_of(values: Mapping[str, Any]) -> str:
    """Name the kind of study that a file configures; nothing if it is one experiment."""
    found = (kind for kind, keys in _OF_STUDIES.items() if not keys.isdisjoint(values))
    return next(found, "comparison" if isinstance(values.get(BASE), dict) else "")


def read_experiment(
    file: Path, origins: Origins, below: Place = (), *, above: Sequence[Path] = ()
) -> dict[str, Any]:
    """Read the keys of an experiment; missing keys come from the file that its key `base` names.

    Args:
        file: a YAML file. The path in its key `base` is relative to it.
        origins: notes the line of each key.
        below: the path of the experiment's keys in `origins`.
        above: the files that are based on this one.

    Raises:
        ConfigError: a file cannot be read, is a study, or is based on itself.
    """
    own: Origins = {}
    values = read_mapping(file, own, below)
    if kind := study_of(values):
        raise ConfigError(
            f"{file}: this is a {kind}, not one experiment",
            hint=f"vaectl {COMMANDS[kind]} {shlex.quote(str(file))}",
        )
    if len(origins) + len(own) > MOST_VALUES:
        raise ConfigError(f"{file}: more than {MOST_VALUES} values, with its bases", hint=SHORT)
    if BASE not in values:
        origins.update(own)
        return values
    base, line = values.pop(BASE), own.pop((*below, BASE))
    if not isinstance(base, str):
        raise ConfigError(
            f"{line}: base: should be the path of a YAML file, not {shown(base)}",
            hint="write base: FILE.yaml, relative to this file; its other keys stand beside it",
        )
    files = [*above, file]
    if any(_same(file.parent / base, each) for each in files):
        raise ConfigError(
            f"{line}: base: {file.parent / base} is based on itself", hint="base it on another file"
        )
    try:
        inherited = read_experiment(file.parent / base, origins, below, above=files)
    except ConfigError as error:
        raise ConfigError(f"{line}: base: {error.message}", hint=error.hint) from None
    return override(inherited, values, origins, own, below)


def override(
    values: dict[str, Any],
    over: Mapping[str, Any],
    origins: Origins,
    lines: Origins,
    below: Place = (),
) -> dict[str, Any]:
    """Return an experiment with other values for some keys.

    Args:
        values: the experiment.
        over: the keys that differ.
        origins: the origins of the experiment's keys; those of changed keys are replaced.
        lines: the origins of the others.
        below: the path of the experiment's keys in both.
    """
    load_plugs({**values, **over})
    found = {key: _settled(key, value) for key, value in values.items()}
    # names first: a key beside a name belongs to the plug that is finally chosen
    for path, value in sorted(_leaves(over), key=lambda leaf: leaf[0][-1] != "name"):
        section = found
        for parent in path[:-1]:
            inner = section.get(parent)
            section[parent] = dict(inner) if isinstance(inner, dict) else {}
            section = section[parent]
        if value == {} and isinstance(section.get(path[-1]), dict):
            continue  # a section that names no key changes none
        section[path[-1]] = value
        if other := _make_way(found, path):
            origins.pop((*below, *other), None)
    origins.update(lines)
    return found


def _same(one: Path, other: Path) -> bool:
    try:
        return one.resolve() == other.resolve()
    except (OSError, RuntimeError):
        return False


def _leaves(values: Mapping[str, Any], above: tuple[str, ...] = ()) -> Iterator[Any]:
    """Yield the path and the value of each key that has no keys below it."""
    for key, value in values.items():
        if isinstance(value, dict) and value:
            yield from _leaves(value, (*above, key))
        else:
            yield (*above, key), value


def _settled(kind: str, section: Any) -> Any:
    """Move keys beside a plug's name into its subsection, where another name leaves them."""
    if kind not in schema.CHOICES or not isinstance(section, dict):
        return section
    choice = schema.Config.model_fields[kind].annotation
    return choice.own_keys(section) if choice is not None else section


def change(
    values: dict[str, Any],
    origins: Origins,
    assignments: Sequence[str] = (),
    options: Mapping[str, object] | None = None,
    *,
    below: str = "",
) -> None:
    """Set keys: by assignments in their order, then by options.

    Whole sections are set first, then names of plugs, then other keys: a key beside a name belongs
    to the plug that is finally chosen.

    Args:
        values: where they are set.
        origins: the origin of each value.
        assignments: `dotted.key=value`, the value in YAML.
        options: dotted key to value (None: not given).
        below: the prefix of the assigned keys, such as `base.`; assignments may include or omit it.

    Raises:
        ConfigError: an assignment has another form, or a part of a path is no mapping.
    """
    found: list[tuple[str, object, str]] = []
    for assignment in assignments:
        key, separator, text = assignment.partition("=")
        origin = f"--set {assignment}"
        if not separator or not all(part.strip() for part in key.split(".")):
            raise ConfigError(
                f"{origin}: not of the form key=value", hint="for example --set model.code_size=2"
            )
        found.append((below + key.strip().removeprefix(below), parse_value(text, origin), origin))
    found += [(k, value, _flag(k)) for k, value in (options or {}).items() if value is not None]
    for key, value, origin in sorted(found, key=lambda each: _turn(each[0])):
        put(values, origins, key, value, origin)


def _turn(key: str) -> int:
    """Return when a key is set: 0 for the section of a plug, 1 for its name, 2 for all others."""
    path = key.removeprefix(f"{BASE}.").split(".")
    return 2 if path[0] not in schema.CHOICES or path[1:] not in ([], ["name"]) else len(path) - 1


def load_plugs(values: Mapping[str, Any]) -> None:
    """Load the plugs of installed packages if the values name a plug that is not loaded.

    Raises:
        ConfigError: a package's plug fails to load.
    """
    for kind, choice in schema.CHOICES.items():
        section = values.get(kind)
        name = section.get("name") if isinstance(section, dict) else None
        if isinstance(name, str):
            plugins.is_known(choice.plugs, name)


def build(
    model: type[Kind], values: dict[str, Any], origins: Origins, hint: str | None = None
) -> Kind:
    """Validate values; `hint` replaces what helps against the problems that there are.

    Raises:
        ConfigError: lists all problems, each with its place.
    """
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise problems.refusal(error, origins, values, model, hint) from None


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema of a configuration file with all installed plugs, for editors."""
    plugins.load_installed()
    found = schema.Config.model_json_schema()
    found["properties"][BASE] = {
        "type": "string",
        "description": "A YAML file, relative to this one, whose experiment this one changes.",
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **found,
        "title": "vaectl configuration",
    }


def put(values: dict[str, Any], origins: Origins, dotted: str, value: object, origin: str) -> None:
    """Set a key by its dotted path, and note its origin.

    Raises:
        ConfigError: a part of the path has a value that is not a mapping.
    """
    *parents, last = dotted.split(".")
    if last == "name":
        _settle(values, origins, tuple(parents))
    section = values
    for parent in parents:
        below = section.setdefault(parent, {})
        if not isinstance(below, dict):
            raise ConfigError(
                f"{origin}: {dotted}: {parent} is {shown(below)}, not a mapping of keys to values",
                hint=f"give {parent} keys of its own; vaectl config show prints those that it has",
            )
        section = below
    section[last] = value
    path = tuple(dotted.split("."))
    if other := _make_way(values, path):
        origins.pop(other, None)
    for known in [known for known in origins if known[: len(path)] == path]:
        del origins[known]
    origins[path] = origin


def _settle(values: dict[str, Any], origins: Origins, place: tuple[str, ...]) -> None:
    """Move keys beside a plug's name into its subsection, where other plugs do not get them."""
    kind = place[-1] if place and place[:-1] in ((), (BASE,)) else ""
    above: Any = values.get(BASE) if place[:-1] else values
    section = above.get(kind) if isinstance(above, dict) else None
    if kind not in schema.CHOICES or not isinstance(section, dict):
        return
    load_plugs({kind: section})
    settled = _settled(kind, section)
    moved = {(*place, key): (*place, chosen_name(above, kind), key) for key in section}
    moved = {old: new for old, new in moved.items() if old[-1] not in settled}
    above[kind] = settled
    lines = {moved.get(known, known): origin for known, origin in origins.items()}
    origins.clear()
    origins.update(lines)  # keep the order, in which problems are reported


def _make_way(values: dict[str, Any], path: Place) -> Place | None:
    """Remove the other spelling of a key, so that it overrides the file; return its path.

    A key of the chosen plug can be written as `model.hidden_size` or `model.mlp.hidden_size`.
    """
    if path[0] == BASE:  # the experiment of a comparison
        base = values.get(BASE)
        other = _make_way(base, path[1:]) if isinstance(base, dict) and path[1:] else None
        return (BASE, *other) if other else None
    if len(path) < 2 or path[0] not in schema.CHOICES:
        return None
    kind, *rest = path
    section, plug = values[str(kind)], chosen_name(values, str(kind))
    if len(rest) == 1 and isinstance(section.get(plug), dict):
        section[plug] = {key: value for key, value in section[plug].items() if key != rest[0]}
        return kind, plug, rest[0]
    if len(rest) == 2 and rest[0] == plug:
        section.pop(rest[1], None)
        return kind, rest[1]
    return None


def _flag(key: str) -> str:
    """Return the short option that sets a key."""
    above, _, name = key.rpartition(".")
    word = above.rpartition(".")[2] if name == "name" and above else name
    return f"--{word.replace('_', '-')}"
