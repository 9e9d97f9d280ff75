"""The race to a target: epochs, steps and seconds to it at each seed, and relative to the baseline.

Steps are counted to the end of the first epoch whose validation score is at the target or above.
Seconds are these steps at the time of a step that was measured with all optimizers in turns: see
`vaectl.comparison.times`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from vaectl.comparison.plan import Comparison
from vaectl.comparison.result import Member
from vaectl.comparison.times import Times
from vaectl.runs.metrics import Row
from vaectl.studies import statistics
from vaectl.studies.facts import alike
from vaectl.studies.statistics import Interval


class Race(NamedTuple):
    """The optimizers that reached the target, and when."""

    reached: Mapping[str, Sequence[Row | None]]
    """The first epoch at the target at each seed, by optimizer; None if there is none."""
    baseline: str
    """The label of the optimizer that others are measured against."""
    times: Times | None
    seeds: Sequence[int]
    ran_on: Mapping[tuple[str, int], str]
    """The kind of device of each run, by optimizer and seed."""

    @classmethod
    def of(
        cls,
        settings: Comparison,
        by_label: Mapping[str, Sequence[Member]],
        target: float | None,
        times: Times | None,
        ran_on: Mapping[tuple[str, int], str],
    ) -> Race:
        """Find the optimizers that reached a target; members that diverge later do not count."""
        found = {}
        for label, those in by_label.items():
            rows = {
                member.outcome.seed: member.reached(target)
                for member in those
                if target is not None and member.finished
            }
            found[label] = [rows.get(seed) for seed in settings.seeds]
        return cls(found, settings.baseline_label, times, settings.seeds, ran_on)

    def steps(self, label: str) -> list[int | None]:
        """Return the steps to the target at each seed."""
        return [row.step if row else None for row in self.reached[label]]

    def pace(self, label: str) -> float | None:
        """Return the seconds of a step; None if it was not timed."""
        return self.times.step(label) if self.times and label in self.times.seconds else None

    def seconds(self, label: str) -> list[float | None]:
        """Return the seconds of training to the target at each seed, on a quiet machine."""
        pace = self.pace(label)
        quiet = pace is not None and self.times is not None and not self.times.loaded
        return [row.step * pace if row and pace and quiet else None for row in self.reached[label]]

    def relative_time(self, label: str) -> float | None:
        """Return the time of a step relative to the fastest, on a quiet machine."""
        if self.times is None or self.times.loaded or label not in self.times.seconds:
            return None
        return self.times.ratio(label, self.times.fastest)

    def to_baseline(self, label: str) -> Interval | None:
        """Return the steps to the target relative to the baseline's, over comparable pairs."""
        pair = alike(self.ran_on, label, self.baseline, self.seeds)
        mine, others = (
            [steps if known else None for steps, known in zip(self.steps(each), pair, strict=True)]
            for each in (label, self.baseline)
        )
        return ratio(mine, others)


def ratio(mine: Sequence[float | None], others: Sequence[float | None]) -> Interval | None:
    """Return the ratio of two optimizers' steps to the target, the geometric mean over seeds.

        exp(mean(log(mine / others)))

    with the interval of the mean of the logarithms. Seeds at which one of them did not reach the
    target are left out; None if no seed remains.
    """
    pairs = zip(mine, others, strict=True)
    logs = [math.log(a / b) for a, b in pairs if a is not None and b is not None]
    found = statistics.interval(np.asarray(logs))
    if found is None:
        return None
    low, high = (None if end is None else math.exp(end) for end in (found.low, found.high))
    return Interval(math.exp(found.mean), low, high, found.seeds)
