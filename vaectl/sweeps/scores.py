"""The scores of a sweep: one for each point and seed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float

from vaectl.runs.metrics import Row
from vaectl.studies.run import Finished
from vaectl.studies.trial import Trial
from vaectl.sweeps.plan import Sweep
from vaectl.sweeps.search import until

Scores = Float[np.ndarray, "points seeds"]
"""Best validation scores, in nats per image: -inf for a trial that diverged, NaN for one that has
no result."""


def scores_of(settings: Sweep, found: Sequence[Finished]) -> Scores:
    """Return the scores of a sweep's points."""
    most = max(point.settings.epochs for point in settings.points)
    return scores_until(settings, found, {}, most)[0]


def scores_until(
    settings: Sweep,
    found: Sequence[Finished],
    paused: Mapping[Trial, Sequence[Row]],
    epoch: int,
) -> tuple[Scores, list[int]]:
    """Return the best scores of the first epochs, also of trials that have paused.

    Returns:
        The scores, and for each point the fewest epochs that its trials have.
    """
    rows = {point.label: row for row, point in enumerate(settings.points)}
    columns = {seed: column for column, seed in enumerate(settings.seeds)}
    scores = np.full((len(rows), len(columns)), np.nan)
    epochs = np.zeros(scores.shape, np.int64)
    quantity = settings.base.objective.chosen.best
    known = {trial: (ended.rows, ended.error) for trial, ended, _ in found}
    for trial, (metrics, error) in (known | {t: (m, "") for t, m in paused.items()}).items():
        place = rows[trial.label], columns[trial.settings.seed]
        scores[place] = until(metrics, error, quantity, epoch)
        epochs[place] = len(metrics) // 2
    return scores, epochs.min(axis=1).tolist()


def best_of(scores: Scores) -> int | None:
    """Return the point with the highest mean score; None if none trained at all seeds."""
    means = np.where(np.isfinite(scores).all(axis=1), scores.mean(axis=1), -np.inf)
    best = int(np.argmax(means))
    return best if np.isfinite(means[best]) else None
