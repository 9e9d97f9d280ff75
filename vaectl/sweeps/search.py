"""Search by successive halving: all points train for a while, the best of them for longer.

    epochs of comparison i of n = E / r^(n - i)         points that go on to i + 1 = ceil(N / r^i)

for E epochs, N points and the ratio r. A point that does not go on is paused, not deleted: its run
keeps its checkpoints. If the same search gets more points or seeds later and selects it, it goes
on. Jamieson & Talwalkar 2016; Li et al. 2018 (Hyperband's inner loop).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from vaectl.runs.metrics import Row
from vaectl.studies.engine import Engine
from vaectl.studies.trial import Trial, programs
from vaectl.sweeps.plan import Point, Search, Sweep
from vaectl.training.events import Note, Watch, ignore


class Rung(NamedTuple):
    """A comparison of points that have trained for the same number of epochs."""

    epoch: int
    points: int
    """The number of points that take part."""


def rungs(settings: Sweep, search: Search) -> list[Rung]:
    """Return the comparisons of a search, the last of them at the end of training."""
    epochs, count = settings.base.epochs, search.comparisons
    places = [max(round(epochs / search.ratio ** (count - 1 - i)), 1) for i in range(count)]
    points = [math.ceil(len(settings.points) / search.ratio**i) for i in range(count)]
    # short trainings have fewer comparisons
    found = dict(zip(reversed(places), reversed(points), strict=True))
    return [Rung(epoch, points) for epoch, points in reversed(found.items())]


def epochs_of(settings: Sweep, search: Search) -> int:
    """Return the epochs of all members of a search together."""
    total = before = 0
    for epoch, points in rungs(settings, search):
        total += points * (epoch - before)
        before = epoch
    return total * len(settings.seeds)


def is_over(settings: Sweep, search: Search, engine: Engine) -> bool:
    """Tell whether nothing is left to do of a search."""
    wanted = steps(settings, search, engine, ignore)
    return all(engine.is_done(trial) for trials in wanted for trial in trials)


def steps(settings: Sweep, search: Search, engine: Engine, watch: Watch) -> Iterator[list[Trial]]:
    """Yield the trials of each comparison, when those of the one before have paused."""
    alive: Sequence[Point] = settings.points
    before = 0
    for epoch, count in rungs(settings, search):
        if len(alive) > count:
            scores = [_score(point, settings, engine, before) for point in alive]
            order = np.argsort(-np.array(scores), kind="stable")[:count]
            alive = [alive[i] for i in sorted(order)]
            watch(Note(f"search: the best {len(alive)} of {len(scores)} points go on"))
        until = epoch if epoch < settings.base.epochs else 0
        trials = [trial for point in alive for trial in point.trials(settings.seeds)]
        yield [trial._replace(until=until) for group in programs(trials) for trial in group]
        before = epoch


def _score(point: Point, settings: Sweep, engine: Engine, epoch: int) -> float:
    """Return a point's mean best score over seeds until an epoch; -inf if one has none."""
    scores = []
    for trial in point.trials(settings.seeds):
        if trial in engine.lost:
            return -math.inf
        rows, error = engine.rows(trial)
        scores.append(until(rows, error, trial.settings.objective.chosen.best, epoch))
    return float(np.mean(scores))


def until(rows: Sequence[Row], error: str, quantity: str, epoch: int) -> float:
    """Return the best validation score of the first epochs; -inf for one that diverged in them."""
    if error and len(rows) // 2 < epoch:
        return -math.inf
    return max((row.terms[quantity] for row in rows[1::2] if row.epoch <= epoch), default=-math.inf)
