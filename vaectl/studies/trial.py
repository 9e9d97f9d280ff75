"""A trial: one training of a study."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

from vaectl.config.schema import Config
from vaectl.studies import identity

Stage = Literal["tuning", "result"]
"""Whether a trial only tells a score, or leaves a run."""


class Trial(NamedTuple):
    """A training of a study."""

    label: str
    stage: Stage
    settings: Config
    until: int = 0
    """The epoch after which it pauses; 0: it trains to the end."""

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

    def key(self, fingerprint: str) -> str:
        """Return the hash of everything that its numbers depend on."""
        return identity.key(self.settings, fingerprint)

    def keys(self, fingerprint: str) -> list[str]:
        """Return its key, and the key that an older vaectl gave it."""
        old = identity.old_key(self.settings, fingerprint)
        return [self.key(fingerprint), *([old] if old else [])]

    def __str__(self) -> str:
        return f"{self.label}, learning rate {self.learning_rate:g}, seed {self.settings.seed}"


def alike(settings: Config) -> Config:
    """Return settings that are equal for trials of one program: without seed and learning rate."""
    optimizer = settings.optimizer.with_chosen(learning_rate=1.0)
    return settings.model_copy(update={"optimizer": optimizer, "seed": 0})


def programs(trials: Sequence[Trial]) -> list[list[Trial]]:
    """Group trials that differ in seed and learning rate alone: they compile to one program."""
    groups: dict[Config, list[Trial]] = {}
    for trial in trials:
        groups.setdefault(alike(trial.settings), []).append(trial)
    return list(groups.values())
