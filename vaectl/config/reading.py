"""Reading of configurations: YAML with line numbers, overrides, validation; and writing them.

All problems are reported at once, each with its file and line or option, and its dotted path.
"""

from __future__ import annotations

import difflib
import io
import re
import shlex
import warnings
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, get_args

from pydantic import ValidationError
from pydantic_core import ErrorDetails
from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.error import MarkedYAMLError, ReusedAnchorWarning
from ruamel.yaml.scalarbool import ScalarBoolean

from vaectl.base import plugins
from vaectl.base.errors import ConfigError
from vaectl.base.files import read
from vaectl.base.nearest import did_you_mean, did_you_mean_path, nearest
from vaectl.base.section import CONFLICT, Section, description
from vaectl.base.terminal import visible
from vaectl.base.validation import reason, shown
from vaectl.config import schema

if TYPE_CHECKING:
    from vaectl.config.schema import Config

ALL_KEYS = "vaectl config show prints every key with its default"
"""The hint for wrong keys, and for several problems of different kinds."""
_SYNTAX = "a line is KEY: VALUE, keys below another are indented by spaces, and brackets are closed"
_SHORT = "a configuration has fewer keys, each once; is this another file?"

MOST_BYTES = 2**16
"""The largest file that is read: ten times a configuration, and two seconds of parsing."""
MOST_VALUES = 1000
"""The most values of a file, after aliases are expanded: nested aliases could fill the memory."""

BASE = "base"
"""The key of the file whose experiment a file changes."""
_OF_STUDIES = {
    "sweep": frozenset(("vary",)),
    "comparison": frozenset(
        ("workloads", "optimizers", "protocol", "seeds", "tuning", "target", "importance_samples")
    ),
}
"""Keys that no experiment has, by the kind of study that has them."""
COMMANDS = {"sweep": "sweep", "comparison": "compare-optimizers"}
"""The command of each kind of study."""

Kind = TypeVar("Kind", bound=Section)

_Path = tuple[str | int, ...]
Origins = dict[_Path, str]
"""The origin of each value, "file:line" or an option, by its path of keys."""


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
        content: the file's content, if it was read already; it may not be based on other files.
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
    assign(values, origins, assignments)
    for key, value in (options or {}).items():
        if value is not None:
            put(values, origins, key, value, _flag(key))
    load_plugs(values)
    return build(schema.Config, values, origins)


def of_mapping(values: Mapping[str, Any]) -> Config:
    """Validate a configuration given as nested mappings.

    Raises:
        ConfigError: lists all problems.
    """
    load_plugs(values)
    return build(schema.Config, dict(values), {})


def study_of(values: Mapping[str, Any]) -> str:
    """Name the kind of study that a file configures; nothing if it is one experiment."""
    found = (kind for kind, keys in _OF_STUDIES.items() if not keys.isdisjoint(values))
    return next(found, "comparison" if isinstance(values.get(BASE), dict) else "")


def read_experiment(
    file: Path, origins: Origins, below: _Path = (), *, above: Sequence[Path] = ()
) -> dict[str, Any]:
    """Read the keys of an experiment; what its file leaves out is of the file that `base` names.

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
        raise ConfigError(f"{file}: more than {MOST_VALUES} values, with its bases", hint=_SHORT)
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
    below: _Path = (),
) -> dict[str, Any]:
    """Return an experiment with other values for some keys.

    Args:
        values: the experiment.
        over: the keys that differ.
        origins: of the experiment's keys; it takes over those of the others.
        lines: the origins of the others.
        below: the path of the experiment's keys in both.
    """
    load_plugs({**values, **over})
    found = {key: _settled(key, value) for key, value in values.items()}
    # names first: a key beside a name is one of the plug that is chosen in the end
    for path, value in sorted(_leaves(over), key=lambda leaf: leaf[0][-1] != "name"):
        section = found
        for parent in path[:-1]:
            inner = section.get(parent)
            section[parent] = dict(inner) if isinstance(inner, dict) else {}
            section = section[parent]
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


def assign(
    values: dict[str, Any], origins: Origins, assignments: Sequence[str], *, below: str = ""
) -> None:
    """Apply `dotted.key=value` in order, to the keys below a prefix such as `base.`."""
    for assignment in assignments:
        key, separator, text = assignment.partition("=")
        if not separator or not key.strip():
            raise ConfigError(
                f"--set {assignment}: not of the form key=value",
                hint="for example --set model.code_size=2",
            )
        origin = f"--set {assignment}"
        put(values, origins, below + key.strip(), parse_value(text, origin), origin)


def load_plugs(values: Mapping[str, Any]) -> None:
    """Load the plugs of installed packages if a name is not that of a loaded plug.

    Raises:
        ConfigError: a package's plug fails to load.
    """
    for kind, choice in schema.CHOICES.items():
        section = values.get(kind)
        name = section.get("name") if isinstance(section, dict) else None
        if isinstance(name, str) and name not in choice.plugs.known:
            plugins.load_installed()


def build(
    model: type[Kind], values: dict[str, Any], origins: Origins, hint: str | None = None
) -> Kind:
    """Validate values.

    Args:
        model: the section that they are.
        values: the values.
        origins: the origin of each.
        hint: what to try; None for what helps against the problems that there are.

    Raises:
        ConfigError: lists all problems, each with its place.
    """
    try:
        return model.model_validate(values)
    except ValidationError as error:
        problems = sorted(error.errors(), key=lambda details: _rank(details, origins))
        raise ConfigError(
            "\n".join(_explain(details, origins, values, model) for details in problems),
            hint=hint or _hint(problems, model),
        ) from None


def dump(config: Section, header: str = "") -> str:
    """Return the whole configuration as YAML, below an optional comment."""
    yaml = YAML()
    yaml.representer.add_representer(type(None), _represent_null)
    stream = io.StringIO()
    yaml.dump(config.model_dump(mode="json"), stream)
    comment = "".join(f"# {visible(line)}\n" for line in header.splitlines())
    return comment + stream.getvalue()


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


def _represent_null(representer: Any, _: None) -> Any:
    """Write None as `null`, which ruamel.yaml would leave out."""
    return representer.represent_scalar("tag:yaml.org,2002:null", "null")


def read_mapping(
    file: Path, origins: Origins, below: _Path = (), content: bytes | None = None
) -> dict[str, Any]:
    """Read a mapping, and note the line of each key in `origins`, with its path below `below`.

    Raises:
        ConfigError: the file cannot be read, or is not a YAML mapping.
    """
    try:
        text = (read(file, MOST_BYTES) if content is None else content).decode()
    except UnicodeDecodeError:
        raise ConfigError(f"{file}: not UTF-8 text", hint="a configuration is YAML text") from None
    except OSError as error:
        raise ConfigError(
            f"{file}: cannot be read ({error.strerror}){did_you_mean_path(file)}",
            hint="give a YAML file; vaectl config show > FILE.yaml writes one to start from",
        ) from None
    try:
        document = _plain(_loaded(text), below, str(file), origins)
    except MarkedYAMLError as error:
        line = f":{error.problem_mark.line + 1}" if error.problem_mark else ""
        raise ConfigError(f"{file}{line}: not valid YAML: {error.problem}", hint=_SYNTAX) from None
    except RecursionError:
        raise ConfigError(
            f"{file}: nested too deeply, or an alias inside its own anchor", hint=_SHORT
        ) from None
    except Exception as error:  # the loader lets errors of tags and scalars through
        raise ConfigError(f"{file}: not valid YAML: {error}", hint=_SYNTAX) from None
    if document is None:
        return {}
    if not isinstance(document, dict):
        raise ConfigError(
            f"{file}: must be a mapping of keys to values, not {_kind(document)}",
            hint="write lines of KEY: VALUE, as vaectl config show prints them",
        )
    return document


@lru_cache(maxsize=32)
def _loaded(text: str) -> Any:
    """Load YAML with the round-trip loader: it makes plain data only, and keeps line numbers.

    Results are kept, because a command reads some files several times and parsing one takes 20 ms.
    Callers must not change them.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ReusedAnchorWarning)  # YAML allows it
        return YAML(typ="rt").load(text)


def _plain(node: Any, path: _Path, file: str, origins: Origins) -> Any:
    """Turn the loader's types into plain ones, and note the line of each key."""
    if len(origins) > MOST_VALUES:
        raise ValueError(f"more than {MOST_VALUES} values, with aliases expanded")
    if isinstance(node, CommentedMap):
        plain = {}
        lines = node.lc.data or {}
        for key, value in node.items():
            place = (*path, str(key))
            # a key from an alias has no line of its own: take that of its mapping
            line = lines[key][0] if key in lines else node.lc.line
            origins[place] = f"{file}:{line + 1}"
            plain[str(key)] = _plain(value, place, file, origins)
        return plain
    if isinstance(node, CommentedSeq):
        items = []
        for i, value in enumerate(node):
            origins[*path, i] = f"{file}:{node.lc.line + 1}"
            items.append(_plain(value, (*path, i), file, origins))
        return items
    if isinstance(node, ScalarBoolean):  # not a bool, which cannot be subclassed
        return bool(node)
    for kind in (bool, int, float, str):
        if isinstance(node, kind):
            return kind(node)
    return node


def parse_value(text: str, origin: str) -> object:
    """Read a value that an option has in YAML.

    Raises:
        ConfigError: it is not YAML.
    """
    try:
        return _plain(_loaded(text), (), "", {})
    except Exception:  # as in read_mapping
        raise ConfigError(
            f"{origin}: the value is not valid YAML",
            hint="quote it for the shell and for YAML, for example 'KEY=\"some text\"'",
        ) from None


def put(values: dict[str, Any], origins: Origins, dotted: str, value: object, origin: str) -> None:
    """Set a key by its dotted path, and note its origin.

    Raises:
        ConfigError: a part of the path has a value that is not a mapping.
    """
    *parents, last = dotted.split(".")
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


def _make_way(values: dict[str, Any], path: _Path) -> _Path | None:
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
    section, plug = values[str(kind)], _chosen(values, str(kind))
    if len(rest) == 1 and isinstance(section.get(plug), dict):
        section[plug] = {key: value for key, value in section[plug].items() if key != rest[0]}
        return kind, plug, rest[0]
    if len(rest) == 2 and rest[0] == plug:
        section.pop(rest[1], None)
        return kind, rest[1]
    return None


def _chosen(values: dict[str, Any], kind: str) -> str:
    """Name the chosen plug; for an unknown name, which is reported elsewhere, the default."""
    section = values.get(kind)
    name = section.get("name") if isinstance(section, dict) else None
    choice = schema.CHOICES[kind]
    return name if isinstance(name, str) and name in choice.plugs.known else choice.default


def _flag(key: str) -> str:
    """Return the short option that sets a key."""
    kind, _, name = key.rpartition(".")
    return f"--{kind if name == 'name' else name.replace('_', '-')}"


def _rank(details: ErrorDetails, origins: Origins) -> int:
    """Return the position of a problem in the order of the file and the options."""
    place = _known_place(details, origins)
    return list(origins).index(place) if place in origins else len(origins)


def _known_place(details: ErrorDetails, origins: Origins) -> _Path:
    """Return the longest prefix of a problem's path that the file or an option has set."""
    path = details["loc"]
    if len(path) == 3 and path not in origins and (path[0], path[2]) in origins:
        path = path[0], path[2]  # a key of the chosen plug, written beside its name
    return next((path[:n] for n in range(len(path), 0, -1) if path[:n] in origins), path)


def _explain(
    details: ErrorDetails, origins: Origins, values: dict[str, Any], model: type[Section]
) -> str:
    dotted = ".".join(map(str, _given(details["loc"], values)))
    where = origins.get(_known_place(details, origins), "")
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
    meant = isinstance(given, str) and f"{dotted}.name" in keys(model)
    mean = f"; did you mean {dotted}.name?" if meant else ""
    return f"{prefix}{reason(details)}, not {shown(given)}{mean}"


def _is_option(origin: str) -> bool:
    return origin.startswith("--") and " " not in origin


_CHOICES = {"literal_error": "expected", "union_tag_invalid": "expected_tags"}
"""Errors of a name that is none of those known, and where they list these."""


def _hint(problems: Sequence[ErrorDetails], model: type[Section]) -> str:
    """Return what to try against problems; if each needs something else, where all keys are."""
    hints = {_hint_of(details, model) for details in problems}
    return hints.pop() if len(hints) == 1 else ALL_KEYS


def _hint_of(details: ErrorDetails, model: type[Section]) -> str:
    if details["type"] == CONFLICT:
        return str(details["ctx"].get("hint") or ALL_KEYS)
    path = [part for part in details["loc"] if isinstance(part, str)]
    if path[-1:] == ["name"] and path[-2:-1] and path[-2] in schema.CHOICES:
        return f"use one of these; --plugin FILE.py loads {path[-2]}s of your own"
    if details["type"] == "model_type":
        return "write its keys below it, as vaectl config show prints them"
    section, field = _field(model, path)
    said = description(section, field) if section and details["type"] != "extra_forbidden" else ""
    if section is None or not said:
        return ALL_KEYS
    default = section.model_fields[field].default
    simple = default is None or isinstance(default, bool | int | float | str)
    return f"{field}{f' (default {shown(default)})' if simple else ''}: {said}"


def _field(model: type[Section], path: Sequence[str]) -> tuple[type[Section] | None, str]:
    """Return the section that has the key at the end of a path, and the key; None if none has."""
    sections = [model]
    for name in path[:-1]:
        there = [each.model_fields[name] for each in sections if name in each.model_fields]
        sections = [part for field in there for part in _sections(field.annotation)] or sections
    last = path[-1] if path else ""
    return next((each for each in sections if last in each.model_fields), None), last


def _given(path: _Path, values: Any) -> Iterator[str | int]:
    """Yield a problem's path without the tags that the validator adds for types in a union."""
    for part in path[:-1]:
        try:
            values = values[part]
        except (KeyError, IndexError, TypeError):
            continue
        yield part
    yield from path[-1:]


def _kind(value: object) -> str:
    names = {str: "a string", list: "a list", bool: "a boolean", int: "a number", float: "a number"}
    return next((name for kind, name in names.items() if isinstance(value, kind)), "a value")


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
            of_chosen = f"{prefix}{kind}.{_chosen(experiment, kind)}.{name}"
            if of_chosen in by_last[name]:
                return of_chosen
        return max(by_last[name], key=lambda key: difflib.SequenceMatcher(a=dotted, b=key).ratio())
    others = [key for key in known if not dotted.startswith(f"{key}.")]
    return next(iter(nearest(dotted, others)), None)
