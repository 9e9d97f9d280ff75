"""The target of a comparison: a number, or what one optimizer reaches at a part of its budget.

It is fixed before anything runs, or set by the optimizer that the others are measured against:
Dahl et al. 2023 (AlgoPerf).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float

from vaectl.comparison.plan import Comparison, OfBaseline

Curves = Mapping[str, Sequence[Float[np.ndarray, " epochs"]]]
"""The validation scores of each seed after each epoch, by optimizer; none if it diverged."""


def target_of(settings: Comparison, curves: Curves) -> float | None:
    """Return the target; None if the members that set it all diverged.

    Args:
        settings: the comparison.
        curves: the validation scores of all members.
    """
    wanted = settings.target
    if isinstance(wanted, OfBaseline):
        epoch = _epoch(wanted, settings)
        of_baseline = curves[settings.baseline_label]
        known = [curve[:epoch].max() for curve in of_baseline if len(curve)]
        return float(np.mean(known)) if known else None
    if wanted is not None:
        return wanted
    worst = [float(curve.max()) for each in curves.values() for curve in each if len(curve)]
    return min(worst, default=None)


def told(settings: Comparison) -> str:
    """Say what the target is."""
    wanted = settings.target
    if isinstance(wanted, OfBaseline):
        epoch = _epoch(wanted, settings)
        return f"what {settings.baseline_label} reaches by epoch {epoch}, the mean over its seeds"
    return "set beforehand" if wanted is not None else "what the worst finished member reaches"


def _epoch(wanted: OfBaseline, settings: Comparison) -> int:
    """Return the epoch after which the baseline sets the target."""
    # 0.07 of 100 epochs is 7, although the product is a little more
    return max(math.ceil(wanted.at * settings.base.epochs - 1e-9), 1)
