"""The configuration of a sweep, and the points that it consists of. No JAX."""

from __future__ import annotations

import copy
import hashlib
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from itertools import product
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import BeforeValidator, Discriminator, Field, Tag, field_validator, model_validator
from pydantic_core import PydanticCustomError

from vaectl.base.errors import ConfigError
from vaectl.base.section import Count, Section, conflict, flat
from vaectl.config import reading
from vaectl.config.meaning import measured
from vaectl.config.naming import name_of
from vaectl.config.schema import CHOICES, Config
from vaectl.studies import settings as study
from vaectl.studies.settings import Seed, counted_from
from vaectl.studies.trial import Trial, alike

KIND = "sweep"
DRAW = "draw"
"""The key of an axis that says how many points are drawn from its ranges."""
MOST_POINTS = 100_000
"""The most points of a sweep."""
DIGITS = 4
"""Significant digits of values of a range, so that they read well, and equal ones are equal."""

_LABEL = 80
"""The most characters of a label."""
_PROBLEMS = 10
"""The most problems of points that are told at once."""

Value = bool | int | float | str | None | list[Any]


class Range(Section):
    """Values from `low` to `high`, both among them."""

    low: float
    high: float
    count: Annotated[int, Field(ge=2, le=10_000)] | None = None
    """How many values; left out on an axis that draws."""
    scale: Literal["linear", "log"] = "linear"
    """linear: equal differences; log: equal ratios."""

    @model_validator(mode="after")
    def _ordered(self) -> Range:
        if not self.low < self.high:
            raise conflict(f"low is {self.low:g}, high is {self.high:g}: low must be below high")
        if self.scale == "log" and self.low <= 0:
            raise conflict(f"low is {self.low:g}: a range of scale log must be above 0")
        return self

    def at(self, share: float) -> float:
        """Return the value at a share of the way from low to high, in equal steps of its scale."""
        if self.scale == "linear":
            return self.low + share * (self.high - self.low)
        return math.exp(math.log(self.low) + share * math.log(self.high / self.low))

    def values(self) -> list[float]:
        """Return `count` values with equal steps."""
        count = self.count or 2
        return [self.at(i / (count - 1)) for i in range(count)]


def _kind(value: object) -> str | None:
    kinds = {Range: "range", dict: "range", list: "list", int: "number"}
    return kinds.get(type(value))


def _listed(values: object) -> object:
    if isinstance(values, list):
        if not values or len({*map(repr, values)}) < len(values):
            raise PydanticCustomError("values", "should be a list of different values")
        if any(isinstance(value, dict) for value in values):
            raise PydanticCustomError("values", "should be a list of values without keys")
    return values


_Varied = Annotated[
    Annotated[list[Any], BeforeValidator(_listed), Tag("list")]
    | Annotated[Range, Tag("range")]
    | Annotated[Count, Tag("number")],
    Discriminator(
        _kind,
        custom_error_type="varied",
        custom_error_message="should be a list of values, or a range with low, high and count",
    ),
]


class Search(Section):
    """Successive halving: points are compared early, and only the best of them train on."""

    ratio: Annotated[float, Field(gt=1, le=100)] = 3.0
    """One in so many points goes on, for so many times as many epochs."""
    comparisons: Annotated[int, Field(ge=2, le=10)] = 3
    """How often points are compared, the last time at the end of training."""


class Sweep(Section):
    """A sweep: an experiment, and the keys of it that vary."""

    base: Config = Config(epochs=15)
    """The experiment: its keys, or the path of its file, relative to this file; or both, with the
    path as `file` and the keys that differ."""
    vary: list[dict[str, _Varied]] = Field([], validate_default=True)
    """Axes, of which every combination is trained. An axis gives one key its values, a list or a
    range; or several keys, whose values go together. With `draw: N` it has N points, drawn evenly
    from the ranges of its keys."""
    seeds: Annotated[list[Seed], counted_from(0)] = Field(3, validate_default=True)
    """A number or a list; each point is trained at every seed."""
    search: Search | None = None
    """null: every point trains to the end, and all of them are compared. With its keys, or {}: only
    a search for a good point, in which most points train for a part of the epochs."""
    importance_samples: Count = 100
    """K of the importance-weighted bound on log p(x) of the test split, for the best point."""

    @field_validator("vary", mode="before")
    @classmethod
    def _as_axes(cls, value: object) -> object:
        axes = (
            [{key: values} for key, values in value.items()] if isinstance(value, dict) else value
        )
        if axes == []:
            raise conflict(
                "nothing varies: name a key, and its values",
                hint="for example --vary model.code_size=2,5,20; in a file, vary: "
                "{model.code_size: [2, 5, 20]}",
            )
        if not isinstance(axes, list) or not all(isinstance(axis, dict) for axis in axes):
            raise PydanticCustomError(
                "vary", "should be keys with their values, or a list of such axes"
            )
        return axes

    @field_validator("vary")
    @classmethod
    def _crossed(cls, axes: list[dict[str, Any]]) -> list[dict[str, Any]]:
        for axis in axes:
            _check_axis(axis)
        keys = Counter(key for axis in axes for key in axis if key != DRAW)
        for key, count in keys.items():
            if count > 1:
                raise conflict(f"{key} is in {count} axes: a key varies in one")
            if key == "seed":
                raise conflict("seed varies by itself: leave it out, and give seeds")
            if key.partition(".")[0] in ("data", "checkpoint"):
                raise conflict(f"{key} cannot vary: all trials of a sweep share it")
        count = math.prod(_count(axis) for axis in axes)
        if count > MOST_POINTS:
            raise conflict(f"{count:,} points are more than {MOST_POINTS:,}, the most of a sweep")
        return axes

    @model_validator(mode="after")
    def _searchable(self) -> Sweep:
        if self.search and "epochs" in self.keys:
            raise conflict("epochs cannot vary in a search, which decides how long a point trains")
        return self

    @property
    def axes(self) -> list[list[str]]:
        """The keys of each axis."""
        return [[key for key in axis if key != DRAW] for axis in self.vary]

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


def programs(trials: Sequence[Trial]) -> list[list[Trial]]:
    """Group trials that differ in seed and learning rate alone: they compile to one program."""
    groups: dict[Config, list[Trial]] = {}
    for trial in trials:
        groups.setdefault(alike(trial.settings), []).append(trial)
    return list(groups.values())


def largest(points: Sequence[Point]) -> list[Config]:
    """Return, of the points whose whole numbers can be ordered, those that none exceeds.

    Memory grows with every whole number of an experiment, and depends on its names.
    """
    found: dict[Config, None] = {}
    kinds: dict[str, list[Point]] = {}
    for point in points:
        named = {k: v for k, v in point.values.items() if isinstance(v, str | bool)}
        kinds.setdefault(repr(sorted(named.items())), []).append(point)
    for group in kinds.values():
        keys = [key for key, value in group[0].values.items() if isinstance(value, int)]
        numbers = [[float(p.values[key]) for key in keys] for p in group]  # type: ignore[arg-type]
        for column in range(len(keys)):
            best = max(range(len(group)), key=lambda i: (numbers[i][column], sum(numbers[i])))
            found[group[best].settings] = None
        if not keys:
            found[group[0].settings] = None
    return list(found)


def load(
    file: Path | None = None,
    *,
    assignments: Sequence[str] = (),
    axes: Sequence[Mapping[str, object]] = (),
    options: Mapping[str, object] | None = None,
) -> Sweep:
    """Read a sweep, apply overrides, validate everything once.

    Args:
        file: a YAML file: a sweep, or one experiment, which is then the base; None for the default
            experiment.
        assignments: `dotted.key=value` for the base experiment.
        axes: more axes of `vary`.
        options: dotted key of the sweep to value; None: not given.

    Raises:
        ConfigError: lists all problems, each with its place.
    """
    settings = study.load(
        KIND,
        Sweep,
        file,
        base=Sweep.model_fields["base"].default,
        assignments=assignments,
        options=options,
        more={"vary": list(axes)} if axes else {},
        takes_experiments=True,
    )
    _ = settings.points  # each must be an experiment
    return settings


def differing(new: Sweep, old: Sweep) -> list[str]:
    """Return the settings that keep two sweeps from sharing trials, with both values.

    What varies, and the seeds, may differ.
    """
    return study.differing(new, old, free=["vary", "seeds"])


def default_name(settings: Sweep) -> str:
    """Return a name made of the experiment and of the keys that vary."""
    base = settings.base
    stem = name_of(base).removesuffix(f"-s{base.seed}")
    keys = [_short(key) for key in settings.keys]
    return "-".join(["sweep", stem, *keys])[:100]


def axes(texts: Sequence[str], draw: int | None = None) -> list[dict[str, object]]:
    """Read axes as options have them; with `draw` they are one, of so many points.

    Raises:
        ConfigError: a text is no axis, or there is nothing to draw from.
    """
    found = [axis(text) for text in texts]
    if draw is None:
        return found
    if not found:
        raise ConfigError(
            f"--draw {draw}: there are no ranges to draw from",
            hint="for example --vary optimizer.learning_rate=1e-4:1e-2:log",
        )
    keys = Counter(key for each in found for key in each)
    if twice := [key for key, count in keys.items() if count > 1]:
        raise ConfigError(f"--vary: {twice[0]} comes twice", hint="give each key once")
    return [{DRAW: draw, **{key: value for each in found for key, value in each.items()}}]


def axis(text: str) -> dict[str, object]:
    """Read an axis as an option has it.

        KEY=VALUE,VALUE,...    KEY=LOW:HIGH:COUNT    KEY=LOW:HIGH:COUNT:log    KEY=LOW:HIGH:log

    Raises:
        ConfigError: it is nothing of that kind.
    """
    key, sign, given = (part.strip() for part in text.partition("="))
    origin = f"--vary {text}"
    if not sign or not key or not given:
        raise ConfigError(
            f"{origin}: not of the form KEY=VALUES",
            hint="for example --vary model.code_size=2,5,20, or "
            "--vary optimizer.learning_rate=1e-4:1e-2:5:log",
        )
    if given[0] in "[{":
        return {key: reading.parse_value(given, origin)}
    low, *others = given.split(":")
    if not others:
        return {key: reading.parse_value(f"[{given}]", origin)}
    found: dict[str, object] = {"low": _number(low, origin), "high": _number(others[0], origin)}
    for part in others[1:]:
        if part in ("log", "linear"):
            found["scale"] = part
        else:
            found["count"] = reading.parse_value(part, origin)
    return {key: found}


def _number(text: str, origin: str) -> object:
    value = reading.parse_value(text, origin)
    return float(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _check_axis(axis: Mapping[str, Any]) -> None:
    keys = [key for key in axis if key != DRAW]
    if not keys:
        raise conflict("an axis without keys: give it a key of the experiment, and its values")
    for key in keys:
        if isinstance(axis[key], int):
            raise conflict(f"{key}: should be a list of values, or a range, not {axis[key]}")
    if DRAW in axis:
        if not isinstance(axis[DRAW], int):
            raise conflict(f"{DRAW}: should be the number of points to draw")
        if any(isinstance(axis[key], Range) and axis[key].count for key in keys):
            raise conflict(f"a range has no count on an axis that draws {axis[DRAW]} points")
        return
    for key in keys:
        if isinstance(axis[key], Range) and not axis[key].count:
            raise conflict(f"{key}: a range needs count, the number of its values")
    counts = {key: _length(axis[key]) for key in keys}
    if len({*counts.values()}) > 1:
        told = ", ".join(f"{key} has {count}" for key, count in counts.items())
        raise conflict(f"keys that go together need as many values each: {told}")


def _length(values: Any) -> int:
    return (values.count or 0) if isinstance(values, Range) else len(values)


def _count(axis: Mapping[str, Any]) -> int:
    if DRAW in axis:
        return int(axis[DRAW])
    return _length(next(iter(axis.values())))


def _levels(axis: Mapping[str, Any], base: Mapping[str, Any]) -> list[dict[str, Value]]:
    """Return the values of an axis's keys at each of its points."""
    keys = [key for key in axis if key != DRAW]
    if DRAW in axis:
        return [
            {key: _drawn(axis[key], share, key, base) for key, share in zip(keys, row, strict=True)}
            for row in _halton(int(axis[DRAW]), len(keys))
        ]
    columns = [
        [_fitting(value, key, base) for value in values.values()]
        if isinstance(values := axis[key], Range)
        else values
        for key in keys
    ]
    return [dict(zip(keys, row, strict=True)) for row in zip(*columns, strict=True)]


def _halton(count: int, keys: int) -> list[list[float]]:
    """Return the first points of Halton's sequence in (0, 1)^keys, whose first n never change.

    Coordinate j of point i is i written in base p_j, the j-th prime, mirrored at the point.
    Halton 1960.
    """
    from scipy.stats import qmc

    sequence = qmc.Halton(keys, scramble=False)
    sequence.fast_forward(1)  # the first is 0 in all coordinates
    found: list[list[float]] = sequence.random(count).tolist()
    return found


def _drawn(values: Any, share: float, key: str, base: Mapping[str, Any]) -> Value:
    if isinstance(values, Range):
        return _fitting(values.at(share), key, base)
    chosen: Value = values[int(share * len(values))]
    return chosen


def _fitting(value: float, key: str, base: Mapping[str, Any]) -> int | float:
    """Round to a few digits; to a whole number for a key that has one in the base experiment."""
    known = _known(key, base)
    if isinstance(known, int) and not isinstance(known, bool):
        return round(value)
    return float(f"{value:.{DIGITS}g}")


def _known(key: str, values: Mapping[str, Any]) -> object:
    """Return the value of a key in an experiment, also if it is short for the chosen plug's."""
    kind, _, name = key.partition(".")
    section = values.get(kind)
    if isinstance(section, dict) and name and name not in section and kind in CHOICES:
        section = section.get(section["name"], {})
    for part in name.split(".") if name else []:
        section = section.get(part) if isinstance(section, dict) else None
    return section


def _points(sweep: Sweep) -> Iterator[Point]:
    base = sweep.base.model_dump(mode="json")
    axes = [_levels(each, base) for each in sweep.vary]
    problems: dict[str, str] = {}
    found: list[tuple[tuple[int, ...], dict[str, Value], Config]] = []
    places: dict[Config, dict[str, Value]] = {}
    for levels in product(*(range(len(axis)) for axis in axes)):
        values = {
            key: value
            for axis, level in zip(axes, levels, strict=True)
            for key, value in axis[level].items()
        }
        try:
            settings = _resolved(base, values)
        except ConfigError as error:
            problems |= dict.fromkeys(error.message.splitlines(), error.hint)
            if len(problems) >= _PROBLEMS:
                break
            continue
        if settings in places:
            problems[f"{_told(places[settings])} and {_told(values)} are the same experiment"] = (
                "leave one of them out; whole numbers of a range may round to the same"
            )
            break
        places[settings] = values
        found.append((levels, values, settings))
    if problems:
        raise ConfigError("\n".join(problems), hint=next(iter(problems.values())))
    _check_comparable([settings for _, _, settings in found])
    labels = _labels(sweep.base, [settings for _, _, settings in found])
    for (levels, values, settings), label in zip(found, labels, strict=True):
        yield Point(levels, values, settings, label)


def _resolved(base: Mapping[str, Any], values: Mapping[str, Value]) -> Config:
    """Return the base experiment with other values.

    Raises:
        ConfigError: it is none.
    """
    mine = copy.deepcopy(dict(base))
    origins: reading.Origins = {}
    # names first: a key beside a name is one of the plug that is chosen in the end
    for key in sorted(values, key=lambda key: not key.endswith(".name")):
        reading.put(mine, origins, key, copy.deepcopy(values[key]), f"vary {key}")
    reading.load_plugs(mine)
    settings = reading.build(Config, mine, origins)
    # the settings of plugs that are not chosen must not make a difference
    return settings.model_copy(update={kind: getattr(settings, kind).alone() for kind in CHOICES})


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


def _labels(base: Config, experiments: Sequence[Config]) -> list[str]:
    """Name each point by what differs from the base experiment: another axis renames nothing."""
    old = dict(_plain(base))
    found = []
    for experiment in experiments:
        new = dict(_plain(experiment))
        changed = {key: value for key, value in new.items() if old.get(key) != value}
        # with another plug come all of its settings; those that are its defaults say nothing
        own = {
            key: value
            for key, value in changed.items()
            if key in old or value != _default(experiment, key)
        }
        found.append("-".join(_part(key, value) for key, value in own.items()) or "base")
    counts = Counter(found)
    return [
        label
        if counts[label] == 1 and len(label) <= _LABEL
        else f"{label[:60]}-{_digest(settings)}"
        for label, settings in zip(found, experiments, strict=True)
    ]


def _plain(settings: Config) -> Iterator[tuple[str, Value]]:
    yield from flat(settings.model_dump(mode="json"))  # type: ignore[misc]


def _default(settings: Config, key: str) -> object:
    kind, _, name = key.partition(".")
    plug = getattr(settings, kind).chosen if kind in CHOICES else None
    return getattr(type(plug)(), name.rpartition(".")[2], None) if plug is not None else None


def _part(key: str, value: Value) -> str:
    told = f"{value:g}" if isinstance(value, float) else str(value).lower()
    text = told if key.endswith(".name") else f"{_short(key)}-{told}"
    return "".join(c if c.isalnum() or c in "._-" else "-" for c in text)


def _short(key: str) -> str:
    kind, _, name = key.rpartition(".")
    return kind if name == "name" else name


def _told(values: Mapping[str, Value]) -> str:
    return ", ".join(f"{key} {value}" for key, value in values.items())


def _digest(settings: Config) -> str:
    return hashlib.sha256(settings.model_dump_json().encode()).hexdigest()[:8]
