"""The common part of the configurations of studies, and reading them."""

from __future__ import annotations

import copy
import shlex
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, BeforeValidator, Field
from pydantic_core import PydanticCustomError

from vaectl.base.errors import ConfigError
from vaectl.base.section import Section, conflict, flat
from vaectl.config import documents, reading
from vaectl.config.schema import CHOICES, Config, place
from vaectl.studies.ranges import Value

MOST_SEEDS = 200

Seed = Annotated[int, Field(ge=0, lt=2**32)]
Study = TypeVar("Study", bound=Section)
Read = Callable[[Path, documents.Origins], dict[str, Any]]
"""A function that reads a file, and notes the line of each key."""
Edit = Callable[[dict[str, Any], documents.Origins], None]
"""A function that changes the keys of a file, and notes where they come from."""


def counted_from(first: int) -> BeforeValidator:
    """Let a number N stand for a list of N seeds, counted from `first`."""

    def listed(value: object) -> object:
        if isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= MOST_SEEDS:
            return list(range(first, first + value))
        if not isinstance(value, list) or not value or len({*map(repr, value)}) < len(value):
            raise PydanticCustomError(
                "seeds", f"should be a number from 1 to {MOST_SEEDS}, or a list of different seeds"
            )
        return value

    return BeforeValidator(listed)


def load(
    model: type[Study],
    file: Path | None,
    *,
    assignments: Sequence[str] = (),
    options: Mapping[str, object] | None = None,
    edit: Edit = lambda _values, _origins: None,
    read: Read = documents.read_mapping,
) -> Study:
    """Read a study (or the default), apply overrides, validate everything once.

    Args:
        model: its configuration, which has the key `base`.
        file: a YAML file; None for the built-in default.
        assignments: `dotted.key=value` for the base experiment.
        options: dotted key of the study to value; None: not given.
        edit: changes the keys of the file, before options do.
        read: reads the file.

    Raises:
        ConfigError: lists all problems, each with its place.
    """
    origins: documents.Origins = {}
    values: dict[str, Any] = {} if file is None else read(file, origins)
    problems: list[ConfigError] = []
    if file is not None:
        _check_kind(model, file, values)
        problems += _write_out_base(values, file, origins)  # reported with all others
    if values.get("base") is None:
        values["base"] = model.model_fields["base"].default.model_dump()
    edit(values, origins)
    reading.change(values, origins, assignments, options, below="base.")
    try:
        settings = reading.build(model, values, origins)
    except ConfigError as error:
        problems.append(error)
    if problems:
        raise ConfigError("\n".join(map(str, problems)), hint=problems[0].hint)
    return settings


def _check_kind(model: type[Study], file: Path, values: Mapping[str, Any]) -> None:
    """Refuse a file that is a study of another kind, or one experiment.

    Raises:
        ConfigError: it is.
    """
    kind, found = (reading.study_of(each) for each in (model.model_fields, values))
    if found and not {*values} <= {*model.model_fields} and found != kind:
        raise ConfigError(
            f"{file}: this is a {found}, not a {kind}",
            hint=f"vaectl {reading.COMMANDS[found]} {shlex.quote(str(file))}",
        )
    if is_experiment(values):
        raise ConfigError(
            f"{file}: this is one experiment, not a {kind}",
            hint=f"vaectl train {shlex.quote(str(file))} trains it; a file with the line "
            f"base: {file.name} beside it makes a {kind} of it",
        )


def is_experiment(values: Mapping[str, Any]) -> bool:
    """Tell whether a file has the keys of one experiment, and none of a study."""
    return not reading.study_of(values) and not {*Config.model_fields}.isdisjoint(values)


def _write_out_base(
    values: dict[str, Any], file: Path, origins: documents.Origins
) -> list[ConfigError]:
    """Write out the key `base`, with all keys of the file that it names; return its problems."""
    own = values.get("base")
    if isinstance(own, str):
        own = values["base"] = {"file": own}
    if isinstance(own, dict) and isinstance(own.get("file"), str):
        lines = {path: line for path, line in origins.items() if path[0] == "base"}
        named = file.parent / own.pop("file")
        above = [] if named == file.absolute() else [file]
        try:
            of_file = reading.read_experiment(named, origins, ("base",), above=above)
            values["base"] = reading.override(of_file, own, origins, lines, ("base",))
        except ConfigError as error:
            return [ConfigError(f"{origins['base',]}: base: {error}", hint=error.hint)]
    elif isinstance(own, dict):
        values["base"] = reading.written_out(own, origins, ("base",))
    return []


def add(
    values: dict[str, Any],
    origins: documents.Origins,
    key: str,
    items: Sequence[object],
    option: str,
) -> None:
    """Add the items of an option to the list of a key; what is no list stays, to be reported."""
    there = values.get(key, [])
    listed = [{name: each} for name, each in there.items()] if isinstance(there, dict) else there
    if isinstance(listed, list):
        values[key] = [*listed, *items]
        line = origins.get((key,))
        origins[key,] = f"{line} and {option}" if line else option
        origins |= {(key, place): option for place in range(len(listed), len(values[key]))}


def to_the_end(base: Config) -> Config:
    """Refuse an experiment that may stop early: members are compared at equal numbers of epochs.

    Raises:
        PydanticCustomError: it has a patience.
    """
    if base.early_stopping.patience is not None:
        raise conflict(
            "early_stopping.patience: members are compared at equal numbers of epochs",
            hint="leave it out, or set it to null; a member's best epoch counts in any case",
        )
    return base


Base = Annotated[Config, AfterValidator(to_the_end)]
"""The experiment of a study."""


def differing(new: Section, old: Section, free: Sequence[str]) -> list[str]:
    """Return the settings that keep two studies from sharing trials, with both values.

    Args:
        new: the study that is asked for.
        old: the study that is there.
        free: keys that may differ.
    """
    # numbers do not depend on them
    free = [*free, "base.seed", "base.data.memory_gb"]
    here, there = (
        {
            key: value
            for key, value in flat(one.model_dump())
            if key not in free and not key.startswith(("base.checkpoint.", "base.published"))
        }
        for one in (new, old)
    )
    return [
        f"{key} was {there.get(key)}, is {here.get(key)}"
        for key in {**there, **here}
        if there.get(key) != here.get(key)
    ]


def resolved(base: Mapping[str, Any], values: Mapping[str, Value], origin: str) -> Config:
    """Return an experiment with other values.

    Args:
        base: the experiment.
        values: others, by dotted key, which may be short for the chosen plug's.
        origin: where they come from, for messages.

    Raises:
        ConfigError: it is none, or two keys are one key, written in short and in full.
    """
    mine = copy.deepcopy(dict(base))
    origins: documents.Origins = {}
    keys: dict[tuple[str, ...], str] = {}
    # names first: a key beside a name is one of the plug that is chosen in the end
    for key in sorted(values, key=lambda key: not key.endswith(".name")):
        if (other := keys.setdefault(place(key.split("."), mine), key)) != key:
            raise ConfigError(
                f"{origin} {other}: the same key as {key}", hint="leave one of the two out"
            )
        reading.put(mine, origins, key, copy.deepcopy(values[key]), f"{origin} {key}")
    settings = reading.build(Config, mine, origins)
    # the settings of plugs that are not chosen must not make a difference
    return settings.model_copy(update={kind: getattr(settings, kind).alone() for kind in CHOICES})
