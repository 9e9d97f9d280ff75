"""Computing the results of a comparison from its trials."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np
from jaxtyping import Float

from vaectl.base.files import Folder
from vaectl.comparison import along, targets
from vaectl.comparison.race import Race
from vaectl.comparison.result import Member, Result, members
from vaectl.comparison.summary import Pair, Side, Summary, Tried
from vaectl.comparison.times import Times
from vaectl.comparison.tuning import scores as scores_of
from vaectl.comparison.words import verdict
from vaectl.runs.metrics import Row, columns
from vaectl.studies import statistics
from vaectl.studies.facts import alike, environment
from vaectl.studies.published import of_tests
from vaectl.studies.run import places_of
from vaectl.studies.statistics import Interval

Scores = Float[np.ndarray, " seeds"]


def curves(result: Result, by_label: Mapping[str, Sequence[Member]]) -> targets.Curves:
    """Return the validation scores after each epoch, one curve a seed: empty if it diverged."""
    found = {}
    for label, those in by_label.items():
        of_seed = {member.outcome.seed: member for member in those}
        found[label] = [
            member.scores if (member := of_seed.get(seed)) and member.finished else np.empty(0)
            for seed in result.settings.seeds
        ]
    return found


def summarize(result: Result) -> Summary:
    """Compute the summary of all trials."""
    settings = result.settings
    quantity = settings.base.objective.chosen.best
    by_label = members(result)
    shown = curves(result, by_label)
    scores = {
        label: np.array([curve.max(initial=-np.inf) for curve in of_seeds])
        for label, of_seeds in shown.items()
    }
    times = Times.read(Folder(result.path))
    target = targets.target_of(settings, shown)
    ran_on = places_of(result.trials)
    race = Race.of(settings, by_label, target, times, ran_on)
    ranks = along.mean_ranks(shown, len(settings.seeds), settings.base.epochs)
    sides = _sides(result, by_label, scores, race, ranks)
    pairs = adjusted(
        [
            _pair(a.label, b.label, scores, ran_on, settings.seeds)
            for a, b in combinations(sides, 2)
        ],
        sides[0].label,
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
        baseline=settings.baseline_label,
        target=target,
        target_told=targets.told(settings),
        loaded=_loaded(times, ran_on.values()),
        leaders=along.leaders(ranks),
        crossings=along.crossings(ranks, [side.label for side in sides]),
        importance_samples=settings.importance_samples,
        **environment([ended.record for _, ended, _ in result.trials if ended.record]),
        sides=sides,
        pairs=pairs,
    )


def _loaded(times: Times | None, kinds: Iterable[str]) -> str:
    """Return the reason why the times cannot be ranked; empty if they can."""
    if times is None:
        return "no step was timed"
    if not any(times.device in kind for kind in kinds):
        return f"steps were timed on {times.device}, on which no member was trained"
    return times.loaded


def _pair(
    a: str,
    b: str,
    scores: Mapping[str, Scores],
    ran_on: Mapping[tuple[str, int], str],
    seeds: Sequence[int],
) -> Pair:
    """Compare two optimizers at the seeds at which both ran on one kind of device."""
    one_kind = alike(ran_on, a, b, seeds)
    mine, other = scores[a][one_kind], scores[b][one_kind]
    return Pair(
        a=a,
        b=b,
        difference=statistics.difference(mine, other),
        probability=statistics.probability_of_beating(mine, other) if len(mine) else 0.5,
        seeds=len(mine),
        p_value=statistics.p_value(statistics.paired(mine, other)),
    )


def adjusted(pairs: Sequence[Pair], first: str) -> list[Pair]:
    """Adjust the p-values of the tested pairs for the number of tests.

    For the question whether any two optimizers differ, all pairs count as tests. For the question
    whether the first one is the best, only the pairs with it count. This holds although the results
    themselves decide which one is first: the true best is wrongly excluded in 5 % of cases at most
    (Hsu 1984, multiple comparisons with the best).

    Args:
        pairs: two optimizers each.
        first: the label of the one with the best rank.
    """
    tested = [pair for pair in pairs if pair.p_value is not None]
    of_first = [pair for pair in tested if first in (pair.a, pair.b)]
    for_all, for_first = _holm(tested), _holm(of_first)
    return [
        pair.model_copy(
            update={"adjusted_p": for_all.get(_names(pair)), "best_p": for_first.get(_names(pair))}
        )
        for pair in pairs
    ]


def _names(pair: Pair) -> tuple[str, str]:
    return pair.a, pair.b


def _holm(pairs: Sequence[Pair]) -> dict[tuple[str, str], float]:
    found = statistics.holm([pair.p_value for pair in pairs if pair.p_value is not None])
    return dict(zip(map(_names, pairs), found, strict=True))


def _sides(
    result: Result,
    by_label: Mapping[str, list[Member]],
    scores: Mapping[str, Scores],
    race: Race,
    along_budget: Mapping[str, Float[np.ndarray, " epochs"]],
) -> list[Side]:
    """Compute the results of each optimizer, sorted by mean rank."""
    ranks = statistics.ranks(np.array(list(scores.values())))
    sides = [
        _side(result, label, found, ranks[i].tolist(), race, along_budget[label].tolist())
        for i, (label, found) in enumerate(by_label.items())
    ]
    means = {label: np.mean(of_label) for label, of_label in scores.items()}
    # of equal ranks, the higher score first
    return sorted(sides, key=lambda side: (side.mean_rank, -means[side.label]))


def _side(
    result: Result,
    label: str,
    found: list[Member],
    ranks: list[float],
    race: Race,
    ranks_along: list[float],
) -> Side:
    tests = [m.test for m in found if m.test is not None]
    alive = [m for m in found if m.finished]
    best = max(alive, key=lambda m: m.outcome.score, default=None)
    return Side(
        label=label,
        optimizer=result.settings.entries[label].optimizer.name,
        learning_rate=found[0].outcome.learning_rate if found else None,
        best_run=str(result.path / best.run_name) if best else None,
        seeds=len(result.settings.seeds),
        diverged=len(result.settings.seeds) - len(alive),
        final=_intervals([m.curve[-1] for m in alive]),
        best=_intervals([m.best for m in alive]),
        active_units=statistics.interval(np.array([test.active_units for test in tests], float)),
        collapsed=sum(2 * test.active_units < test.code_size for test in tests),
        ranks=ranks,
        mean_rank=float(np.mean(ranks)),
        epochs_to_target=[row.epoch if row else None for row in race.reached[label]],
        steps_to_target=race.steps(label),
        seconds_to_target=race.seconds(label),
        steps_to_baseline=race.to_baseline(label),
        seconds_per_step=race.pace(label),
        relative_time=race.relative_time(label),
        ranks_along=ranks_along,
        **of_tests(tests),
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
        "at_edge": bool(tried and tuning and tuning.at_edge(rates, tried)),
        "expected_best": [value if np.isfinite(value) else None for value in best_of],
    }


def _intervals(rows: Sequence[Row]) -> dict[str, Interval]:
    """Return the interval of each number that all rows have, by its name."""
    names = [name for name in columns(rows) if all(name in row.terms for row in rows)]
    found = {name: statistics.interval(np.array([r.terms[name] for r in rows])) for name in names}
    return {name: each for name, each in found.items() if each is not None}
