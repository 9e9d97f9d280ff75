"""The results of a sweep, computed from its trials: summary.json."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from typing import Any, NamedTuple

import numpy as np

from vaectl.objectives.base import label as term
from vaectl.studies import statistics
from vaectl.studies.facts import alike, environment, told
from vaectl.studies.published import Published, Summarized, of_tests
from vaectl.studies.run import places_of
from vaectl.studies.statistics import ENOUGH, Interval, shown
from vaectl.studies.trial import told as values_told
from vaectl.sweeps.effects import Effect, Trend, effects, trends
from vaectl.sweeps.plan import Sweep
from vaectl.sweeps.run import Result
from vaectl.sweeps.scores import Scores, best_of, scores_of, scores_until
from vaectl.sweeps.search import Rung, rungs

FORMAT_VERSION = 1
MOST_TOLD = 20
"""The most trials that are named one by one."""


class Ranked(Published):
    """A point, and how well it did."""

    label: str
    values: dict[str, Any]
    score: Interval | None
    """Mean best validation score over the seeds at which it trained, in nats per image. For a point
    that a search stopped early, the epochs until then count."""
    diverged: int
    """The number of seeds at which it diverged."""
    missing: int
    """The number of seeds without a result, because their workers ended."""
    epochs: int
    """The epochs that it trained for, at least; in a search most points stop early."""


class Best(Published):
    """The point with the highest mean score."""

    label: str
    values: dict[str, Any]
    score: Interval
    run: str
    """The run of its best seed."""
    test_elbo: Interval | None
    """The ELBO over seeds on the test split, which was not used for any choice."""
    test_log_likelihood: Interval | None
    """The importance-weighted bound IW-K."""
    test_kl: Interval | None
    next: str | None
    """The label of the point with the next highest mean."""
    ahead: Interval | None
    """The mean difference between the two, over the seeds at which both ran on one kind of
    device."""


class Summary(Summarized):
    """The contents of summary.json."""

    format_version: int = FORMAT_VERSION
    keys: list[str]
    """The keys that vary."""
    drawn: list[str]
    """The keys among them whose values were drawn from ranges."""
    seeds: list[int]
    points: int
    trials: int
    """The number of trials that ended."""
    search: list[Rung]
    """The comparisons of a search; empty if all points were trained to the end."""
    quantity: str
    """The number that everything is judged by: the objective's `best`."""
    best: Best | None
    """None if no point trained at all seeds."""
    effects: list[Effect]
    trends: list[Trend]
    ranked: list[Ranked]
    """All points, the best first; those that did not train at all seeds come last."""
    diverged: list[str]
    """Trials that diverged, with their errors; not all of them if they are many."""
    lost: list[str]
    """Trials that were given up, because their workers ended."""


class Told(NamedTuple):
    """A summary, and the scores that its figures show."""

    summary: Summary
    scores: Scores
    """The scores of all points after the same number of epochs: in a search, at its first
    comparison."""


def summarize(result: Result) -> Told:
    """Compute the summary of all trials."""
    settings = result.settings
    quantity = settings.base.objective.chosen.best
    scores = scores_of(settings, result.trials)
    search = rungs(settings, settings.search) if settings.search else []
    ranked = _ranked(result)
    best = _best(result, scores, ranked)
    if search:
        scores = scores_until(settings, result.trials, result.paused, search[0].epoch)[0]
    found = [] if search else effects(settings, scores)
    drawn = trends(settings, scores)
    records = (record for _, ended, _ in result.trials if (record := ended.record))
    bad = (f"{trial}: {ended.error}" for trial, ended, _ in result.trials if ended.error)
    summary = Summary(
        name=result.path.name,
        path=str(result.path),
        verdict=_verdict(best, found, drawn, settings, f"validation {term(quantity)}"),
        keys=settings.keys,
        drawn=settings.drawn,
        seeds=settings.seeds,
        points=len(settings.points),
        trials=len(result.trials),
        search=search,
        quantity=quantity,
        best=best,
        effects=found,
        trends=drawn,
        ranked=ranked,
        diverged=list(islice(bad, MOST_TOLD)),
        lost=result.lost,
        importance_samples=settings.importance_samples,
        **environment(records),
    )
    return Told(summary, scores)


def told_pairs(summary: Summary) -> str:
    """Say on what kinds of devices members ran, and how many pairs remain; nothing if it is one."""
    if len(summary.kinds) < 2:
        return ""
    paired = ""
    if summary.best and summary.best.next:
        left = summary.best.ahead.seeds if summary.best.ahead else 0
        paired = (
            " The best point's distance from the next is taken only where both ran on one kind: "
            f"{left} of {len(summary.seeds)} seeds remain."
        )
    return f"{told(summary.kinds)}{paired} Effects are averages over all."


def written(summary: Summary, most: int) -> list[Interval | None]:
    """Return the intervals over seeds that are shown beside the best points, `most` of them."""
    best = summary.best
    of_best = [best.test_elbo, best.test_log_likelihood, best.test_kl, best.ahead] if best else []
    of_values = [level.effect for effect in summary.effects for level in effect.levels]
    return [*of_best, *of_values, *(point.score for point in summary.ranked[:most])]


def _ranked(result: Result) -> list[Ranked]:
    most = max(point.settings.epochs for point in result.settings.points)
    scores, epochs = scores_until(result.settings, result.trials, result.paused, most)
    found = [
        Ranked(
            label=point.label,
            values=point.values,
            score=score,
            diverged=int(np.isneginf(row).sum()),
            missing=int(np.isnan(row).sum()),
            epochs=trained,
        )
        for point, row, score, trained in zip(
            result.settings.points, scores, map(statistics.interval, scores), epochs, strict=True
        )
    ]
    return sorted(
        found,
        key=lambda each: (
            each.diverged + each.missing,
            -each.epochs if result.settings.search else 0,
            -each.score.mean if each.score else np.inf,
        ),
    )


def _best(result: Result, scores: Scores, ranked: Sequence[Ranked]) -> Best | None:
    number = best_of(scores)
    if number is None:
        return None
    point = result.settings.points[number]
    mine = [each for each in result.trials if each.trial.label == point.label]
    top = max(mine, key=lambda each: each.ended.outcome.score)
    rows = {each.label: row for row, each in enumerate(result.settings.points)}
    full = max(each.epochs for each in ranked)
    whole = [each for each in ranked if not each.diverged + each.missing]
    if result.settings.search:
        whole = [each for each in whole if each.epochs == full]
    second = next((each.label for each in whole if each.label != point.label), None)
    score = statistics.interval(scores[number])
    assert score is not None  # noqa: S101  # it trained at all seeds
    ahead = None
    if second:
        two = (each for each in result.trials if each.trial.label in (point.label, second))
        ran_on, seeds = places_of(two), result.settings.seeds
        pair = alike(ran_on, point.label, second, seeds)
        ahead = statistics.difference(scores[number][pair], scores[rows[second]][pair])
    return Best(
        label=point.label,
        values=point.values,
        score=score,
        run=str(result.path / top.trial.run_name),
        next=second,
        ahead=ahead,
        **of_tests([each.tested for each in mine if each.tested]),
    )


def _verdict(
    best: Best | None,
    found: Sequence[Effect],
    drawn: Sequence[Trend],
    settings: Sweep,
    what: str,
) -> str:
    """Say which point is best, how certain that is, and what the score depends on most."""
    if best is None:
        return "No point trained at all of its seeds."
    kind = "Best of a search" if settings.search else "Best"
    point = values_told(best.values.items())
    said = [f"{kind}: {point}, with a {what} of {shown(best.score)}{_ahead(best)}."]
    ordered = [effect for effect in found if effect.spread is not None]
    if ordered:
        first = ordered[0]
        which = "Of the keys that were crossed, the score" if drawn else "The score"
        said.append(
            f"{which} depends most on {' with '.join(first.keys)}, whose values differ by "
            f"up to {first.spread:.2f} nats, on average over all else{_unsure(first)}."
        )
    known = [trend for trend in drawn if trend.correlation]
    at = f" at epoch {rungs(settings, settings.search)[0].epoch}" if settings.search else ""
    if known and known[0].correlation:
        said.append(
            f"Of the keys that were drawn, the score{at} goes most with {known[0].key}: rank "
            f"correlation {shown(known[0].correlation)}."
        )
    if settings.search:
        said.append("Most points were given up early: this finds a good one, and is no comparison.")
    elif len(settings.seeds) == 1:
        said.append("One seed does not tell how others would differ.")
    return " ".join(said)


def _unsure(effect: Effect) -> str:
    """Say that an effect may be none: the intervals of all its values hold 0."""
    known = [level.effect for level in effect.levels if level.effect is not None]
    spans = [(each.low, each.high) for each in known]
    if spans and all(
        low is not None and high is not None and low <= 0 <= high for low, high in spans
    ):
        return "; with these seeds it cannot be told from none"
    return ""


def _ahead(best: Best) -> str:
    gap = best.ahead
    if best.next is None or gap is None:
        return ""
    if gap.low is None or gap.high is None:
        return f", {gap.mean:.2f} above the next"
    known = f"{gap.mean:.2f} [{gap.low:.2f}, {gap.high:.2f}], {gap.seeds} paired seeds"
    if gap.low <= 0 <= gap.high:
        return f"; it cannot be told from the next ({known})"
    few = "" if gap.seeds >= ENOUGH else ", too few to be sure"
    return f"; the next is below it by {known}{few}"
