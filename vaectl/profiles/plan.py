"""The configuration of a profile: a comparison for each workload. No JAX.

    workloads:
      z2: base.yaml
      z20: {file: base.yaml, model: {code_size: 20}}
      conv: {model: {name: conv}, target: -100.0}

All other keys are those of a comparison, and hold for all workloads.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import Any

from pydantic import model_serializer

from vaectl.base.errors import ConfigError
from vaectl.base.section import Section
from vaectl.base.validation import shown
from vaectl.comparison import plan
from vaectl.comparison.plan import Comparison
from vaectl.config import documents, schema
from vaectl.runs.names import is_name

KEY = "workloads"
_TARGET = "target"
_GIVE_TARGETS = (
    "target: {at: 0.75} beside workloads is what the baseline reaches on each at that part of its "
    "epochs; a number is the target of one workload, and stands among its keys"
)


class Workloads(Section):
    """A comparison of the same optimizers on each of several workloads."""

    workloads: dict[str, Comparison]
    """The comparison of each, by its name."""

    @model_serializer
    def _as_in_a_file(self) -> dict[str, Any]:
        """Write each experiment and its target below its name, and once what all of them share."""
        shared = {name: one.model_dump(mode="json") for name, one in self.workloads.items()}
        own = {
            name: {**one.pop(schema.BASE), _TARGET: one.pop(_TARGET)}
            for name, one in shared.items()
        }
        return {KEY: own, **next(iter(shared.values()))}


def has_workloads(file: Path | None) -> bool:
    """Tell whether a file is the configuration of a profile.

    Raises:
        ConfigError: it cannot be read.
    """
    return file is not None and KEY in documents.read_mapping(file, {})


def load(
    file: Path,
    *,
    assignments: Sequence[str] = (),
    options: Mapping[str, object] | None = None,
    added: Sequence[str] = (),
) -> Workloads:
    """Read the comparison of each workload, apply overrides to all, validate everything once.

    Args:
        file: a YAML file with the key `workloads`.
        assignments: `dotted.key=value` for the experiment of every workload.
        options: dotted key of the comparisons to value; None: not given.
        added: names of optimizers to add to those of the file.

    Raises:
        ConfigError: lists all problems, each with its place.
    """
    origins: documents.Origins = {}
    values = documents.read_mapping(file, origins)
    problems = _problems(values, origins)
    named = values[KEY] if isinstance(values[KEY], dict) else {}
    found: dict[str, Comparison] = {}
    for name in named or [None]:  # without workloads, the other keys may have problems, too
        try:
            one = plan.load(
                file,
                assignments=assignments,
                options=options,
                added=added,
                read=partial(_read, name),
            )
        except ConfigError as error:
            for line in error.message.splitlines():
                problems.setdefault(_renamed(line, name), error.hint)
        else:
            if isinstance(named.get(name), str | dict):
                found[str(name)] = one
    for (a, one), (b, other) in combinations(found.items(), 2):
        if _experiment(one) == _experiment(other):
            problems[f"{_place(origins, b)}: the same experiment as {a}"] = "remove one of them"
    if problems:
        ordered = sorted(problems, key=partial(_line, file))
        raise ConfigError("\n".join(ordered), hint=problems[ordered[0]])
    return Workloads(workloads=found)


def _problems(values: Mapping[str, Any], origins: documents.Origins) -> dict[str, str]:
    """Return what is wrong with the workloads themselves, with what to try."""
    found: dict[str, str] = {}
    named, shared = values[KEY], values.get(_TARGET)
    if not isinstance(named, dict) or not named:
        given = "an empty mapping" if named == {} else shown(named)
        found[f"{origins[KEY,]}: {KEY}: should be experiments by name, not {given}"] = (
            "write NAME: FILE.yaml, or NAME: and the keys of an experiment, one a line"
        )
        named = {}
    if schema.BASE in values:
        found[f"{origins[schema.BASE,]}: base: each workload has its own: leave it out"] = (
            "a workload that is {file: FILE.yaml, KEY: VALUE} is based on a file"
        )
    for name, one in named.items():
        place = _place(origins, name)
        if not is_name(name):
            found[f"{place}: not usable as a name"] = (
                "use letters, digits, '.', '_' and '-', beginning with a letter or digit"
            )
        if not isinstance(one, str | dict):
            found[f"{place}: should be a file or the keys of an experiment, not {shown(one)}"] = (
                "write NAME: FILE.yaml, or NAME: {KEY: VALUE}"
            )
        own = one.get(_TARGET) if isinstance(one, dict) else None
        if own is None and not isinstance(shared, dict):
            other = "" if shared is None else f", and {shown(shared)} is not one for all"
            found[f"{place}: has no target{other}"] = _GIVE_TARGETS
    return found


def _read(name: str | None, file: Path, origins: documents.Origins) -> dict[str, Any]:
    """Read the comparison of one workload; None for the keys that all workloads share."""
    own: documents.Origins = {}
    values = documents.read_mapping(file, own)
    named = values.pop(KEY)
    values.pop(schema.BASE, None)
    shared = {path: line for path, line in own.items() if path[0] not in (KEY, schema.BASE)}
    if name is None:
        origins.update(shared)
        return values
    base = {"file": named[name]} if isinstance(named[name], str) else named[name]
    mine = {path[2:]: line for path, line in own.items() if path[:2] == (KEY, name)}
    if isinstance(base, dict) and (target := base.pop(_TARGET, None)) is not None:
        values[_TARGET] = target
        shared = {path: line for path, line in shared.items() if path[0] != _TARGET}
    for path, line in mine.items():
        shared[path if path[:1] == (_TARGET,) else (schema.BASE, *path)] = line
    origins.update(shared)
    # what is no experiment is reported as such
    return {**values, schema.BASE: base if isinstance(base, dict) else {}}


def _renamed(line: str, name: str | None) -> str:
    """Write a problem with the keys as they are in the file: below `workloads`."""
    return re.sub(r"(: |key |mean )base(?=[.:])", lambda found: f"{found[1]}{KEY}.{name}", line)


def _line(file: Path, problem: str) -> float:
    """Return the line of the file at which a problem is; other origins come last."""
    found = re.match(rf"{re.escape(str(file))}:(\d+): ", problem)
    return int(found[1]) if found else math.inf


def _place(origins: documents.Origins, name: str) -> str:
    return f"{origins[KEY, name]}: {KEY}.{name}"


def _experiment(settings: Comparison) -> Any:
    """Return the experiment; its seed is that of no member."""
    return settings.base.model_copy(update={"seed": 0})
