"""The results of a comparison: summary.json."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from vaectl.studies import published, statistics
from vaectl.studies.published import Order, Published, Summarized
from vaectl.studies.statistics import Interval

FORMAT_VERSION = 3


class Tried(Published):
    """A learning rate of the grid, and its score."""

    learning_rate: float
    score: float | None
    """Mean best validation score over the tuning seeds; None if one of them diverged."""
    values: dict[str, Any] = Field({})
    """All settings that the search chose."""


class Side(Published):
    """The results of one optimizer, in nats per image; intervals are over seeds."""

    label: str
    optimizer: str
    learning_rate: float | None
    """The learning rate of the result; None if all tried ones diverged."""
    best_run: str | None
    """The run with the best validation score."""
    seeds: int
    diverged: int
    """The number of seeds that diverged."""
    final: dict[str, Interval]
    """Each number on the validation split in the last epoch, by name; none if all diverged."""
    best: dict[str, Interval]
    """The same in the best epoch."""
    test_elbo: Interval | None
    test_log_likelihood: Interval | None
    """The importance-weighted bound IW-K."""
    test_kl: Interval | None
    active_units: Interval | None
    collapsed: int
    """The number of seeds with fewer than half of the units active."""
    ranks: list[float]
    """The rank at each seed by best validation score; 1 is the best."""
    mean_rank: float
    epochs_to_target: list[int | None]
    """Epochs at each seed; None if the target was not reached."""
    steps_to_target: list[int | None]
    """The same in steps."""
    seconds_to_target: list[float | None]
    """The same in seconds of training, by the time of a step; None if the machine was loaded."""
    steps_to_baseline: Interval | None
    """Steps to the target relative to the baseline's, over seeds at which both reached it on one
    kind of device."""
    seconds_per_step: float | None
    """The median time of a training step, measured with all others in turns."""
    relative_time: float | None
    """The time of a step relative to the fastest optimizer's; None if the machine was loaded."""
    ranks_along: list[float]
    """The mean rank over seeds if training had ended after each epoch."""
    found: dict[str, Any] = Field({})
    """The settings that the search chose for the result; empty without one, or if all diverged."""
    tunable: int = 0
    """The number of keys that the search varied."""
    tried: list[Tried]
    at_edge: bool
    """True if the best learning rate is still the lowest or highest of those tried."""
    expected_best: list[float | None]
    """Expected score of the best of 1, 2, ... points drawn from those tried; None if they can all
    have diverged."""


class Pair(Published):
    """Two optimizers at the same seeds, by best validation score."""

    a: str
    b: str
    difference: Interval | None
    """Mean of a - b over the seeds at which both finished."""
    probability: float
    """The share of all `seeds` at which a is higher; an optimizer that diverged is lower, and a tie
    counts half."""
    seeds: int
    """The number of seeds at which both ran on one kind of device; other seeds give no pair."""
    p_value: float | None = None
    """The p-value of a paired t test over the seeds at which both finished; None below two."""
    adjusted_p: float | None = None
    """The same, adjusted by Holm's method for all pairs of the comparison that are tested."""
    best_p: float | None = None
    """The same, adjusted for the pairs with the first optimizer alone, to tell whether it is the
    best; None for other pairs."""

    @property
    def apart(self) -> bool:
        """Tell whether the two differ significantly, with the p-value adjusted for all pairs."""
        return self.adjusted_p is not None and self.adjusted_p <= statistics.LEVEL

    @property
    def order(self) -> Order:
        """The place of b, if a is the first by rank."""
        p = self.adjusted_p if self.best_p is None else self.best_p
        return published.order(p, self.difference)


class Summary(Summarized):
    """The contents of summary.json."""

    format_version: int = FORMAT_VERSION
    protocol: str
    seeds: list[int]
    epochs: int
    code_size: int
    trials: int
    diverged: list[str]
    """The trials that diverged, with their errors."""
    quantity: str
    """The number that everything is judged by: the objective's `best`."""
    baseline: str
    """The label of the optimizer that others are measured against."""
    target: float | None
    target_told: str
    """The target in words."""
    loaded: str
    """The reason why the times cannot be ranked; empty if they can."""
    leaders: list[tuple[int, str]]
    """The leaders by mean rank, and the epoch from which each leads."""
    crossings: list[str]
    """Optimizers that changed places late, so that the ranking depends on the budget."""
    sides: list[Side]
    """Sorted by mean rank, the best first."""
    pairs: list[Pair]
