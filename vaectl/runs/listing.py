"""Select and sort the runs that `vaectl runs` lists, with a comparison in one row.

Conditions are those of `--where`:

    optimizer=adam   data=mnist   status!=finished   elbo>-100   age<2d   model.code_size=20

A key is a column of the table, the score by which a run's best epoch is chosen, or a key of its
configuration. A condition on text holds if the text, or one of its parts between spaces, ':' and
'/', matches the value; the value may contain the wildcards * and ?. An age is a number of s, min, h
or d.
"""

from __future__ import annotations

import fnmatch
import math
import operator
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

from vaectl.base.errors import ConfigError
from vaectl.base.nearest import did_you_mean
from vaectl.config import problems, schema
from vaectl.runs.find import UNITS, Summary

COLUMNS: Mapping[str, Callable[[Summary], object]] = {
    "name": lambda row: row.name,
    "status": lambda row: row.status,
    "data": lambda row: row.data,
    "model": lambda row: row.model,
    "optimizer": lambda row: row.optimizer,
    "epochs": lambda row: row.epoch,
    "elbo": lambda row: row.best_score if row.best_quantity == "elbo" else None,
    "age": lambda row: _seconds_since(row.start) if row.start else None,
}
"""The columns of the table, by which runs are selected and sorted; `epochs` are those trained."""

_AGE = re.compile(r"(\d+(?:\.\d+)?)\s*(s|min|h|d)")
_FORM = re.compile(r"\s*([\w.-]+?)\s*(!=|<=|>=|=|<|>)\s*(.*?)\s*")
_SIGNS: Mapping[str, Callable[[Any, Any], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


class Condition(NamedTuple):
    """A condition."""

    key: str
    sign: str
    value: str

    def holds(self, row: Summary) -> bool:
        """Tell whether a run fulfils the condition; no condition holds for unknown values."""
        known = _known(row, self.key)
        if known is None:
            return False
        if self.sign in ("=", "!="):
            return _is(known, self.value) == (self.sign == "=")
        number = _number(known)
        limit = _age(self.value) if self.key == "age" else _number(self.value)
        if number is not None and limit is not None:
            return _SIGNS[self.sign](number, limit)
        return _SIGNS[self.sign](str(known), self.value)


def parse(texts: Sequence[str], rows: Sequence[Summary]) -> list[Condition]:
    """Read conditions on some runs.

    Raises:
        ConfigError: a text is no condition, or neither vaectl nor any of the runs knows its key.
    """
    found = []
    known = {*COLUMNS, *problems.keys(schema.Config)}
    known |= {key for row in rows for key in (*row.settings, row.best_quantity) if key}
    for text in texts:
        form = _FORM.fullmatch(text)
        if form is None:
            raise ConfigError(
                f"--where {text}: not of the form KEY=VALUE, or with one of != < <= > >=",
                hint="for example --where optimizer=adam --where 'elbo>-100'",
            )
        if form[1] not in known:
            raise ConfigError(
                f"--where {text}: unknown key {form[1]}{did_you_mean(form[1], known)}",
                hint=f"use {', '.join(COLUMNS)}, or a key that vaectl config show prints",
            )
        if form[1] == "age" and (form[2] not in _SIGNS or _age(form[3]) is None):
            raise ConfigError(
                f"--where {text}: not a limit of ages",
                hint="write an age as it is shown, such as --where 'age<2d' or 'age>=30 min'",
            )
        if form[1] in ("elbo", "epochs") and _number(form[3]) is None:
            raise ConfigError(
                f"--where {text}: {form[1]} is a number, and {form[3]!r} is none",
                hint=f"for example --where '{form[1]}>=10'",
            )
        found.append(Condition(*form.groups()))
    return found


def _age(text: str) -> float | None:
    """Read an age, in seconds."""
    form = _AGE.fullmatch(text)
    return float(form[1]) * UNITS[form[2]] if form else None


def _seconds_since(start: str) -> float:
    return (datetime.now(UTC) - datetime.fromisoformat(start)).total_seconds()


def ordered(rows: Sequence[Summary], by: str) -> list[Summary]:
    """Sort rows by a column: the newest, the highest or the first by name first.

    Unknown values come last; for `elbo` these include runs whose best epoch was chosen by another
    bound. By `elbo`, runs are ranked only within groups that measure the same: see `measures`.
    """
    known = [row for row in rows if COLUMNS[by](row) is not None]
    numbers = by in ("elbo", "epochs")
    known.sort(key=COLUMNS[by], reverse=numbers)  # type: ignore[arg-type]
    if by == "elbo":
        groups = measures(rows)
        known.sort(key=lambda row: groups.index(row.measure))
    return known + [row for row in rows if COLUMNS[by](row) is None]


def measures(rows: Sequence[Summary]) -> list[str | None]:
    """Return what the ELBOs of runs measure, the most frequent first; others do not compare."""
    known = [row.measure for row in rows if COLUMNS["elbo"](row) is not None]
    return [measure for measure, _ in Counter(known).most_common()]


def folded(rows: Sequence[Summary]) -> list[Summary]:
    """Replace the members of each comparison by one row that sums them up, in the first's place."""
    groups: dict[str, list[Summary]] = {}
    for row in rows:
        comparison, slash, _ = row.name.partition("/")
        groups.setdefault(comparison + slash, []).append(row)
    return [
        _summed(name.rstrip("/"), group) if name.endswith("/") else group[0]
        for name, group in groups.items()
    ]


def _summed(name: str, members: Sequence[Summary]) -> Summary:
    def all_of(values: Iterable[str | None]) -> str | None:
        return ", ".join(dict.fromkeys(filter(None, values))) or None

    best = max(members, key=lambda row: -math.inf if row.best_score is None else row.best_score)
    same = {row.best_quantity for row in members if row.best_quantity} == {best.best_quantity}
    statuses = Counter(row.status for row in members)
    told = ", ".join(f"{count} {status}" for status, count in statuses.most_common())
    epochs = [row.epoch for row in members if row.epoch is not None]
    problems = [f"{row.name}: {row.problem}" for row in members if row.problem]
    return Summary(
        name=name,
        status=told,
        data=all_of(row.data for row in members),
        model=all_of(row.model for row in members),
        optimizer=all_of(row.optimizer and row.optimizer.partition(" ")[0] for row in members),
        epoch=max(epochs, default=None),
        least_epoch=min(epochs, default=None),
        epochs=max((row.epochs for row in members if row.epochs is not None), default=None),
        best_quantity=best.best_quantity if same else None,
        best_score=best.best_score if same else None,
        measure=best.measure if same else None,
        start=max((row.start for row in members if row.start), default=None),
        problem="; ".join(problems) or None,
        members=len(members),
    )


def _known(row: Summary, key: str) -> object:
    """Return the value of a run's key; None if it is unknown."""
    if key == row.best_quantity:
        return row.best_score
    return COLUMNS[key](row) if key in COLUMNS else row.settings.get(key)


def _is(known: object, value: str) -> bool:
    if isinstance(known, bool):
        return value == str(known).lower()
    number, wanted = _number(known), _number(value)
    if number is not None and wanted is not None:
        return number == wanted
    text = str(known)
    return any(fnmatch.fnmatchcase(part, value) for part in (text, *re.split(r"[\s:/]+", text)))


def _number(value: object) -> float | None:
    try:
        return float(value) if isinstance(value, str | int | float) else None
    except (ValueError, OverflowError):
        return None
