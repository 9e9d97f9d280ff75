"""The configuration of a comparison, and the trials that it consists of. No JAX."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import cached_property
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Union

from pydantic import (
    AfterValidator,
    Discriminator,
    Field,
    Tag,
    ValidationInfo,
    create_model,
    field_serializer,
    field_validator,
)
from pydantic_core import PydanticCustomError

from vaectl.base.errors import ConfigError
from vaectl.base.section import Count, Section, conflict
from vaectl.comparison.tuning import (
    LEAST_RATE,
    MOST_RATE,
    Point,
    Space,
    Tuning,
    at_rate,
    checked,
)
from vaectl.config import documents
from vaectl.config.naming import name_of
from vaectl.config.schema import Config
from vaectl.optimizers._shared import OptimizerChoice
from vaectl.optimizers.base import Optimizer
from vaectl.studies import settings as study
from vaectl.studies.settings import Seed, counted_from
from vaectl.studies.trial import told

KIND = "comparison"

_LABEL = r"[A-Za-z0-9][A-Za-z0-9._-]{0,79}"


def _usable(label: str) -> str:
    if not re.fullmatch(_LABEL, label):
        raise PydanticCustomError(
            "label",
            "should be up to 80 letters, digits, '.', '_' and '-', a letter or digit first",
        )
    return label


_Label = Annotated[str, AfterValidator(_usable)]


class Entry(Section):
    """An optimizer of the comparison; settings that it leaves out are taken from `base`."""

    name: str
    label: _Label | None = None
    """Name in tables and directories; null: the optimizer's name and the entry's settings."""
    space: Space = Field({}, validate_default=True)
    """The search space of this optimizer: it adds keys to `tuning.space`, and replaces keys that
    are there."""

    _checked = field_validator("space")(checked)


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
_DEFAULTS: list[Any] = [name for _, name in _OF_THE_PAPER]


class OfBaseline(Section):
    """A target that the baseline sets: its mean best score at a part of its budget."""

    at: Annotated[float, Field(gt=0, le=1)]
    """The part of the epochs after which the baseline has reached the target."""


def _kind(value: object) -> str | None:
    if isinstance(value, OfBaseline | dict):
        return "of the baseline"
    return "number" if isinstance(value, int | float) and not isinstance(value, bool) else None


_Target = Annotated[
    Annotated[float, Tag("number")] | Annotated[OfBaseline, Tag("of the baseline")],
    Discriminator(
        _kind,
        custom_error_type="target",
        custom_error_message="should be a number, or {at: PART} of the baseline's epochs",
    ),
]


class Comparison(Section):
    """A comparison of optimizers on one experiment."""

    protocol: Literal["paper", "tuned"] = "tuned"
    """`paper`: each optimizer has its settings in `base`. `tuned`: each has the best learning rate
    of a grid, or the best point of a space, and runs on other seeds than the tuning. The two are
    never mixed."""
    base: study.Base = Config(epochs=15)
    """The experiment: its keys, or the path of its file, relative to this file; or both, with the
    path as `file` and the keys that differ."""
    optimizers: list[_AnyEntry] = Field(_DEFAULTS, validate_default=True)
    """Names, or mappings with `name` and settings; a name may repeat with other settings."""
    seeds: Annotated[list[Seed], counted_from(0)] = Field(5, validate_default=True)
    """A number or a list; at each seed all optimizers have the same initial weights, batches and
    noise."""
    tuning: Tuning | None = Field(None, validate_default=True)
    """The search for each optimizer's settings, if the protocol is `tuned`."""
    baseline: str | None = Field(None, validate_default=True)
    """The label of the optimizer that others are measured against; null: the first."""
    target: _Target | None = None
    """The validation score up to which steps and seconds are counted. {at: 0.75}: the score that
    the baseline reaches after that part of its epochs; null: the best score of the worst finished
    member, which all of them reach."""
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

    @field_validator("baseline")
    @classmethod
    def _there(cls, label: str | None, info: ValidationInfo) -> str | None:
        entries = info.data.get("optimizers")  # missing if they are wrong, a problem of its own
        if label is not None and entries is not None and label not in (known := labels(entries)):
            raise conflict(f"there is no optimizer {label}; there are {', '.join(known)}")
        return label

    @field_validator("tuning")
    @classmethod
    def _on_its_track(cls, tuning: Tuning | None, info: ValidationInfo) -> Tuning | None:
        if info.data.get("protocol") == "paper":
            if tuning is not None:
                raise conflict(
                    "the protocol paper has no tuning: leave out tuning and --learning-rates, "
                    "or set protocol: tuned"
                )
            if any(entry.space for entry in info.data.get("optimizers", ())):
                raise conflict(
                    "the protocol paper has no tuning: leave out space, or set protocol: tuned"
                )
            return None
        tuning = tuning or Tuning()
        used = {*tuning.seeds} & {*info.data.get("seeds", ())}
        if used:
            raise conflict(f"seed {min(used)} is one of the result's seeds: use others for tuning")
        if "base" in info.data and "optimizers" in info.data:
            entries = _entries(info.data["base"], info.data["optimizers"])
            if not tuning.trials:
                _check_grids(entries, tuning)
            for label, one in entries.items():
                for rate in tuning.rates(one.optimizer.chosen.learning_rate):
                    if not LEAST_RATE <= rate <= MOST_RATE:
                        raise conflict(f"the grid of {label} has a learning rate of {rate:g}")
            spaces = [entry.space for entry in info.data["optimizers"]]
            if not tuning.trials and (any(spaces) or tuning.space != Tuning().space):
                raise conflict("a space needs tuning.trials, the number of points to draw from it")
        return tuning

    @field_serializer("optimizers")
    def _as_given(self, entries: list[Entry]) -> list[dict[str, Any]]:
        return [entry.model_dump(mode="json", exclude_unset=True) for entry in entries]

    @property
    def entries(self) -> dict[str, Config]:
        """The experiment of each optimizer, by label."""
        return _entries(self.base, self.optimizers)

    @property
    def baseline_label(self) -> str:
        """The label of the optimizer that others are measured against."""
        return self.baseline or next(iter(self.entries))

    @cached_property
    def points(self) -> dict[str, list[Point]]:
        """The points that are tried first for each optimizer, by label.

        Raises:
            ConfigError: some points are not valid experiments, or two are the same.
        """
        found, errors = {}, []
        for (label, one), entry in zip(self.entries.items(), self.optimizers, strict=True):
            try:
                found[label] = (
                    self.tuning.points(label, one, entry.space) if self.tuning else [Point((), one)]
                )
            except ConfigError as error:
                errors.append(error)
        if errors:
            problems = "\n".join(error.message for error in errors)
            raise ConfigError(problems, hint=errors[0].hint)
        _check_points(found)
        return found


def load(
    file: Path | None = None,
    *,
    assignments: Sequence[str] = (),
    options: Mapping[str, object] | None = None,
    added: Sequence[str] = (),
    read: study.Read = documents.read_mapping,
) -> Comparison:
    """Read a comparison (or the default), apply overrides, validate everything once.

    Args:
        file: a YAML file; None for the built-in default.
        assignments: `dotted.key=value` for the base experiment.
        options: dotted key of the comparison to value; None: not given.
        added: names of optimizers to add to those of the file or of the default.
        read: reads the file, and notes the line of each key.

    Raises:
        ConfigError: lists all problems, each with its place.
    """

    def edit(values: dict[str, Any], origins: documents.Origins) -> None:
        if options and options.get("protocol") == "paper":
            values.pop("tuning", None)  # the option overrides the file
        if added:
            if values.get("optimizers") is None:
                values["optimizers"] = _DEFAULTS
            study.add(values, origins, "optimizers", added, "--add")

    settings = study.load(
        Comparison, file, assignments=assignments, options=options, edit=edit, read=read
    )
    _ = settings.points  # each must be an experiment
    return settings


_FREE = ("optimizers", "seeds", "target", "target.at", "baseline")


def differing(new: Comparison, old: Comparison) -> list[str]:
    """Return the settings that keep two comparisons from sharing trials, with both values.

    Optimizers, seeds, the baseline, the target and the number of drawn points may differ.
    """
    drawn = ["tuning.trials"] if all(one.tuning and one.tuning.trials for one in (new, old)) else []
    return study.differing(new, old, free=[*_FREE, *drawn])


def default_name(settings: Comparison) -> str:
    """Return a name made of data, code size and protocol."""
    base = settings.base
    stem = name_of(base).removesuffix(f"-{base.optimizer.name}-s{base.seed}")
    return f"compare-{stem}-{settings.protocol}"


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
    names = sorted(entry.model_fields_set - {"name", "label", "space"})
    return {name: getattr(entry, name) for name in names}


def _entries(base: Config, entries: Sequence[Entry]) -> dict[str, Config]:
    """Return the experiment of each optimizer, by label."""
    pairs = zip(labels(entries), entries, strict=True)
    return {label: _resolved(base, entry) for label, entry in pairs}


def _check_different(entries: Mapping[str, Config]) -> None:
    for (a, one), (b, other) in combinations(entries.items(), 2):
        if one == other:
            raise conflict(f"{a} and {b} are the same experiment: remove one of them")


def _check_grids(entries: Mapping[str, Config], tuning: Tuning) -> None:
    """Refuse optimizers whose grids may overlap: a trial must belong to one optimizer only."""
    shapes = {label: at_rate(one, 1.0).settings for label, one in entries.items()}
    rates = {
        label: tuning.reach(one.optimizer.chosen.learning_rate) for label, one in entries.items()
    }
    for a, b in combinations(entries, 2):
        shared = sorted(rates[a] & rates[b])
        if shapes[a] == shapes[b] and shared:
            meeting = shared[len(shared) // 2]  # prefer one of the first grid
            raise conflict(
                f"{a} and {b} are the same experiment at learning rate {meeting:g}, which the "
                "grids of both can come to: remove one of them",
                hint="a search chooses the learning rate; optimizers must differ in another key, "
                "or take protocol: paper, without a search",
            )


def _check_points(points: Mapping[str, Sequence[Point]]) -> None:
    """Refuse optimizers with a drawn point in common: a trial must belong to one optimizer only.

    Raises:
        ConfigError: they have a point in common.
    """
    places: dict[Config, str] = {}
    for label, those in points.items():
        for point in those:
            other = places.setdefault(point.settings, label)
            if other != label:
                raise ConfigError(
                    f"{other} and {label} are the same experiment at {told(point.values)}, a point "
                    "that is drawn for both: remove one of them",
                    hint="let them differ in a key that the space does not draw, or give one of "
                    "them a space of its own",
                )


def _resolved(base: Config, entry: Entry) -> Config:
    """Return the base experiment with the optimizer of an entry."""
    given = _given(entry)
    shared = {key: value for key, value in given.items() if key in OptimizerChoice.model_fields}
    own = {key: value for key, value in given.items() if key not in shared}
    # settings of optimizers that are not chosen must not count
    optimizer = base.optimizer.model_copy(update={**shared, "name": entry.name}).alone()
    return base.model_copy(update={"optimizer": optimizer.with_chosen(**own)})
