"""The parts of the JSON files that a study publishes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict

from vaectl.runs.record import Evaluation
from vaectl.studies import statistics
from vaectl.studies.statistics import Interval

Order = Literal["below", "above", "unknown"]
"""The place of an optimizer beside the first; unknown if a test does not tell them apart."""


class Published(BaseModel):
    """A part of summary.json or profile.json."""

    model_config = ConfigDict(frozen=True)


class Summarized(Published):
    """The fields of every summary.json; `vaectl.studies.facts.environment` gives most of them."""

    format_version: int
    """Stands first, by which the file is recognized as vaectl's."""
    name: str
    path: str
    verdict: str
    importance_samples: int
    intervals: str = statistics.METHOD
    metrics: dict[str, str]
    data: dict[str, Any]
    device: dict[str, Any]
    versions: dict[str, str]
    places: int
    """The number of different environments of the runs; if it is more than one, times do not
    compare."""
    kinds: dict[str, int]
    """The kinds of devices of the runs, whose last bits differ, and how many ran on each."""
    git_commit: str | None


def of_tests(tests: Sequence[Evaluation]) -> dict[str, Any]:
    """Return the intervals over seeds of evaluations on the test split, by names of fields."""
    found = {
        "test_elbo": [test.elbo.mean for test in tests],
        "test_log_likelihood": [t.log_likelihood.mean for t in tests if t.log_likelihood],
        "test_kl": [test.kl.mean for test in tests],
    }
    return {name: statistics.interval(np.array(means)) for name, means in found.items()}


def order(p: float | None, gap: Interval | None) -> Order:
    """Return the place beside the first of what is `gap` below it, by the p-value of that.

    The first is so by another number than the gap, such as a mean rank, so that what comes after
    it may well be above it.
    """
    if p is None or p > statistics.LEVEL or gap is None:
        return "unknown"
    return "below" if gap.mean > 0 else "above"
