"""Main effects: how much the score depends on each key, on average over the other keys."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from vaectl.studies import statistics
from vaectl.studies.published import Published
from vaectl.studies.ranges import Value
from vaectl.studies.statistics import CONFIDENCE, Interval
from vaectl.sweeps.axes import DRAW
from vaectl.sweeps.plan import Point, Sweep
from vaectl.sweeps.scores import Scores

MOST_DIVERGED = 0.5
"""The share of diverged trials above which no effect of a value is computed."""
RESAMPLES = 2_000


Cells = Float[np.ndarray, "levels cells seeds"]


class Level(Published):
    """A value, or values that go together, and what it adds to the score."""

    values: dict[str, Any]
    effect: Interval | None
    """The mean difference from the mean over all values, in nats per image, at the same seed and
    the same values of all other keys; its interval is over seeds. None if too few trials ended."""
    trials: int
    diverged: int


class Effect(Published):
    """An axis, and the effect of each of its values."""

    keys: list[str]
    levels: list[Level]
    spread: float | None
    """The highest effect less the lowest, in nats per image."""
    cells: int
    """Combinations of all other values and seeds in which all values could be compared."""


class Trend(Published):
    """A key whose values were drawn, and its correlation with the score."""

    key: str
    correlation: Interval | None
    """Spearman's rank correlation with the mean score over all else, of drawn points that trained;
    None if there are fewer than four, or all scores are equal. Its interval is a bootstrap over
    drawn points."""
    points: int
    """The number of drawn points that trained at some seed."""


def effects(settings: Sweep, scores: Scores) -> list[Effect]:
    """Compute the main effect of each axis that does not draw, the largest first.

        effect of a value = mean over cells of (score - mean of the cell over all values)

    A cell is a combination of the other axes' values, and a seed. Cells in which a trial diverged
    or is missing are left out, so that all values meet the same cells; a value at which more than
    half of the trials diverged is left out itself.
    """
    found = [
        _effect(settings, number, keys, scores)
        for number, keys in enumerate(settings.axes)
        if DRAW not in settings.vary[number]
    ]
    return sorted(found, key=lambda effect: -(effect.spread or 0.0))


def _effect(settings: Sweep, axis: int, keys: Sequence[str], scores: Scores) -> Effect:
    cells = _cells(settings.points, axis, scores)
    counts = cells.reshape(len(cells), -1)
    diverged = np.isneginf(counts).sum(axis=1)
    alive = (~np.isfinite(counts)).mean(axis=1) <= MOST_DIVERGED
    whole = (
        np.isfinite(cells[alive]).all(axis=0) if alive.any() else np.zeros(cells.shape[1:], bool)
    )
    centred = np.where(whole, cells, np.nan)
    if whole.any():
        centred = centred - np.where(whole, cells[alive].mean(axis=0), np.nan)
    named = [{key: values[key] for key in keys} for values in _values(settings.points, axis)]
    levels = [
        Level(
            values=values,
            effect=_over_seeds(centred[level]) if alive[level] and whole.any() else None,
            trials=counts.shape[1],
            diverged=int(diverged[level]),
        )
        for level, values in enumerate(named)
    ]
    means = [level.effect.mean for level in levels if level.effect]
    spread = max(means) - min(means) if len(means) > 1 else None
    return Effect(keys=list(keys), levels=levels, spread=spread, cells=int(whole.sum()))


def _cells(points: Sequence[Point], axis: int, scores: Scores) -> Cells:
    """Arrange scores by the level of an axis, the combination of the others, and the seed."""
    levels = 1 + max(point.levels[axis] for point in points)
    others = [point.levels[:axis] + point.levels[axis + 1 :] for point in points]
    places = {other: place for place, other in enumerate(dict.fromkeys(others))}
    found = np.full((levels, len(places), scores.shape[1]), np.nan)
    for point, other, row in zip(points, others, scores, strict=True):
        found[point.levels[axis], places[other]] = row
    return found


def _values(points: Sequence[Point], axis: int) -> list[dict[str, Value]]:
    """Return the values at each level of an axis, and those of other axes beside them."""
    firsts: dict[int, Point] = {}
    for point in points:
        firsts.setdefault(point.levels[axis], point)
    return [firsts[level].values for level in range(len(firsts))]


def _over_seeds(centred: Float[np.ndarray, "cells seeds"]) -> Interval | None:
    """Average over cells at each seed, then over seeds."""
    known = np.isfinite(centred)
    each = [
        column[there].mean()
        for column, there in zip(centred.T, known.T, strict=True)
        if there.any()
    ]
    return statistics.interval(np.array(each))


def trends(settings: Sweep, scores: Scores) -> list[Trend]:
    """Compute the rank correlation of the score with each drawn number, the strongest first.

    The score of a drawn point is the mean over all else, of the differences from the mean of each
    combination of the other axes' values and a seed.
    """
    found = []
    for number, axis in enumerate(settings.vary):
        if DRAW not in axis:
            continue
        cells = _cells(settings.points, number, scores)
        finite = np.isfinite(cells)
        centred = np.where(finite, cells, 0.0)
        counts = finite.sum(axis=0)
        centred = np.where(finite, centred - centred.sum(axis=0) / np.maximum(counts, 1), 0.0)
        known = finite.any(axis=(1, 2))
        means = centred.sum(axis=(1, 2)) / np.maximum(finite.sum(axis=(1, 2)), 1)
        for key in settings.axes[number]:
            values = [each[key] for each in _values(settings.points, number)]
            if all(isinstance(value, int | float) for value in values):
                numbers = np.array(values, np.float64)
                found.append(_trend(key, numbers[known], means[known]))
    return sorted(found, key=lambda t: -abs(t.correlation.mean) if t.correlation else 0.0)


def _trend(key: str, x: Any, y: Any) -> Trend:
    if len(x) < 4 or len({*x}) < 2 or len({*y}) < 2:
        return Trend(key=key, correlation=None, points=len(x))
    rng = np.random.default_rng(0)  # the same scores give the same interval
    (_, x), (_, y) = (np.unique(each, return_inverse=True) for each in (x, y))
    resampled = []
    for _ in range(RESAMPLES):
        times = np.bincount(rng.integers(0, len(x), len(x)), minlength=len(x))
        resampled.append(_spearman(x, y, times))
    low, high = np.nanquantile(resampled, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    found = Interval(_spearman(x, y, np.ones_like(x)), float(low), float(high), len(x))
    return Trend(key=key, correlation=found, points=len(x))


def _spearman(x: Any, y: Any, times: Any) -> float:
    """Return the rank correlation of points with multiplicities; NaN if all values are equal.

    Args:
        x: the places of the values among all different ones.
        y: the same of the scores.
        times: the multiplicity of each point.
    """
    ranks = []
    for places in (x, y):
        counts = np.bincount(places, times)
        ranks.append((np.cumsum(counts) - counts / 2)[places])  # equal ones share a rank
    a, b = (each - np.average(each, weights=times) for each in ranks)
    spread = math.sqrt(float(times @ (a * a)) * float(times @ (b * b)))
    return float(times @ (a * b)) / spread if spread else math.nan
