"""The scores of a sweep: one for each point and seed."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from vaectl.studies.run import Finished
from vaectl.sweeps.plan import Sweep

Scores = Float[np.ndarray, "points seeds"]
"""Best validation scores, in nats per image: -inf for a trial that diverged, NaN for one that has
no result."""


def scores_of(settings: Sweep, found: Sequence[Finished]) -> Scores:
    """Return the scores of a sweep's points."""
    rows = {point.label: row for row, point in enumerate(settings.points)}
    columns = {seed: column for column, seed in enumerate(settings.seeds)}
    scores = np.full((len(rows), len(columns)), np.nan)
    for trial, ended, _ in found:
        scores[rows[trial.label], columns[trial.settings.seed]] = ended.outcome.score
    return scores


def best_of(scores: Scores) -> int | None:
    """Return the point with the highest mean score; None if none trained at all seeds."""
    means = np.where(np.isfinite(scores).all(axis=1), scores.mean(axis=1), -np.inf)
    best = int(np.argmax(means))
    return best if np.isfinite(means[best]) else None
