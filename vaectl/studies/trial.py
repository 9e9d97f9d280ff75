"""A trial: one training of a study."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal, NamedTuple

from vaectl.base.values import written
from vaectl.config.schema import Config
from vaectl.studies import identity
from vaectl.studies.ranges import Value

Stage = Literal["tuning", "result"]
"""The purpose of a trial: to tell a score alone, or to leave a run."""

Values = tuple[tuple[str, Value], ...]
"""Keys of an experiment and their values."""


class Trial(NamedTuple):
    """A training of a study."""

    label: str
    stage: Stage
    settings: Config
    until: int = 0
    """The epoch after which it pauses; 0: it trains to the end."""
    values: Values = ()
    """The values that a search chose for it, by keys of its optimizer."""

    @property
    def learning_rate(self) -> float:
        """The learning rate of its optimizer."""
        return self.settings.optimizer.chosen.learning_rate

    @property
    def run_name(self) -> str:
        """The name of its run in the study's directory."""
        return f"{self.label}-s{self.settings.seed}"

    @property
    def whole(self) -> Trial:
        """The same trial until its end."""
        return self._replace(until=0)

    @property
    def traced(self) -> tuple[str, ...]:
        """Numbers of its optimizer in which others of the same program differ.

        A run has none: its last bits are those of the same experiment alone.
        """
        if self.stage == "result" or not self.values:
            return ()
        from vaectl.training.program import traceable

        return traceable(self.settings.optimizer, tuple(key for key, _ in self.values))

    def key(self, fingerprint: str) -> str:
        """Return the hash of everything that its numbers depend on."""
        return identity.key(self.settings, fingerprint)

    def keys(self, fingerprint: str) -> list[str]:
        """Return its key, and the key that an older vaectl gave it."""
        old = identity.old_key(self.settings, fingerprint)
        return [self.key(fingerprint), *([old] if old else [])]

    def __str__(self) -> str:
        return f"{self.label}, {self.chosen}, seed {self.settings.seed}"

    @property
    def chosen(self) -> str:
        """The text that distinguishes it from other trials with its label and seed."""
        others = [(key, value) for key, value in self.values if key != "learning_rate"]
        return told((("learning rate", self.learning_rate), *others))


def told(values: Iterable[tuple[str, Value]]) -> str:
    """Write values and their keys."""
    return ", ".join(f"{key} {written(value)}" for key, value in values)


def alike(trial: Trial) -> tuple[Config, tuple[str, ...]]:
    """Return what is equal for trials of one program: no seed, learning rate or traced numbers."""
    settings, traced = trial.settings, trial.traced
    optimizer = settings.optimizer.without(traced)
    return settings.model_copy(update={"optimizer": optimizer, "seed": 0}), traced


def programs(trials: Sequence[Trial]) -> list[list[Trial]]:
    """Group trials of one program: they differ in seed, learning rate and traced numbers alone."""
    groups: dict[object, list[Trial]] = {}
    for trial in trials:
        groups.setdefault(alike(trial), []).append(trial)
    return list(groups.values())
