"""The results of a comparison, computed from its trials: summary.json."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import combinations
from statistics import median
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float
from pydantic import BaseModel, ConfigDict

from vaectl.comparison.result import Result
from vaectl.comparison.tuning import RATE
from vaectl.comparison.tuning import scores as scores_of
from vaectl.objectives.base import label as term
from vaectl.runs.metrics import Row, columns
from vaectl.runs.record import Evaluation
from vaectl.studies import statistics
from vaectl.studies.ended import Outcome
from vaectl.studies.facts import environment, told
from vaectl.studies.run import places_of
from vaectl.studies.statistics import Interval, shown
from vaectl.studies.trial import told as written

Scores = Float[np.ndarray, " seeds"]

FORMAT_VERSION = 2
ENOUGH = 5
"""The fewest seeds for a verdict: two seeds agree by chance in half of all cases."""

RANKED = 3
"""The fewest seeds of which ranks are drawn: the ranks at one or two seeds say nothing."""


class Tried(BaseModel):
    """A learning rate of the grid, and its score."""

    model_config = ConfigDict(frozen=True)

    learning_rate: float
    score: float | None
    """Mean best validation score over the tuning seeds; None if one of them diverged."""
    values: dict[str, Any] = {}
    """All settings that the search chose."""


class Side(BaseModel):
    """The results of one optimizer, in nats per image; intervals are over seeds."""

    model_config = ConfigDict(frozen=True)

    label: str
    optimizer: str
    learning_rate: float | None
    """None if all that was tried diverged."""
    best_run: str | None
    """The run with the best validation score."""
    seeds: int
    diverged: int
    """The number of seeds that diverged."""
    final: dict[str, Interval]
    """Each number on the validation split in the last epoch, by name; none if all diverged."""
    best: dict[str, Interval]
    """The same in the best epoch."""
    test_elbo: Interval | None
    test_log_likelihood: Interval | None
    """The importance-weighted bound IW-K."""
    test_kl: Interval | None
    active_units: Interval | None
    collapsed: int
    """The number of seeds with fewer than half of the units active."""
    ranks: list[float]
    """The rank at each seed by best validation score; 1 is the best."""
    mean_rank: float
    epochs_to_target: list[int | None]
    """Epochs at each seed; None if the target was not reached."""
    seconds_to_target: list[float | None]
    """Seconds of training at each seed, without compilation and validation."""
    seconds_per_epoch: float | None
    """The 10 % quantile of the times of training epochs."""
    relative_time: float | None
    """The time of an epoch relative to the fastest optimizer's."""
    found: dict[str, Any] = {}
    """The settings that the search chose for the result; empty without one, or if all diverged."""
    tunable: int = 0
    """The number of keys that the search varied."""
    tried: list[Tried]
    at_edge: bool
    """True if the best of a grid is still the lowest or highest after it has grown."""
    expected_best: list[float | None]
    """Expected score of the best of 1, 2, ... points drawn from those tried; None if they can all
    have diverged."""


class Pair(BaseModel):
    """Two optimizers at the same seeds, by best validation score."""

    model_config = ConfigDict(frozen=True)

    a: str
    b: str
    difference: Interval | None
    """Mean of a - b over the seeds at which both finished."""
    probability: float
    """The share of these seeds at which a is higher; a tie counts half."""
    seeds: int
    """The seeds at which both ran on one kind of device; at others there is no pair."""
    p_value: float | None = None
    """Of a paired t test over the seeds at which both finished; None for fewer than two."""
    adjusted_p: float | None = None
    """The same, adjusted by Holm's method for all pairs of the comparison that are tested."""

    @property
    def apart(self) -> bool:
        """Whether the two are told apart, although there are other pairs to look at."""
        return self.adjusted_p is not None and self.adjusted_p <= statistics.LEVEL


class Summary(BaseModel):
    """The contents of summary.json."""

    model_config = ConfigDict(frozen=True)

    format_version: int = FORMAT_VERSION
    name: str
    path: str
    verdict: str
    protocol: str
    seeds: list[int]
    epochs: int
    code_size: int
    trials: int
    diverged: list[str]
    """The trials that diverged, with their errors."""
    quantity: str
    """The number that everything is judged by: the objective's `best`."""
    target: float | None
    importance_samples: int
    intervals: str
    metrics: dict[str, str]
    data: dict[str, Any]
    device: dict[str, Any]
    versions: dict[str, str]
    places: int
    """The number of different environments of the result's runs; if it is more than one, times do
    not compare."""
    kinds: dict[str, int]
    """The kinds of devices of the result's runs, whose last bits differ, and how many ran on
    each."""
    git_commit: str | None
    sides: list[Side]
    """Sorted by mean rank, the best first."""
    pairs: list[Pair]


def headings(summary: Summary) -> list[str]:
    """Return the headings of the values that `cells` returns."""
    drawn = any(side.tunable > 1 for side in summary.sides)
    target = "target" if summary.target is None else f"{summary.target:.2f}"
    return [
        "points tried" if drawn else "learning rates tried",
        "settings found" if drawn else "learning rate",
        "seeds finished",
        f"validation {term(summary.quantity)}, last epoch",
        f"validation {term(summary.quantity)}, best epoch",
        "test ELBO",
        f"test IW-{summary.importance_samples}",
        "test KL",
        f"active units of {summary.code_size}",
        f"epochs to {target}",
        f"seconds to {target}",
        "time of an epoch, the fastest's = 1",
        "mean rank",
    ]


def cells(side: Side, quantity: str) -> list[str]:
    """Return an optimizer's column of the table, for the terminal and the page."""
    active = "" if side.active_units is None else f"{side.active_units.mean:.1f}"
    rate = "none trains" if side.learning_rate is None else _found(side)
    collapsed = f" ({side.collapsed} of {side.seeds} collapsed)" if side.collapsed else ""
    return [
        _tried(side),
        rate + " (the grid's edge)" * side.at_edge,
        f"{side.seeds - side.diverged} of {side.seeds}",
        shown(side.final.get(quantity)),
        shown(side.best.get(quantity)),
        shown(side.test_elbo),
        shown(side.test_log_likelihood),
        shown(side.test_kl),
        active + collapsed,
        _reached(side.epochs_to_target, "{:.0f}"),
        _reached(side.seconds_to_target, "{:.1f}"),
        "" if side.relative_time is None else f"{side.relative_time:.2f}",
        f"{side.mean_rank:.1f}",
    ]


def _tried(side: Side) -> str:
    """Return how many points were tried, and of how many keys if it is not the learning rate."""
    if side.tunable < 2:
        return f"{len(side.tried) or 'its own'}"
    return f"{len(side.tried)} of {side.tunable} keys"


def _found(side: Side) -> str:
    """Return the settings that a search found, or the learning rate."""
    found = written(tuple((key, value) for key, value in side.found.items() if key != RATE))
    return ", ".join(filter(None, [f"{side.learning_rate:g}", found]))


def _reached(values: Sequence[float | None], form: str) -> str:
    """Return the median over seeds, and how many seeds did not reach the target."""
    missing = sum(value is None for value in values)
    middle = median([math.inf if value is None else value for value in values] or [math.inf])
    known = form.format(middle) if middle < math.inf else "not reached"
    return known + (f" ({missing} of {len(values)} did not)" if missing else "")


class Member(NamedTuple):
    """A trial of the result with its curve and its evaluation."""

    outcome: Outcome
    run_name: str
    curve: list[Row]
    test: Evaluation | None

    def curve_of(self, split: str) -> list[Row]:
        """Return the rows of a split, by epoch."""
        return [row for row in self.curve if row.split == split]

    @property
    def best(self) -> Row:
        """Its validation row of the best epoch."""
        rows = self.curve_of("validation")
        return next(row for row in rows if row.epoch == self.outcome.best_epoch)

    def reached(self, target: float) -> tuple[int | None, float | None]:
        """Return the epoch and the seconds of training at which the target was reached."""
        values = [row.terms[self.outcome.quantity] for row in self.curve_of("validation")]
        train = self.curve_of("train")[: len(values)]
        seconds = np.cumsum([row.seconds for row in train]).tolist()
        epochs = [row.epoch for row in train]
        return (
            statistics.reached(target, values, epochs),
            statistics.reached(target, values, seconds),
        )


def members(result: Result) -> dict[str, list[Member]]:
    """Return the trials of the result by label, in the order of seeds."""
    found: dict[str, list[Member]] = {label: [] for label in result.settings.entries}
    for trial, ended, tested in result.trials:
        if trial.stage == "result":
            member = Member(ended.outcome, trial.run_name, ended.rows, tested)
            found[trial.label].append(member)
    return found


def summarize(result: Result) -> Summary:
    """Compute the summary of all trials."""
    settings = result.settings
    quantity = settings.base.objective.chosen.best
    by_label = members(result)
    scores = {}
    for label, found in by_label.items():
        by_seed = {member.outcome.seed: member.outcome.score for member in found}
        scores[label] = np.array([by_seed.get(seed, -np.inf) for seed in settings.seeds])
    target = settings.target
    finished = [score for row in scores.values() for score in row if np.isfinite(score)]
    if target is None and finished:
        target = float(min(finished))
    sides = _sides(result, by_label, scores, target)
    ran_on = places_of(result.trials)
    pairs = adjusted(
        [_pair(a.label, b.label, scores, ran_on, settings.seeds) for a, b in combinations(sides, 2)]
    )
    return Summary(
        name=result.path.name,
        path=str(result.path),
        verdict=verdict(sides, pairs, quantity),
        protocol=settings.protocol,
        seeds=settings.seeds,
        epochs=settings.base.epochs,
        code_size=settings.base.model.code_size,
        trials=len(result.trials),
        diverged=[
            f"{trial} ({trial.stage}): {ended.error}"
            for trial, ended, _ in result.trials
            if ended.error
        ],
        quantity=quantity,
        target=target,
        importance_samples=settings.importance_samples,
        intervals=statistics.METHOD,
        **environment([ended.record for _, ended, _ in result.trials if ended.record]),
        sides=sides,
        pairs=pairs,
    )


def _pair(
    a: str,
    b: str,
    scores: Mapping[str, Scores],
    ran_on: Mapping[tuple[str, int], str],
    seeds: Sequence[int],
) -> Pair:
    """Compare two optimizers at the seeds at which both ran on one kind of device."""
    alike = np.array([ran_on.get((a, seed)) == ran_on.get((b, seed)) for seed in seeds])
    mine, other = scores[a][alike], scores[b][alike]
    return Pair(
        a=a,
        b=b,
        difference=statistics.difference(mine, other),
        probability=statistics.probability_of_beating(mine, other) if len(mine) else 0.5,
        seeds=len(mine),
        p_value=statistics.p_value(statistics.paired(mine, other)),
    )


def adjusted(pairs: Sequence[Pair]) -> list[Pair]:
    """Adjust the p-values of the pairs that are tested for how many they are."""
    found = iter(statistics.holm([p.p_value for p in pairs if p.p_value is not None]))
    return [
        pair if pair.p_value is None else pair.model_copy(update={"adjusted_p": next(found)})
        for pair in pairs
    ]


def told_tests(pairs: Sequence[Pair]) -> str:
    """Say how pairs are tested, and what intervals do not regard; nothing without tests."""
    tested = sum(pair.p_value is not None for pair in pairs)
    if not tested:
        return ""
    family = f", adjusted by Holm's method for {tested} pairs" if tested > 1 else ""
    alone = "; intervals are those of each pair alone" if tested > 1 else ""
    return f"p: paired t tests{family}; at {statistics.LEVEL} or less two are told apart{alone}."


def told_p(p: float | None) -> str:
    """Write a p-value; nothing for none."""
    if p is None:
        return ""
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}"


def told_pairs(summary: Summary) -> str:
    """Say on what kinds of devices members ran, and how many pairs remain; nothing if it is one."""
    if len(summary.kinds) < 2:
        return ""
    left, most = sum(pair.seeds for pair in summary.pairs), len(summary.seeds) * len(summary.pairs)
    return (
        f"{told(summary.kinds)} Differences are taken only where both ran on one kind: {left} of "
        f"{most} pairs of optimizers at a seed remain. Ranks are over all."
    )


def _sides(
    result: Result,
    by_label: Mapping[str, list[Member]],
    scores: Mapping[str, Scores],
    target: float | None,
) -> list[Side]:
    """Compute the results of each optimizer, sorted by mean rank."""
    ranks = statistics.ranks(np.array(list(scores.values())))
    paces = [pace for found in by_label.values() if (pace := _pace(found)) is not None]
    fastest = min(paces, default=None)
    sides = [
        _side(result, label, found, ranks[i].tolist(), target, fastest)
        for i, (label, found) in enumerate(by_label.items())
    ]
    return sorted(sides, key=lambda side: side.mean_rank)


def _side(
    result: Result,
    label: str,
    found: list[Member],
    ranks: list[float],
    target: float | None,
    fastest: float | None,
) -> Side:
    tests = [m.test for m in found if m.test is not None]
    alive = [m for m in found if np.isfinite(m.outcome.score)]
    # a member that diverges later counts as not reaching the target
    reached = [
        m.reached(target) if target is not None and m in alive else (None, None) for m in found
    ]
    best = max(alive, key=lambda m: m.outcome.score, default=None)
    pace = _pace(found)
    return Side(
        label=label,
        optimizer=result.settings.entries[label].optimizer.name,
        learning_rate=found[0].outcome.learning_rate if found else None,
        best_run=str(result.path / best.run_name) if best else None,
        seeds=len(result.settings.seeds),
        diverged=len(result.settings.seeds) - len(alive),
        final=_intervals([m.curve[-1] for m in alive]),
        best=_intervals([m.best for m in alive]),
        test_elbo=_interval(tests, lambda test: test.elbo.mean),
        test_log_likelihood=_interval(
            tests, lambda test: test.log_likelihood.mean if test.log_likelihood else -np.inf
        ),
        test_kl=_interval(tests, lambda test: test.kl.mean),
        active_units=_interval(tests, lambda test: test.active_units),
        collapsed=sum(2 * test.active_units < test.code_size for test in tests),
        ranks=ranks,
        mean_rank=float(np.mean(ranks)),
        epochs_to_target=[epoch for epoch, _ in reached],
        seconds_to_target=[seconds for _, seconds in reached],
        seconds_per_epoch=pace,
        relative_time=pace / fastest if pace and fastest else None,
        **_tuning(result, label),
    )


def _tuning(result: Result, label: str) -> dict[str, Any]:
    """Describe the search for an optimizer's learning rate."""
    tuned = [
        (trial, ended.outcome)
        for trial, ended, _ in result.trials
        if (trial.label, trial.stage) == (label, "tuning")
    ]
    tried, tuning = scores_of(tuned), result.settings.tuning
    rates = {trial.values: trial.learning_rate for trial, _ in tuned}
    best_of = statistics.expected_best(np.array(list(tried.values()))).tolist() if tried else []
    chosen = [dict(t.values) for t, *_ in result.trials if (t.label, t.stage) == (label, "result")]
    return {
        "found": chosen[0] if chosen else {},
        "tunable": max((len(values) for values in tried), default=0),
        "tried": [
            Tried(
                learning_rate=rates[values],
                score=score if np.isfinite(score) else None,
                values=dict(values),
            )
            for values, score in sorted(tried.items(), key=lambda each: rates[each[0]])
        ],
        "at_edge": bool(tried and tuning and tuning.grown(tried)),
        "expected_best": [value if np.isfinite(value) else None for value in best_of],
    }


def _intervals(rows: Sequence[Row]) -> dict[str, Interval]:
    """Return the interval of each number that all rows have, by its name."""
    names = [name for name in columns(rows) if all(name in row.terms for row in rows)]
    found = {name: statistics.interval(np.array([r.terms[name] for r in rows])) for name in names}
    return {name: each for name, each in found.items() if each is not None}


def _interval(items: Iterable[Any], value: Callable[[Any], float]) -> Interval | None:
    return statistics.interval(np.array([value(item) for item in items], np.float64))


def _pace(found: list[Member]) -> float | None:
    """Return the 10 % quantile of the times of training epochs.

    A low quantile, because other programs add to the time, and not equally for all members.
    """
    seconds = [row.seconds for m in found for row in m.curve_of("train")]
    return float(np.quantile(seconds, 0.1)) if seconds else None


def verdict(sides: list[Side], pairs: list[Pair], quantity: str = "elbo") -> str:
    """Return a sentence that says which optimizer is best and how certain that is."""
    first = sides[0]
    if not first.best:
        return "No member finished: all of them diverged."
    lost = [f"{s.label} diverged at {s.diverged} of {s.seeds} seeds" for s in sides if s.diverged]
    what = f"validation {term(quantity)}"
    said = f"{first.label} reaches a {what} of {first.best[quantity].mean:.2f}"
    if pairs:
        said = _compared(pairs, first.seeds, what)
    return "; ".join([said, *lost]) + "."


def _compared(pairs: Sequence[Pair], run: int, what: str) -> str:
    """Compare the optimizer of the best rank with the next one, and name others close to it."""
    pair = pairs[0]
    a, b, gap, seeds = pair.a, pair.b, pair.difference, pair.seeds
    if not seeds:
        return (
            f"{a} ranks first: there is no seed at which it and {b}, the next, ran on one kind of "
            "device"
        )
    if gap is None:
        return f"{a} ranks first: there is no seed at which it and {b}, the next, both finished"
    if run == 1:
        return (
            f"At the one seed that was run {a} comes {gap.mean:.2f} nats above {b}, the next: "
            "one seed does not tell how others would differ"
        )
    if gap.low is None or gap.high is None:
        return (
            f"{a} ranks first: at the one seed at which both finished it is {abs(gap.mean):.2f} "
            f"nats {'above' if gap.mean >= 0 else 'below'} {b}, the next"
        )
    known = (
        f"{abs(gap.mean):.2f} nats (95% interval of the difference {gap.low:.2f} to "
        f"{gap.high:.2f}, {gap.seeds} paired seeds; {a} is higher at {pair.probability:.0%} of "
        f"{'them' if gap.seeds == seeds else f'all {seeds}'}; {_tested(pairs)})"
    )
    if not pair.apart:
        return f"{a} and {b} cannot be told apart: they differ by {known}"
    if gap.mean < 0:
        return f"{a} has the best mean rank, but on average {b} is above it by {known}"
    if gap.seeds < ENOUGH:
        return (
            f"{a} is ahead of {b}, the next, by {known}: {gap.seeds} seeds are too few to be sure"
        )
    if close := [other.b for other in pairs[1:] if other.a == a and not other.apart]:
        return f"{a} is ahead of {b}, the next, by {known}, but not told from {', '.join(close)}"
    return f"{a} is best: its {what} exceeds {b}'s, the next, by {known}"


def _tested(pairs: Sequence[Pair]) -> str:
    """Write the p-value of the first of some pairs, adjusted for all of them."""
    count = sum(pair.p_value is not None for pair in pairs)
    family = f", adjusted for {count} pairs" if count > 1 else ""
    return told_p(pairs[0].adjusted_p) + family
