"""Reading of configurations: files, the files in their key `base`, overrides, validation.

All problems are reported at once, each with its file and line or option, and its dotted path.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import ValidationError

from vaectl.base import plugins
from vaectl.base.errors import ConfigError
from vaectl.base.section import Section
from vaectl.base.validation import shown
from vaectl.config import problems, schema
from vaectl.config.documents import MOST_VALUES, SHORT, Origins, Place, parse_value, read_mapping
from vaectl.config.schema import BASE

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
        values = written_out(read_mapping(file, origins, content=content), origins)
    change(values, origins, assignments, options or {})
    return build(schema.Config, values, origins)


def of_mapping(values: Mapping[str, Any]) -> Config:
    """Validate a configuration given as nested mappings.

    Raises:
        ConfigError: lists all problems.
    """
    return build(schema.Config, written_out(_plain(values), {}), {})


def _plain(value: Any) -> Any:
    """Return mappings of any kind as dicts, and NumPy's numbers and arrays as Python's."""
    if isinstance(value, Mapping):
        return {key: _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
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
        return written_out(values, origins, below)
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
    chosen = _merged(values, over)
    whole = written_out(values, origins, below, chosen=chosen)
    found = _merged(whole, written_out(over, lines, below, chosen=chosen))
    origins.update(lines)
    return found


def _merged(values: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Return nested mappings with the values of others; an empty mapping changes nothing."""
    found = dict(values)
    for key, value in over.items():
        there = found.get(key)
        inner = there if isinstance(there, dict) else {}
        found[key] = _merged(inner, value) if isinstance(value, dict) else value
    return found


def written_out(
    values: Mapping[str, Any],
    origins: Origins,
    below: Place = (),
    *,
    chosen: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Return an experiment whose keys of plugs stand in the plugs' subsections.

    A key of the chosen plug may be written beside its name: `model.hidden_size` is short for
    `model.mlp.hidden_size`.

    Args:
        values: the experiment, or some of its keys.
        origins: the origins of the keys, which move too.
        below: the path of the keys in `origins`.
        chosen: the experiment that names the plugs; None for `values`.

    Raises:
        ConfigError: a package's plug fails to load.
    """
    chosen = values if chosen is None else chosen
    _load_plugs(chosen)
    found, moved = dict(values), dict[Place, Place]()
    for kind, choice in schema.CHOICES.items():
        section, choosing = values.get(kind), chosen.get(kind)
        plug = choosing.get("name", choice.default) if isinstance(choosing, dict) else None
        # keys beside an unknown name stay: they may be those of the plug that an option chooses
        if isinstance(section, dict) and isinstance(plug, str):
            found[kind] = choice.written_out(section, plug)
            gone = section.keys() - found[kind].keys()
            moved |= {(*below, kind, key): (*below, kind, plug, key) for key in gone}
    to = len(below) + 2
    lines = {(*moved.get(at[:to], at[:to]), *at[to:]): line for at, line in origins.items()}
    origins.clear()
    origins.update(lines)  # keep the order, in which problems are reported
    return found


def _same(one: Path, other: Path) -> bool:
    try:
        return one.resolve() == other.resolve()
    except (OSError, RuntimeError):
        return False


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


def _load_plugs(values: Mapping[str, Any]) -> None:
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
    """Return the JSON Schema of a configuration file with all installed plugs, for editors.

    It takes what `read_experiment` takes: no key is required, since a base may have it, and keys of
    plugs may stand beside the plugs' names.
    """
    plugins.load_installed()
    found = schema.Config.model_json_schema()
    for section in found["$defs"].values():
        section.pop("required", None)
    for kind in schema.CHOICES:
        _add_short_keys(found, kind)
    found["properties"][BASE] = {
        "type": "string",
        "description": "A YAML file, relative to this one, whose experiment this one changes.",
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **found,
        "title": "vaectl configuration",
    }


def _add_short_keys(found: dict[str, Any], kind: str) -> None:
    """Let the section of a kind in a JSON Schema have the keys of its plugs: see `written_out`."""

    def keys_of(field: dict[str, str]) -> dict[str, Any]:
        name = field["$ref"].rpartition("/")[2]
        keys: dict[str, Any] = found["$defs"][name].get("properties", {})
        return keys

    choice, keys = schema.CHOICES[kind], keys_of(found["properties"][kind])
    forms: dict[str, list[dict[str, Any]]] = {}
    for name in choice.plugs.known:
        for key, field in keys_of(keys[name]).items():
            form = {word: value for word, value in field.items() if word != "default"}
            if len(choice.path_of(key, name)) > 1 and form not in forms.setdefault(key, []):
                forms[key].append(form)
    keys |= {key: {"anyOf": those} for key, those in forms.items()}


def put(values: dict[str, Any], origins: Origins, dotted: str, value: object, origin: str) -> None:
    """Set a key by its dotted path, and note its origin.

    Raises:
        ConfigError: a part of the path has a value that is not a mapping.
    """
    keys = dotted.split(".")
    below = (BASE,) if dotted.startswith(f"{BASE}.") else ()
    experiment = values.setdefault(BASE, {}) if below else values
    if isinstance(experiment, dict):
        keys = [*below, *schema.place(keys[len(below) :], experiment)]
    path = tuple(keys)
    section = values
    for parent in path[:-1]:
        there = section.setdefault(parent, {})
        if not isinstance(there, dict):
            raise ConfigError(
                f"{origin}: {dotted}: {parent} is {shown(there)}, not a mapping of keys to values",
                hint=f"give {parent} keys of its own; vaectl config show prints those that it has",
            )
        section = there
    section[path[-1]] = value
    for known in [known for known in origins if known[: len(path)] == path]:
        del origins[known]
    origins[path] = origin
    if _turn(dotted) < 2:  # other keys may be those of the plug that is chosen now
        experiment.update(written_out(experiment, origins, below))


def _flag(key: str) -> str:
    """Return the short option that sets a key."""
    above, _, name = key.rpartition(".")
    word = above.rpartition(".")[2] if name == "name" and above else name
    return f"--{word.replace('_', '-')}"
