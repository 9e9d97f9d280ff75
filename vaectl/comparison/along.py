"""The ranking along the budget: how the optimizers would rank if training had ended earlier.

This is only a guess for schedules that depend on the length of training: a shorter training would
have had another schedule.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from vaectl.comparison.targets import Curves
from vaectl.studies import statistics

TOP = 5
"""The optimizers among which crossings are looked for."""


def mean_ranks(curves: Curves, seeds: int, epochs: int) -> dict[str, Float[np.ndarray, " epochs"]]:
    """Return the mean rank over seeds of the best score up to each epoch; 1 is the best.

    Args:
        curves: by optimizer, a curve for each seed; the curve of a diverged one is empty, and ranks
            last.
        seeds: the number of seeds.
        epochs: the number of epochs.
    """
    scores = np.full((len(curves), seeds, epochs), -np.inf)
    for row, of_label in enumerate(curves.values()):
        for seed, curve in enumerate(of_label):
            if len(curve) == epochs:
                scores[row, seed] = np.maximum.accumulate(curve)
    ranks = [statistics.ranks(scores[:, :, epoch]).mean(axis=1) for epoch in range(epochs)]
    return dict(zip(curves, np.transpose(ranks), strict=True))


def leaders(ranks: dict[str, Float[np.ndarray, " epochs"]]) -> list[tuple[int, str]]:
    """Return who leads by mean rank, and from which epoch on; a tie changes nothing."""
    found: list[tuple[int, str]] = []
    labels, rows = list(ranks), np.asarray(list(ranks.values()))
    for epoch, column in enumerate(rows.T, start=1):
        best = [label for label, rank in zip(labels, column, strict=True) if rank == column.min()]
        if not found or found[-1][1] not in best:
            found.append((epoch, best[0]))
    return found


def crossings(ranks: dict[str, Float[np.ndarray, " epochs"]], order: Sequence[str]) -> list[str]:
    """List changes of place among the first optimizers in the second half of the epochs.

    Args:
        ranks: of each optimizer after each epoch.
        order: their labels, the best at the end first.
    """
    told = []
    first = [label for label in order if label in ranks][:TOP]
    for place, ahead in enumerate(first):
        for behind in first[place + 1 :]:
            gap = ranks[behind] - ranks[ahead]
            epochs = len(gap)
            crossed = np.flatnonzero(gap < 0)
            last = int(crossed[-1]) + 1 if crossed.size else 0
            if last > epochs / 2:
                told.append(f"{behind} ranks above {ahead} until epoch {last} of {epochs}")
    return told
