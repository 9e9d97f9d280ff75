"""Statistics over a few seeds: intervals, paired differences and ranks.

A score is a validation ELBO, or another bound that the objective names as its best: higher is
better. A member that diverged has the score -inf: it ranks below all others, and is left out of
means.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TypeVar

import numpy as np
from jaxtyping import Float
from scipy import stats

When = TypeVar("When")

CONFIDENCE = 0.95
LEVEL = 0.05
"""The p-value up to which a difference is told from 0: what `CONFIDENCE` leaves of 1."""
METHOD = f"{CONFIDENCE:.0%} t interval over seeds"
"""The name of an interval, in words."""
ENOUGH = 5
"""The fewest seeds for a verdict: two seeds agree by chance in half of all cases."""
_ENOUGH_FOR_OUTLIERS = 5
_FAR_OUT = 3.0
_IQM = "IQM"


@dataclass(frozen=True)
class Interval:
    """A mean over seeds, with its confidence interval."""

    mean: float
    low: float | None
    """None for a single seed."""
    high: float | None
    seeds: int
    iqm: float | None = None
    """The interquartile mean, if a seed is an outlier that rules the mean."""

    def __neg__(self) -> "Interval":
        """Return the interval of the difference the other way round."""
        low, high, iqm = (None if n is None else -n for n in (self.high, self.low, self.iqm))
        return Interval(-self.mean, low, high, self.seeds, iqm)


def interval(values: Float[np.ndarray, " seeds"]) -> Interval | None:
    """Return the mean of the finite values with a 95 % t interval; None if there are none.

        mean +- t s / sqrt(n)      t: the 97.5 % quantile of Student's t, n - 1 degrees of freedom

    For normal values of 3, 5, 10 or 20 seeds it contains the true mean in 95 % of cases; for paired
    differences of skewed scores or of scores with outliers, which are symmetric, in 95 to 97 %. It
    is used because no other method does so at three to five seeds with an interval of use:

    - the percentile bootstrap contains the mean of normal values in 75, 84, 90 and 93 % of cases;
    - the studentized bootstrap is unbounded at three seeds, and 1.6 times as wide at five; for
      exponential scores it is better: 93 and 94 % at 5 and 10 seeds, where t has 88 and 90 %;
    - intervals from random signs are unbounded at five seeds or fewer.

    `python -m tests.benchmarks.coverage` measures it.
    """
    finite = values[np.isfinite(values)]
    if not finite.size:
        return None
    mean = float(finite.mean())
    if finite.size == 1:
        return Interval(mean, None, None, 1)
    half = _quantile(finite.size) * _standard_error(finite)
    return Interval(mean, mean - half, mean + half, finite.size, _outlying(finite))


def p_value(values: Float[np.ndarray, " seeds"]) -> float | None:
    """Return the p-value of the two-sided t test that the mean is 0; None for fewer than two.

    It is below 5 % exactly where the interval of the finite values does not hold 0; for equal
    values it is the p-value of a sign test, 2^(1 - n), since they show no spread.
    """
    finite = values[np.isfinite(values)]
    if finite.size < 2:
        return None
    mean, error = abs(finite.mean()), _standard_error(finite)
    if not error:
        return 2.0 ** (1 - finite.size) if mean else 1.0
    return float(2 * stats.t.sf(mean / error, finite.size - 1))


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjust the p-values of a family of tests, so that 5 % holds for all of them together.

        adjusted p_(i) = max over j <= i of min(1, (m - j + 1) p_(j))      p_(1) <= ... <= p_(m)

    The chance that any difference of 0 gets an adjusted p-value of 5 % or less is at most 5 %,
    however the tests depend on each other. Holm 1979.
    """
    ordered = np.argsort(p_values)
    factors = np.arange(len(ordered), 0, -1)
    adjusted = np.empty(len(ordered))
    adjusted[ordered] = np.maximum.accumulate(
        np.minimum(factors * np.asarray(p_values)[ordered], 1.0)
    )
    found: list[float] = adjusted.tolist()
    return found


def interquartile_mean(values: Float[np.ndarray, " seeds"]) -> float:
    """Return the mean without the lowest and the highest quarter of the values, rounded down.

    Agarwal et al. 2021, section 4.3.
    """
    return float(stats.trim_mean(values, 0.25))


@cache
def _quantile(seeds: int) -> float:
    return float(stats.t.ppf((1 + CONFIDENCE) / 2, seeds - 1))


def _standard_error(values: Float[np.ndarray, " seeds"]) -> float:
    """Return the standard error of the mean: exactly 0 for equal values, in spite of rounding."""
    return float(values.std(ddof=1) / math.sqrt(values.size)) if np.ptp(values) else 0.0


def _outlying(values: Float[np.ndarray, " seeds"]) -> float | None:
    """Return the interquartile mean if at least five values have an outlier among them.

    An outlier is further than 3 interquartile ranges outside the quartiles. Tukey 1977 calls it
    "far out": of normal values, 13 % of all samples of five have one, and 5 % of those of ten.
    """
    if values.size < _ENOUGH_FOR_OUTLIERS:
        return None
    low, high = np.quantile(values, (0.25, 0.75))
    reach = _FAR_OUT * (high - low)
    far = (values < low - reach) | (values > high + reach)
    return interquartile_mean(values) if far.any() else None


def shown(found: Interval | None) -> str:
    """Return a mean and its interval as text."""
    if found is None:
        return "none"
    if found.low is None or found.high is None:
        return f"{found.mean:.2f}"
    robust = "" if found.iqm is None else f", {_IQM} {found.iqm:.2f}"
    return f"{found.mean:.2f} [{found.low:.2f}, {found.high:.2f}]{robust}"


def told_outliers(*columns: Iterable[str]) -> str:
    """Say what an interquartile mean is, if `shown` wrote one into a cell; nothing if not."""
    if not any(_IQM in cell for column in columns for cell in column):
        return ""
    return (
        "IQM: the interquartile mean, without the highest and the lowest quarter of the seeds; it "
        f"is shown where a seed is an outlier, more than {_FAR_OUT:g} interquartile ranges outside "
        "the quartiles."
    )


def paired(
    a: Float[np.ndarray, " seeds"], b: Float[np.ndarray, " seeds"]
) -> Float[np.ndarray, " paired"]:
    """Return a - b at the seeds at which both finished."""
    both = np.isfinite(a) & np.isfinite(b)
    differences: Float[np.ndarray, " paired"] = a[both] - b[both]
    return differences


def difference(a: Float[np.ndarray, " seeds"], b: Float[np.ndarray, " seeds"]) -> Interval | None:
    """Return the mean and interval of a - b over the seeds at which both finished."""
    return interval(paired(a, b))


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
    below = np.arange(n)
    # the probability that trial i is the best: the other k - 1 come from those below it
    chance = np.full(n, 1 / max(n, 1))
    for k in range(1, n + 1):
        best[k - 1] = ordered[chance > 0] @ chance[chance > 0]
        if k < n:  # C(i, k) / C(n, k + 1), by what is known of k - 1
            chance *= np.maximum(below - k + 1, 0) / k * ((k + 1) / (n - k))
    return best


def reached(target: float, scores: Sequence[float], when: Sequence[When]) -> When | None:
    """Return the first of some times at which a score reached the target; None if none did."""
    return next((at for score, at in zip(scores, when, strict=True) if score >= target), None)
