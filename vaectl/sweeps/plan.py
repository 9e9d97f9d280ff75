"""The configuration of a sweep, and the points that it consists of. No JAX."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from itertools import product
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np
from jaxtyping import Float
from pydantic import Field, field_validator, model_validator
from pydantic_core import PydanticCustomError

from vaectl.base.errors import ConfigError
from vaectl.base.section import Count, Section, conflict
from vaectl.config import documents
from vaectl.config.meaning import measured
from vaectl.config.naming import name_of
from vaectl.config.schema import Config
from vaectl.studies import settings as study
from vaectl.studies.ranges import Value
from vaectl.studies.settings import Seed, counted_from
from vaectl.studies.trial import Trial, told
from vaectl.sweeps import axes
from vaectl.sweeps.axes import Varied
from vaectl.sweeps.naming import labels as labels_of
from vaectl.sweeps.naming import short

KIND = "sweep"
MOST_POINTS = 100_000
"""The most points of a sweep."""

_PROBLEMS = 10
"""The most problems of points that one message lists."""


class Search(Section):
    """Successive halving: points are compared early, and only the best of them train on."""

    ratio: Annotated[float, Field(gt=1, le=100)] = 3.0
    """The ratio r: one in r points goes on, and trains for r times as many epochs."""
    comparisons: Annotated[int, Field(ge=2, le=10)] = 3
    """The number of comparisons of points, the last one at the end of training."""


class Sweep(Section):
    """A sweep: an experiment, and the keys of it that vary."""

    base: study.Base = Config(epochs=15)
    """The experiment: its keys, or the path of its file, relative to this file; or both, with the
    path as `file` and the keys that differ."""
    vary: list[dict[str, Varied]] = Field([], validate_default=True)
    """Axes, of which every combination is trained. An axis gives one key its values, a list or a
    range; or several keys, whose values go together. With `draw: N` it has N points, drawn evenly
    from the ranges of its keys."""
    seeds: Annotated[list[Seed], counted_from(0)] = Field(3, validate_default=True)
    """A number or a list; each point is trained at every seed."""
    search: Search | None = None
    """null: every point trains to the end, and all of them are compared. With keys, or {}: only
    search for a good point; most points train for a part of the epochs."""
    importance_samples: Count = 100
    """K of the importance-weighted bound on log p(x) of the test split, for the best point."""

    @field_validator("vary", mode="before")
    @classmethod
    def _as_axes(cls, value: object) -> object:
        given = value
        if isinstance(value, dict):  # an axis for each key
            given = [{key: values} for key, values in value.items()]
        if given == []:
            raise conflict(
                "nothing varies: name a key, and its values",
                hint="for example --vary model.code_size=2,5,20; in a file, vary: "
                "{model.code_size: [2, 5, 20]}",
            )
        if not isinstance(given, list) or not all(isinstance(axis, dict) for axis in given):
            raise PydanticCustomError(
                "vary", "should be keys with their values, or a list of such axes"
            )
        return given

    @field_validator("vary")
    @classmethod
    def _crossed(cls, given: list[dict[str, Any]]) -> list[dict[str, Any]]:
        problems, hints = [], []
        for axis in given:
            try:
                axes.check(axis)
            except PydanticCustomError as error:
                problems.append(error.message())
                hints.append((error.context or {}).get("hint", ""))
        keys = Counter(key for axis in given for key in axes.keys_of(axis))
        for key, count in keys.items():
            if count > 1:
                problems.append(f"{key} is in {count} axes: a key varies in one")
            if key == "seed":
                problems.append("seed varies by itself: leave it out, and give seeds")
            if key.partition(".")[0] in ("data", "checkpoint", "early_stopping"):
                problems.append(f"{key} cannot vary: all trials of a sweep share it")
        count = 0 if problems else math.prod(axes.count(axis) for axis in given)
        if count > MOST_POINTS:
            problems.append(f"{count:,} points are more than {MOST_POINTS:,}, the most of a sweep")
        if problems:
            raise conflict("; ".join(problems), hint=next(filter(None, hints), ""))
        return given

    @model_validator(mode="after")
    def _searchable(self) -> Sweep:
        if self.search and "epochs" in self.keys:
            raise conflict("epochs cannot vary in a search, which decides how long a point trains")
        return self

    @property
    def axes(self) -> list[list[str]]:
        """The keys of each axis."""
        return [axes.keys_of(axis) for axis in self.vary]

    @property
    def crossed(self) -> list[list[str]]:
        """The keys of each axis that does not draw."""
        return [axes.keys_of(axis) for axis in self.vary if axes.DRAW not in axis]

    @property
    def drawn(self) -> list[str]:
        """The keys whose values are drawn."""
        return [key for axis in self.vary if axes.DRAW in axis for key in axes.keys_of(axis)]

    @property
    def keys(self) -> list[str]:
        """The keys that vary."""
        return [key for keys in self.axes for key in keys]

    @cached_property
    def points(self) -> list[Point]:
        """All combinations, the last axis fastest.

        Raises:
            ConfigError: some of them are no experiments, or two are the same.
        """
        return list(_points(self))

    def keeping(self, labels: Mapping[int, str]) -> Sweep:
        """Return the same sweep, some of whose points have the labels that they had before.

        Args:
            labels: by the points' places.
        """
        named = labels_of(self.base, [point.settings for point in self.points], labels)
        found = self.model_copy()
        found.__dict__["points"] = [  # what is cached there
            point._replace(label=label) for point, label in zip(self.points, named, strict=True)
        ]
        return found

    @property
    def trials(self) -> list[Trial]:
        """All points at all seeds, point by point."""
        return [trial for point in self.points for trial in point.trials(self.seeds)]


class Point(NamedTuple):
    """A combination of values, and its experiment."""

    levels: tuple[int, ...]
    """Its place on each axis."""
    values: dict[str, Value]
    """The value of each key that varies."""
    settings: Config
    label: str
    """A short name, made of what differs from the base experiment."""

    def trials(self, seeds: Sequence[int]) -> list[Trial]:
        """Return its trial at each seed."""
        return [
            Trial(self.label, "result", self.settings.model_copy(update={"seed": seed}))
            for seed in seeds
        ]


def epochs(trials: Sequence[Trial]) -> int:
    """Return the epochs of trials together."""
    return sum(trial.settings.epochs for trial in trials)


def largest(points: Sequence[Point]) -> list[Config]:
    """Return the points that no other point equals or exceeds in every whole number.

    Memory grows with every whole number of an experiment, and depends on the chosen plugs. Only
    micro-batches become smaller if there are more of them, so points are compared for each number
    of micro-batches separately.
    """
    whole = [
        key
        for key in points[0].values
        if key != "microbatches" and all(type(point.values[key]) is int for point in points)
    ]
    kinds: dict[str, list[Point]] = {}
    for point in points:
        others = {
            key: value
            for key, value in point.values.items()
            if key not in whole and type(value) is not float
        }
        kinds.setdefault(repr(others), []).append(point)
    found: dict[Config, None] = {}
    for group in kinds.values():
        sizes = np.array([[point.values[key] for key in whole] for point in group], np.float64)
        found |= dict.fromkeys(group[place].settings for place in _not_exceeded(sizes))
    return list(found)


def _not_exceeded(sizes: Float[np.ndarray, "points keys"]) -> list[int]:
    """Return the places of the rows that no other row equals or exceeds in every column."""
    _, firsts = np.unique(sizes, axis=0, return_index=True)
    found: list[int] = []
    # a row that exceeds another has a larger sum, and so comes before it
    for place in sorted(firsts.tolist(), key=lambda place: -sizes[place].sum()):
        if not (sizes[found] >= sizes[place]).all(axis=1).any():
            found.append(place)
    return found


def load(
    file: Path | None = None,
    *,
    assignments: Sequence[str] = (),
    more: Sequence[Mapping[str, object]] = (),
    searching: bool = False,
    options: Mapping[str, object] | None = None,
) -> Sweep:
    """Read a sweep, apply overrides, validate everything once.

    Args:
        file: a YAML file: a sweep, or one experiment, which is then the base; None for the default
            experiment.
        assignments: `dotted.key=value` for the base experiment.
        more: more axes of `vary`.
        searching: whether it is a search, by the file's settings of one or the default ones.
        options: dotted key of the sweep to value; None: not given.

    Raises:
        ConfigError: lists all problems, each with its place.
    """

    def edit(values: dict[str, Any], origins: documents.Origins) -> None:
        if searching and values.get("search") is None:
            values["search"] = {}
        if more:
            study.add(values, origins, "vary", more, "--vary")

    settings = study.load(
        Sweep, file, assignments=assignments, options=options, edit=edit, read=_read
    )
    _ = settings.points  # each must be an experiment
    return settings


def _read(file: Path, origins: documents.Origins) -> dict[str, Any]:
    """Read a sweep; one experiment is the base of one."""
    values = documents.read_mapping(file, origins)
    if not study.is_experiment(values):
        return values
    origins.clear()
    origins["base",] = f"{file}:1"
    return {"base": str(file.absolute())}


def differing(new: Sweep, old: Sweep) -> list[str]:
    """Return the settings that keep two sweeps from sharing trials, with both values.

    What varies, and the seeds, may differ.
    """
    return study.differing(new, old, free=["vary", "seeds"])


def default_name(settings: Sweep) -> str:
    """Return a name made of the experiment and of the keys that vary."""
    base = settings.base
    stem = name_of(base).removesuffix(f"-s{base.seed}")
    keys = [short(key) for key in settings.keys]
    return "-".join(["sweep", stem, *keys])[:100]


def _points(sweep: Sweep) -> Iterator[Point]:
    base = sweep.base.model_dump(mode="json")
    columns = [axes.levels(each, base) for each in sweep.vary]
    problems: dict[str, str] = {}
    found: list[tuple[tuple[int, ...], dict[str, Value], Config]] = []
    places: dict[Config, str] = {}
    for levels in product(*(range(len(axis)) for axis in columns)):
        values = {
            key: value
            for axis, level in zip(columns, levels, strict=True)
            for key, value in axis[level].items()
        }
        try:
            settings = study.resolved(base, values, "vary")
        except ConfigError as error:
            problems |= dict.fromkeys(error.message.splitlines(), error.hint)
            if len(problems) >= _PROBLEMS:
                break
            continue
        if settings in places:
            problems[f"{places[settings]} and {told(values.items())} are the same experiment"] = (
                "leave one of them out; whole numbers of a range may round to the same"
            )
            break
        places[settings] = told(values.items())
        found.append((levels, values, settings))
    if problems:
        raise ConfigError("\n".join(problems), hint=next(iter(problems.values())))
    _check_comparable([settings for _, _, settings in found])
    labels = labels_of(sweep.base, [settings for _, _, settings in found])
    for (levels, values, settings), label in zip(found, labels, strict=True):
        yield Point(levels, values, settings, label)


def _check_comparable(experiments: Sequence[Config]) -> None:
    """Refuse points whose scores do not compare.

    Raises:
        ConfigError: they measure different things.
    """
    kinds = {(e.objective.chosen.best, measured(e)): None for e in experiments}
    if len(kinds) > 1:
        told = "; ".join(f"{best} of {what}" for best, what in kinds)
        raise ConfigError(
            f"vary: these points measure different things, which do not compare: {told}",
            hint="make a sweep of each",
        )
