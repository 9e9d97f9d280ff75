"""The configuration of a comparison, and the trials that it consists of. No JAX."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Annotated, Any, Literal, Union

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    ValidationInfo,
    create_model,
    field_serializer,
    field_validator,
)
from pydantic_core import PydanticCustomError

from vaectl.base.section import Count, Positive, Section, conflict
from vaectl.config.naming import name_of
from vaectl.config.schema import Config
from vaectl.optimizers._shared import OptimizerChoice
from vaectl.optimizers.base import Optimizer
from vaectl.studies import settings as study
from vaectl.studies.settings import Seed, counted_from
from vaectl.studies.trial import Stage, Trial

if TYPE_CHECKING:
    from vaectl.studies.ended import Outcome

KIND = "comparison"

FIRST_TUNING_SEED = 1000
"""The first tuning seed if only their number is given, so that the result has other seeds."""
_LEAST_RATE, _MOST_RATE = 1e-30, 1e9  # limits of float32 and of the configuration

_LABEL = r"[A-Za-z0-9][A-Za-z0-9._-]{0,79}"


def _usable(label: str) -> str:
    if not re.fullmatch(_LABEL, label):
        raise PydanticCustomError(
            "label",
            "should be up to 80 letters, digits, '.', '_' and '-', a letter or digit first",
        )
    return label


_Label = Annotated[str, AfterValidator(_usable)]


def _not_empty(rates: object) -> object:
    if rates == []:
        raise PydanticCustomError("rates", "should be a list of at least one learning rate")
    return rates


class Entry(Section):
    """An optimizer of the comparison; settings that it leaves out are those of `base`."""

    name: str
    label: _Label | None = None
    """Name in tables and directories; null: the optimizer's name and the entry's settings."""


def _entry(name: str, plug: type[Optimizer]) -> type[Entry]:
    """Derive the entry of an optimizer, with shared keys and its own."""
    shared = {key: f for key, f in OptimizerChoice.model_fields.items() if key != "name"}
    fields: Any = {
        key: (field.annotation, field) for key, field in (shared | plug.model_fields).items()
    }
    fields["name"] = (Literal[name], ...)
    entry: type[Entry] = create_model(f"{plug.__name__}Entry", __base__=Entry, **fields)
    return entry


if TYPE_CHECKING:
    _AnyEntry = Entry
else:
    _AnyEntry = Annotated[
        Union[tuple(_entry(*each) for each in Optimizer.known.items())],  # noqa: UP007
        Field(discriminator="name"),
    ]

_OF_THE_PAPER = sorted(
    (plug.place_in_the_paper, name)
    for name, plug in Optimizer.known.items()
    if plug.place_in_the_paper is not None
)


class Tuning(Section):
    """The search for each optimizer's learning rate, by mean best validation score over seeds."""

    grid: Annotated[int, Field(ge=2, le=100)] = 3
    """The number of learning rates, `ratio` apart, around each optimizer's own."""
    learning_rates: Annotated[list[Positive] | None, BeforeValidator(_not_empty)] = None
    """Learning rates for every optimizer, instead of `grid`."""
    ratio: float = Field(3.0, gt=1, le=1000)
    """The ratio of neighbouring learning rates."""
    growth: Annotated[int, Field(ge=0, le=100)] = 4
    """The most learning rates that are added while the best one lies on the edge of the grid."""
    seeds: Annotated[list[Seed], counted_from(FIRST_TUNING_SEED)] = Field(2, validate_default=True)
    """A number or a list; they must differ from the seeds of the result."""

    def rates(self, around: float) -> list[float]:
        """Return the first learning rates, in order."""
        if self.learning_rates is not None:
            return sorted(set(self.learning_rates))
        return [_rounded(around * self.ratio ** (i - self.grid // 2)) for i in range(self.grid)]

    @property
    def members(self) -> int:
        """The number of trials of each optimizer, before its grid grows."""
        return len(self.rates(1.0)) * len(self.seeds)

    def grown(self, scores: Mapping[float, float]) -> list[float]:
        """Return the next learning rates if the best of these lies on an edge, or none."""
        rates = sorted(scores)
        best = max(rates, key=lambda rate: scores[rate])
        wanted = [_rounded(best / self.ratio)] * (best == rates[0])
        if best == rates[-1] and scores[best] > -math.inf:  # if all diverged, larger ones would too
            wanted.append(_rounded(best * self.ratio))
        return [rate for rate in wanted if _LEAST_RATE <= rate <= _MOST_RATE]


class Comparison(Section):
    """A comparison of optimizers on one experiment."""

    protocol: Literal["paper", "tuned"] = "tuned"
    """`paper`: each optimizer has its learning rate in `base`. `tuned`: each has the best learning
    rate of a grid, and runs on other seeds than the tuning. The two are never mixed."""
    base: Config = Config(epochs=15)
    """The experiment: its keys, or the path of its file, relative to this file; or both, with the
    path as `file` and the keys that differ."""
    optimizers: list[_AnyEntry] = Field([name for _, name in _OF_THE_PAPER], validate_default=True)
    """Names, or mappings with `name` and settings; a name may repeat with other settings."""
    seeds: Annotated[list[Seed], counted_from(0)] = Field(5, validate_default=True)
    """A number or a list; at each seed all optimizers have the same initial weights, batches and
    noise."""
    tuning: Tuning | None = Field(None, validate_default=True)
    """The search for learning rates, if the protocol is `tuned`."""
    target: float | None = None
    """The validation score up to which epochs and seconds are counted; null: the best score of the
    worst finished member, which all of them reach."""
    importance_samples: Count = 100
    """K of the importance-weighted bound on log p(x) of the test split."""

    @field_validator("optimizers", mode="before")
    @classmethod
    def _named(cls, value: object) -> object:
        if isinstance(value, list) and value:
            entries = [{"name": entry} if isinstance(entry, str) else entry for entry in value]
            if all(isinstance(entry, dict) and "name" in entry for entry in entries):
                return entries
        raise PydanticCustomError(
            "optimizers", "should be a list of names, or mappings with a name; at least one"
        )

    @field_validator("optimizers")
    @classmethod
    def _told_apart(cls, entries: list[Entry], info: ValidationInfo) -> list[Entry]:
        known = labels(entries)
        for label in known:
            if known.count(label) > 1:
                raise conflict(f"{label} comes twice: give one of them another label")
        if "base" in info.data:
            resolved = _entries(info.data["base"], entries)
            for one in resolved.values():
                one.optimizer.check()
            _check_different(resolved)
        return entries

    @field_validator("tuning")
    @classmethod
    def _on_its_track(cls, tuning: Tuning | None, info: ValidationInfo) -> Tuning | None:
        if info.data.get("protocol") == "paper":
            if tuning is not None:
                raise conflict(
                    "the protocol paper has no tuning: leave out tuning and --learning-rates, "
                    "or set protocol: tuned"
                )
            return None
        tuning = tuning or Tuning()
        used = {*tuning.seeds} & {*info.data.get("seeds", ())}
        if used:
            raise conflict(f"seed {min(used)} is one of the result's seeds: use others for tuning")
        if "base" in info.data and "optimizers" in info.data:
            entries = _entries(info.data["base"], info.data["optimizers"])
            if tuning.learning_rates is not None:
                _check_different({k: _at_rate(one, 1.0) for k, one in entries.items()})
            for label, one in entries.items():
                for rate in tuning.rates(one.optimizer.chosen.learning_rate):
                    if not _LEAST_RATE <= rate <= _MOST_RATE:
                        raise conflict(f"the grid of {label} has a learning rate of {rate:g}")
        return tuning

    @field_serializer("optimizers")
    def _as_given(self, entries: list[Entry]) -> list[dict[str, Any]]:
        return [entry.model_dump(mode="json", exclude_unset=True) for entry in entries]

    @property
    def entries(self) -> dict[str, Config]:
        """The experiment of each optimizer, by label."""
        return _entries(self.base, self.optimizers)


def trials(
    label: str,
    stage: Stage,
    settings: Config,
    rates: Sequence[float],
    seeds: Sequence[int],
) -> list[Trial]:
    """Return a trial for every learning rate and seed."""
    return [
        Trial(label, stage, _at_rate(settings, rate).model_copy(update={"seed": seed}))
        for rate in rates
        for seed in seeds
    ]


def load(
    file: Path | None = None,
    *,
    assignments: Sequence[str] = (),
    options: Mapping[str, object] | None = None,
) -> Comparison:
    """Read a comparison (or the default), apply overrides, validate everything once.

    Args:
        file: a YAML file; None for the built-in default.
        assignments: `dotted.key=value` for the base experiment.
        options: dotted key of the comparison to value; None: not given.

    Raises:
        ConfigError: lists all problems, each with its place.
    """
    return study.load(
        KIND,
        Comparison,
        file,
        base=Comparison().base,
        assignments=assignments,
        options=options,
        # the option overrides the file
        without=["tuning"] if options and options.get("protocol") == "paper" else [],
    )


def differing(new: Comparison, old: Comparison) -> list[str]:
    """Return the settings that keep two comparisons from sharing trials, with both values.

    Optimizers, seeds and the target may differ.
    """
    return study.differing(new, old, free=["optimizers", "seeds", "target"])


def default_name(settings: Comparison) -> str:
    """Return a name made of data, code size and protocol."""
    base = settings.base
    stem = name_of(base).removesuffix(f"-{base.optimizer.name}-s{base.seed}")
    return f"compare-{stem}-{settings.protocol}"


def scores(outcomes: Sequence[Outcome]) -> dict[float, float]:
    """Return each learning rate's mean best validation score over seeds; -inf if one diverged."""
    found: dict[float, list[float]] = {}
    for row in outcomes:
        found.setdefault(row.learning_rate, []).append(row.score)
    return {rate: fmean(values) for rate, values in sorted(found.items())}


def best_rate(scores: Mapping[float, float]) -> list[float]:
    """Return a list of the learning rate with the highest score, empty if all diverged."""
    best = max(scores, key=lambda rate: scores[rate])
    return [best] if scores[best] > -math.inf else []


def words(text: str) -> list[str]:
    """Split a text at commas."""
    return [part.strip() for part in text.split(",") if part.strip()]


def numbers(text: str) -> list[object]:
    """Read numbers between commas; other words stay text, for the validation to report."""
    found: list[object] = []
    for part in words(text):
        try:
            found.append(float(part))
        except ValueError:
            found.append(part)
    return found


def labels(entries: Sequence[Entry]) -> list[str]:
    """Return the label of each entry; without one, its name and its settings."""
    found = []
    for entry in entries:
        told = " ".join([entry.name, *(f"{key} {value}" for key, value in _given(entry).items())])
        found.append(entry.label or re.sub(r"[^A-Za-z0-9._-]+", "-", told)[:80])
    return found


def _given(entry: Entry) -> dict[str, Any]:
    names = sorted(entry.model_fields_set - {"name", "label"})
    return {name: getattr(entry, name) for name in names}


def _entries(base: Config, entries: Sequence[Entry]) -> dict[str, Config]:
    """Return the experiment of each optimizer, by label."""
    pairs = zip(labels(entries), entries, strict=True)
    return {label: _resolved(base, entry) for label, entry in pairs}


def _check_different(entries: Mapping[str, Config]) -> None:
    for (a, one), (b, other) in combinations(entries.items(), 2):
        if one == other:
            raise conflict(f"{a} and {b} are the same experiment: remove one of them")


def _resolved(base: Config, entry: Entry) -> Config:
    """Return the base experiment with the optimizer of an entry."""
    given = _given(entry)
    shared = {key: value for key, value in given.items() if key in OptimizerChoice.model_fields}
    own = {key: value for key, value in given.items() if key not in shared}
    # the settings of optimizers that are not chosen must not make a difference
    optimizer = base.optimizer.model_copy(update={**shared, "name": entry.name}).alone()
    return base.model_copy(update={"optimizer": optimizer.with_chosen(**own)})


def _at_rate(settings: Config, rate: float) -> Config:
    optimizer = settings.optimizer.with_chosen(learning_rate=rate)
    return settings.model_copy(update={"optimizer": optimizer})


def _rounded(rate: float) -> float:
    """Round to four digits, so that equal learning rates of a grid compare equal."""
    return float(f"{rate:.4g}")
