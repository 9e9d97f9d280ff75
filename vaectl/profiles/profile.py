"""Performance profiles of optimizers over workloads, from the summaries of their comparisons.

    r_wa     = steps of a to the target of w / fewest steps of any optimizer there
    rho_a(t) = part of the workloads with r_wa <= t
    score_a  = 1 / log T  integral from 1 to T of rho_a(t) d(log t)     T = 4
             = mean over w of max(0, 1 - log r_wa / log T)

Steps are medians over seeds; those of an optimizer that does not reach the target are infinite. The
score is 1 for an optimizer that is the fastest everywhere, and 0 for one that always needs T times
as many steps or more. Dolan & More 2002; Dahl et al. 2023 (AlgoPerf), which integrates up to the
same T, but on a linear axis, where most of the area belongs to large factors.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from vaectl.comparison.summary import Side, Summary
from vaectl.studies import published, statistics
from vaectl.studies.published import Order, Published
from vaectl.studies.statistics import Interval

FORMAT_VERSION = 1
LIMIT = 4.0
"""T: the factor up to which profiles are drawn and integrated."""
_SAME = 1e-9
"""The rounding of a score."""


class Part(Published):
    """An optimizer on one workload."""

    best: Interval | None
    """The best validation score over seeds, in nats per image; None if all diverged."""
    steps: float | None
    """The median over seeds of the steps to the target; None if it was not reached."""
    factor: float | None
    """These steps relative to the fewest; None if the target was not reached."""
    first: bool
    """True if it has the best mean rank by its best score."""


class Workload(Published):
    """A workload, and the target of its comparison."""

    name: str
    path: str
    """The directory of its comparison."""
    quantity: str
    """The number that it is judged by: the objective's `best`."""
    target: float | None
    target_told: str
    """The target in words."""
    parts: dict[str, Part]
    """The part of each optimizer, by its label."""


class Standing(Published):
    """An optimizer over all workloads."""

    label: str
    score: float
    """The area under its profile, from 0 to 1."""
    factors: list[float]
    """The factors at which its profile has its steps, from 1 to T."""
    within: list[float]
    """The parts of the workloads within these factors."""
    of_seeds: Interval | None
    """The mean over seeds of the scores of each seed alone."""
    behind: Interval | None
    """The paired difference of these scores: the first optimizer's minus its own; None if the two
    ran on different kinds of devices at a seed of some workload."""
    p_value: float | None
    """The p-value of its paired t test, adjusted by Holm's method for all that are tested."""

    @property
    def order(self) -> Order:
        """The place beside the first, which is so by medians, by the scores of seeds."""
        return published.order(self.p_value, self.behind)


class Profile(Published):
    """The contents of profile.json."""

    format_version: int = FORMAT_VERSION
    name: str
    path: str
    limit: float = LIMIT
    seeds: list[int]
    """The seeds that all workloads have."""
    intervals: str
    workloads: list[Workload]
    standings: list[Standing]
    """Sorted by score, the best first."""
    changes: list[str]
    """The workloads whose removal would change the ranking, and the optimizers that change
    places."""
    device: dict[str, Any]
    versions: dict[str, str]
    git_commit: str | None

    def firsts(self, label: str) -> list[str]:
        """Return the workloads where an optimizer is first by its best score."""
        return [each.name for each in self.workloads if each.parts[label].first]


def profile_of(path: Path, summaries: Mapping[str, Summary]) -> Profile:
    """Compute the profile.

    Args:
        path: its directory.
        summaries: of the comparison of each workload, by its name.
    """
    first = next(iter(summaries.values()))
    seeds = [seed for seed in first.seeds if all(seed in each.seeds for each in summaries.values())]
    sides = {name: {side.label: side for side in each.sides} for name, each in summaries.items()}
    labels = sorted(sides[next(iter(sides))])
    steps = np.array(
        [
            [_steps(of_workload[label], summary, seeds) for label in labels]
            for of_workload, summary in zip(sides.values(), summaries.values(), strict=True)
        ]
    )
    medians = np.median(steps, axis=2)
    found = factors(medians)
    standings = _standings(labels, found, areas(factors(steps)), [*summaries.values()])
    return Profile(
        name=path.name,
        path=str(path),
        seeds=seeds,
        intervals=statistics.METHOD,
        workloads=[
            _workload(name, summary, dict(zip(labels, zip(*rows, strict=True), strict=True)))
            for (name, summary), *rows in zip(summaries.items(), medians, found, strict=True)
        ],
        standings=standings,
        changes=_changes(list(summaries), labels, found),
        device=first.device,
        versions=first.versions,
        git_commit=first.git_commit,
    )


def factors(steps: Float[np.ndarray, "workloads optimizers *seeds"]) -> Any:
    """Return the steps relative to the fewest of each workload; inf where a target is not reached.

    Args:
        steps: to the target; inf if it is not reached.
    """
    fewest = np.min(steps, axis=1, keepdims=True)
    return np.where(np.isfinite(steps), steps, np.inf) / np.where(np.isfinite(fewest), fewest, 1.0)


def areas(factors: Float[np.ndarray, "workloads optimizers *seeds"]) -> Any:
    """Return the area under each optimizer's profile on a logarithmic axis, as a part of all."""
    return np.mean(np.clip(1 - np.log(factors) / math.log(LIMIT), 0, 1), axis=0)


def corners(factors: Float[np.ndarray, " workloads"]) -> tuple[list[float], list[float]]:
    """Return the factors at which a profile rises, and its heights there, from 1 to the limit."""
    at = sorted({1.0, LIMIT, *(each for each in factors.tolist() if each <= LIMIT)})
    return at, [float(np.mean(factors <= each)) for each in at]


def _steps(side: Side, summary: Summary, seeds: Sequence[int]) -> list[float]:
    """Return the steps to the target at some seeds; inf if it was not reached."""
    known = dict(zip(summary.seeds, side.steps_to_target, strict=True))
    return [math.inf if (steps := known[seed]) is None else float(steps) for seed in seeds]


def _standings(
    labels: Sequence[str],
    found: Float[np.ndarray, "workloads optimizers"],
    of_seeds: Float[np.ndarray, "optimizers seeds"],
    summaries: Sequence[Summary],
) -> list[Standing]:
    scores = areas(found)
    means = np.mean(of_seeds, axis=1)
    order = sorted(range(len(labels)), key=lambda i: (-scores[i], -means[i]))
    none = np.empty(0)
    gaps = [none] + [
        of_seeds[order[0]] - of_seeds[i]
        if all(_of_one_kind(each, labels[order[0]], labels[i]) for each in summaries)
        else none
        for i in order[1:]
    ]
    tested = [statistics.p_value(gap) for gap in gaps]
    adjusted = iter(statistics.holm([p for p in tested if p is not None]))
    return [
        Standing(
            label=labels[i],
            score=scores[i],
            **dict(zip(("factors", "within"), corners(found[:, i]), strict=True)),
            of_seeds=_within_bounds(statistics.interval(of_seeds[i])),
            behind=statistics.interval(gap),
            p_value=None if p is None else next(adjusted),
        )
        for i, gap, p in zip(order, gaps, tested, strict=True)
    ]


def _of_one_kind(summary: Summary, a: str, b: str) -> bool:
    """Tell whether two optimizers ran on one kind of device at every seed of a workload."""
    if len(summary.kinds) < 2:
        return True
    pairs = (pair.seeds for pair in summary.pairs if {pair.a, pair.b} == {a, b})
    return next(pairs, 0) == len(summary.seeds)


def _workload(name: str, summary: Summary, numbers: Mapping[str, tuple[float, float]]) -> Workload:
    best_rank = min(side.mean_rank for side in summary.sides)
    return Workload(
        name=name,
        path=summary.path,
        quantity=summary.quantity,
        target=summary.target,
        target_told=summary.target_told,
        parts={
            side.label: Part(
                best=side.best.get(summary.quantity),
                steps=_finite(numbers[side.label][0]),
                factor=_finite(numbers[side.label][1]),
                first=side.mean_rank == best_rank and bool(side.best),
            )
            for side in summary.sides
        },
    )


def _changes(
    names: Sequence[str], labels: Sequence[str], found: Float[np.ndarray, "workloads optimizers"]
) -> list[str]:
    """Describe which optimizers change places if one workload is left out."""
    told = []
    scores = areas(found)
    for place, name in enumerate(names) if len(names) > 1 else ():
        without = areas(np.delete(found, place, axis=0))
        changed = [
            f"{labels[b]} is above {labels[a]}"
            for a in np.argsort(-scores)
            for b in np.argsort(-scores)
            if scores[a] > scores[b] + _SAME and without[a] < without[b] - _SAME
        ]
        if changed:
            told.append(f"without {name} {' and '.join(changed)}")
    return told


def _within_bounds(found: Interval | None) -> Interval | None:
    """Cut the interval of a score to the values that it can have."""
    if found is None or found.low is None or found.high is None:
        return found
    return replace(found, low=max(found.low, 0.0), high=min(found.high, 1.0))


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
