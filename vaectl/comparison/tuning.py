"""The search for each optimizer's settings: a grid of learning rates, or a space of any keys.

The grid grows while its best learning rate lies on its edge. From a space the same number of points
is drawn for every optimizer, by the same quasi-random sequence (Dahl et al. 2023, AlgoPerf, section
4.5). No JAX.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

from pydantic import BeforeValidator, Discriminator, Field, Tag, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

from vaectl.base.errors import ConfigError
from vaectl.base.section import Positive, Section, conflict
from vaectl.config.schema import Config
from vaectl.studies.ranges import Range, drawn, halton, listed, value_of
from vaectl.studies.settings import Seed, counted_from, resolved
from vaectl.studies.trial import Stage, Trial, Values

if TYPE_CHECKING:
    from vaectl.studies.ended import Outcome

FIRST_SEED = 1000
"""The first tuning seed if only their number is given, so that the result has other seeds."""
LEAST_RATE, MOST_RATE = 1e-30, 1e9
"""Limits of float32 and of the configuration."""
RATE = "learning_rate"


def _not_empty(rates: object) -> object:
    if rates == []:
        raise PydanticCustomError("rates", "should be a list of at least one learning rate")
    return rates


class Around(Section):
    """Values around the optimizer's own, in equal ratios."""

    within: Annotated[float, Field(gt=1, le=1e6)]
    """The factor between the optimizer's own value and either end of the range."""

    def of(self, own: float) -> Range:
        """Return the range around a value."""
        return Range(low=own / self.within, high=own * self.within, scale="log")


def _kind(value: object) -> str | None:
    if isinstance(value, Around) or (isinstance(value, dict) and "within" in value):
        return "around"
    if isinstance(value, list):
        return "list"
    return "range" if isinstance(value, Range | dict) else None


Drawn = Annotated[
    Annotated[list[Any], BeforeValidator(listed), Tag("list")]
    | Annotated[Range, Tag("range")]
    | Annotated[Around, Tag("around")],
    Discriminator(
        _kind,
        custom_error_type="drawn",
        custom_error_message="should be a list of values, a range with low, high and scale, or "
        "within and a factor around the optimizer's own value",
    ),
]
Space = dict[str, Drawn]
"""The keys of an optimizer whose values are drawn, and from what."""


def checked(space: Space) -> Space:
    """Refuse a space from which no points can be drawn; return the space.

    Raises:
        PydanticCustomError: a range has a count, or the names of optimizers would be drawn.
    """
    for key, values in space.items():
        if key == "name":
            raise conflict(
                "name: a space is that of one optimizer", hint="list others under optimizers"
            )
        if isinstance(values, Range) and values.count:
            raise conflict(f"{key}: a range of a space has no count; tuning.trials is for all")
    return space


class Point(NamedTuple):
    """Settings of an optimizer that are tried."""

    values: Values
    """The values that the search chose, by the optimizer's keys."""
    settings: Config

    def trials(self, label: str, stage: Stage, seeds: Sequence[int]) -> list[Trial]:
        """Return its trial at each seed."""
        return [
            Trial(label, stage, self.settings.model_copy(update={"seed": seed}), values=self.values)
            for seed in seeds
        ]


class Tuning(Section):
    """The search for each optimizer's settings, by mean best validation score over seeds."""

    grid: Annotated[int, Field(ge=2, le=100)] = 3
    """The number of learning rates, `ratio` apart, around each optimizer's own."""
    learning_rates: Annotated[list[Positive] | None, BeforeValidator(_not_empty)] = None
    """Learning rates for every optimizer, instead of `grid`."""
    ratio: float = Field(3.0, ge=1.001, le=1000)
    """The ratio of neighbouring learning rates, which have four digits."""
    growth: Annotated[int, Field(ge=0, le=100)] = 4
    """The most learning rates that are added while the best one lies on the edge of the grid."""
    trials: Annotated[int, Field(ge=1, le=1000)] | None = None
    """Instead of a grid: the number of points that are drawn for every optimizer from `space`."""
    space: Space = Field({RATE: Around(within=10.0)}, validate_default=True)
    """The space that points are drawn from: for each key of an optimizer's settings a list of
    values, a range {low, high, scale: linear or log}, or {within: FACTOR}, around the optimizer's
    own value. An optimizer's own `space` adds keys, and replaces what is here."""
    seeds: Annotated[list[Seed], counted_from(FIRST_SEED)] = Field(2, validate_default=True)
    """A number or a list; they must differ from the seeds of the result."""

    _checked = field_validator("space")(checked)

    @field_validator("trials")
    @classmethod
    def _one_way(cls, trials: int | None, info: ValidationInfo) -> int | None:
        usual = {key: cls.model_fields[key].default for key in _OF_GRID}
        other = [key for key in _OF_GRID if info.data.get(key, usual[key]) != usual[key]]
        if trials and other:
            raise conflict(
                f"trials are drawn from a space, and {other[0]} is of a grid: leave one of them out"
            )
        return trials

    def rates(self, around: float) -> list[float]:
        """Return the first learning rates of the grid, in order."""
        if self.learning_rates is not None:
            return sorted(set(self.learning_rates))
        return [_rounded(around * self.ratio ** (i - self.grid // 2)) for i in range(self.grid)]

    @property
    def members(self) -> int:
        """The number of trials of each optimizer, before its grid grows."""
        return (self.trials or len(self.rates(1.0))) * len(self.seeds)

    def grown(self, scores: Mapping[Values, float]) -> list[float]:
        """Return the next learning rates if the best of these lies on an edge, or none."""
        if self.trials:
            return []
        of_rates = {rate_of(values): score for values, score in scores.items()}
        rates = sorted(of_rates)
        rate = max(rates, key=lambda rate: of_rates[rate])  # the lowest of equally good ones
        wanted = [self._below(rate)] * (rate == rates[0])
        if rate == rates[-1] and of_rates[rate] > -math.inf:  # if all diverged, larger would too
            wanted.append(self._above(rate))
        return [rate for rate in wanted if LEAST_RATE <= rate <= MOST_RATE]

    def reach(self, around: float) -> set[float]:
        """Return all learning rates that the grid can contain after growing."""
        rates = self.rates(around)
        below, above = [rates[0]], [rates[-1]]
        for _ in range(self.growth):
            below.append(self._below(below[-1]))
            above.append(self._above(above[-1]))
        return {*rates, *below, *above}

    def _below(self, rate: float) -> float:
        return _rounded(rate / self.ratio)

    def _above(self, rate: float) -> float:
        return _rounded(rate * self.ratio)

    def at_edge(self, rates: Mapping[Values, float], scores: Mapping[Values, float]) -> bool:
        """Tell whether the best learning rate is at the edge, so that the search should go on.

        Args:
            rates: the learning rate of each point.
            scores: the score of each point.
        """
        if not self.trials:
            return bool(self.grown(scores))
        best = best_of(scores)
        first, last = min(rates.values()), max(rates.values())
        return best is not None and first < last and rates[best] in (first, last)

    def points(self, label: str, settings: Config, own: Space) -> list[Point]:
        """Return the first points that are tried.

        Args:
            label: the optimizer's, for messages.
            settings: its experiment.
            own: its own space.

        Raises:
            ConfigError: some of them are no experiments, or two are the same.
        """
        if not self.trials:
            rates = self.rates(settings.optimizer.chosen.learning_rate)
            return [at_rate(settings, rate) for rate in rates]
        return _drawn(label, settings, {**self.space, **own}, self.trials)


_OF_GRID = ("grid", "learning_rates", "ratio", "growth")


def _drawn(label: str, settings: Config, space: Space, count: int) -> list[Point]:
    base, where = settings.model_dump(mode="json"), f"the space of {label}"
    ranges = _ranges(where, base, space)
    found: dict[Config, Point] = {}
    for row in halton(count, len(ranges)):
        chosen = {
            key: drawn(each, share, key, base)
            for (key, each), share in zip(ranges.items(), row, strict=True)
        }
        point = resolved(base, chosen, f"{where}:")
        if point in found:
            raise ConfigError(
                f"{where}: two of its {count} points are the same experiment",
                hint="give one of its keys a range, or lower tuning.trials",
            )
        short = tuple((key.removeprefix("optimizer."), _hashable(v)) for key, v in chosen.items())
        found[point] = Point(short, point)
    return list(found.values())


def _ranges(where: str, base: Mapping[str, Any], space: Space) -> dict[str, list[Any] | Range]:
    """Return what is drawn from, by keys of the experiment `base`."""
    if not space:
        raise ConfigError(
            f"{where} has no keys",
            hint="name some of its keys in tuning.space, or leave tuning.trials out for a grid",
        )
    found: dict[str, list[Any] | Range] = {}
    problems = []
    for key, values in space.items():
        full = f"optimizer.{key}"
        own = value_of(full, base)
        if not isinstance(values, Around):
            found[full] = values
        elif isinstance(own, float | int) and own > 0:
            found[full] = values.of(own)
        else:
            told = "there is none" if own is None else f"it is {own}"
            problems.append(f"{where}: {key}: within needs an own value above 0; {told}")
    if problems:
        raise ConfigError("\n".join(problems), hint="name a key that it has, with low and high")
    return found


def _hashable(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def at_rate(settings: Config, rate: float) -> Point:
    """Return an experiment at another learning rate."""
    optimizer = settings.optimizer.with_chosen(learning_rate=rate)
    return Point(((RATE, rate),), settings.model_copy(update={"optimizer": optimizer}))


def rate_of(values: Values) -> float:
    """Return the learning rate of a point of a grid."""
    return float(dict(values)[RATE])  # type: ignore[arg-type]


def scores(found: Sequence[tuple[Trial, Outcome]]) -> dict[Values, float]:
    """Return the mean best validation score of each point over seeds; -inf if one diverged."""
    of_points: dict[Values, list[float]] = {}
    for trial, outcome in found:
        of_points.setdefault(trial.values, []).append(outcome.score)
    return {values: fmean(each) for values, each in of_points.items()}


def best_of(scores: Mapping[Values, float]) -> Values | None:
    """Return the point with the highest score; None if all diverged."""
    best = max(scores, key=lambda values: scores[values])
    return best if scores[best] > -math.inf else None


def _rounded(rate: float) -> float:
    """Round to four digits, so that equal learning rates of a grid compare equal."""
    return float(f"{rate:.4g}")
