"""Steps to a target: a number, or what one optimizer reaches at a part of its budget.

Steps are counted to the end of the first epoch whose validation score is at the target or above.
The target of a field is fixed before it is run: Dahl et al. 2023 (AlgoPerf), section 4.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float

from vaectl.comparison.plan import Comparison, OfBaseline
from vaectl.studies import statistics
from vaectl.studies.statistics import Interval

Curves = Mapping[str, Sequence[Float[np.ndarray, " epochs"]]]
"""The validation scores of each seed after each epoch, by optimizer."""


def best_so_far(curve: Float[np.ndarray, " epochs"]) -> Float[np.ndarray, " epochs"]:
    """Return the best score up to each epoch."""
    found: Float[np.ndarray, " epochs"] = np.maximum.accumulate(curve)
    return found


def target_of(settings: Comparison, curves: Curves) -> float | None:
    """Return the target; None if the members that set it all diverged.

    Args:
        settings: of the comparison.
        curves: of the members that finished.
    """
    wanted = settings.target
    if isinstance(wanted, OfBaseline):
        epoch = math.ceil(wanted.at * settings.base.epochs)
        known = [best_so_far(curve)[epoch - 1] for curve in curves[settings.baseline_label]]
        return float(np.mean(known)) if known else None
    if wanted is not None:
        return wanted
    worst = [float(curve.max()) for of_label in curves.values() for curve in of_label]
    return min(worst, default=None)


def told(settings: Comparison) -> str:
    """Say what the target is."""
    wanted = settings.target
    if isinstance(wanted, OfBaseline):
        epoch = math.ceil(wanted.at * settings.base.epochs)
        return f"what {settings.baseline_label} reaches by epoch {epoch}, the mean over its seeds"
    return "set beforehand" if wanted is not None else "what the worst finished member reaches"


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
