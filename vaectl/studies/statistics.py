"""Statistics over a few seeds: intervals, paired differences and ranks.

A score is a validation ELBO, or another bound that the objective names as its best: higher is
better. A member that diverged has the score -inf: it ranks below all others, and is left out of
means.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from jaxtyping import Float
from scipy import stats

When = TypeVar("When", int, float)

CONFIDENCE = 0.95
RESAMPLES = 9_999
_AT_ONCE = 100
"""Rows of scores that are resampled together."""


@dataclass(frozen=True)
class Interval:
    """A mean over seeds, with its confidence interval."""

    mean: float
    low: float | None
    """None for a single seed."""
    high: float | None
    seeds: int


def interval(values: Float[np.ndarray, " seeds"]) -> Interval | None:
    """Return the mean of the finite values with a 95 % percentile bootstrap interval.

    None if there are no finite values. BCa is not used, because it fails if all values are equal.
    With few seeds the interval is too narrow: for normal values it contains the true mean in about
    83 % of cases with five seeds, and 90 % with ten.

    Efron & Tibshirani 1993, section 13.3.
    """
    finite = values[np.isfinite(values)]
    if not finite.size:
        return None
    if finite.size == 1:
        return Interval(float(finite[0]), None, None, 1)
    low, high = _bootstrapped(finite)
    return Interval(float(finite.mean()), float(low), float(high), finite.size)


def _bootstrapped(values: Float[np.ndarray, "*rows seeds"]) -> tuple[Any, Any]:
    found = stats.bootstrap(
        (values,),
        np.mean,
        axis=-1,
        confidence_level=CONFIDENCE,
        n_resamples=RESAMPLES,
        method="percentile",
        rng=np.random.default_rng(0),  # the same scores give the same interval
    ).confidence_interval
    return found.low, found.high


def intervals(values: Float[np.ndarray, "rows seeds"]) -> list[Interval | None]:
    """Return the interval of each row, as `interval` does, for many rows at once."""
    found = [interval(row[:1]) if row.size == 1 else None for row in values]
    whole = np.flatnonzero(np.isfinite(values).all(axis=1)) if values.shape[1] > 1 else np.empty(0)
    for rows in np.array_split(whole, max(len(whole) // _AT_ONCE, 1)):
        if len(rows):
            part = values[rows]
            limits = _bootstrapped(part)
            for row, mean, low, high in zip(rows, part.mean(axis=1), *limits, strict=True):
                found[row] = Interval(float(mean), float(low), float(high), part.shape[1])
    rest = set(range(len(values))) - {*whole.tolist()} if values.shape[1] > 1 else set()
    for row in rest:
        found[row] = interval(values[row])
    return found


def shown(found: Interval | None) -> str:
    """Return a mean and its interval as text."""
    if found is None:
        return "none"
    if found.low is None or found.high is None:
        return f"{found.mean:.2f}"
    return f"{found.mean:.2f} [{found.low:.2f}, {found.high:.2f}]"


def difference(a: Float[np.ndarray, " seeds"], b: Float[np.ndarray, " seeds"]) -> Interval | None:
    """Return the mean and interval of a - b over the seeds at which both finished, in pairs."""
    both = np.isfinite(a) & np.isfinite(b)
    return interval(a[both] - b[both])


def probability_of_beating(a: Float[np.ndarray, " seeds"], b: Float[np.ndarray, " seeds"]) -> float:
    """Return the share of seeds at which a scores higher than b; a tie counts half."""
    return float(np.mean((a > b) + 0.5 * (a == b)))


def ranks(
    scores: Float[np.ndarray, "optimizers seeds"],
) -> Float[np.ndarray, "optimizers seeds"]:
    """Rank the scores of each seed: 1 is the highest; equal scores share their mean rank."""
    found: Float[np.ndarray, "optimizers seeds"] = stats.rankdata(-scores, axis=0)
    return found


def expected_best(scores: Float[np.ndarray, " trials"]) -> Float[np.ndarray, " budgets"]:
    """Return the exact expectation of the best of k of the n trials, for k = 1 ... n.

        E[max of k] = sum_i s_(i) C(i - 1, k - 1) / C(n, k)        s_(1) <= ... <= s_(n)

    It is -inf as long as k trials can all have diverged. Dodge et al. 2019, eq. 4, but drawn
    without replacement.
    """
    ordered = np.sort(scores)
    n = len(ordered)
    best = np.empty(n)
    for k in range(1, n + 1):
        # the probability that trial i is the best: the other k - 1 come from those below it
        chance = np.array([math.comb(i, k - 1) / math.comb(n, k) for i in range(n)])
        best[k - 1] = ordered[chance > 0] @ chance[chance > 0]
    return best


def reached(target: float, scores: Sequence[float], when: Sequence[When]) -> When | None:
    """Return the first epoch or time at which a score reached the target; None if none did."""
    return next((at for score, at in zip(scores, when, strict=True) if score >= target), None)
