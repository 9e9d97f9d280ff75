"""The results of a comparison in words: the cells of its tables, and the verdict."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import median
from typing import NamedTuple

from vaectl.comparison.summary import Pair, Side, Summary
from vaectl.comparison.tuning import RATE
from vaectl.objectives.base import label as term
from vaectl.studies import statistics
from vaectl.studies.facts import told
from vaectl.studies.statistics import ENOUGH, Interval, shown
from vaectl.studies.trial import told as written

APPROXIMATELY = "\N{ALMOST EQUAL TO}"
"""The sign of optimizers that are not told apart from the first."""


class Cell(NamedTuple):
    """A cell of a table."""

    text: str
    value: float | None = None
    """The number to sort by; None goes last."""


class Column(NamedTuple):
    """A column of a table with a row for each optimizer."""

    heading: str
    cells: list[Cell]
    wide: bool = False
    """True if a terminal has no room for it."""
    numbers: bool = True


def board(summary: Summary) -> list[Column]:
    """Return the columns that say how good each optimizer is, the best one first."""
    sides, best = summary.sides, f"best validation {term(summary.quantity)}"
    near = close(sides, summary.pairs)
    target = "the target" if summary.target is None else f"{summary.target:.2f}"
    gaps: list[Pair | None] = [None, *(p for p in summary.pairs if p.a == sides[0].label)]
    found = [
        Column("rank", [Cell(f"{side.mean_rank:.1f}", side.mean_rank) for side in sides]),
        Column(best, [_of(side.best.get(summary.quantity)) for side in sides]),
        Column(
            f"last validation {term(summary.quantity)}",
            [_of(side.final.get(summary.quantity)) for side in sides],
            wide=True,
        ),
    ]
    if len(sides) > 1:
        found.append(Column(f"below {sides[0].label}", [_behind(gap, near) for gap in gaps]))
        found.append(Column("p", [_p(gap) for gap in gaps], wide=True))
    found += [
        Column(f"epochs to {target}", [_median(side.epochs_to_target) for side in sides]),
        Column(f"steps to {target}", [_median(side.steps_to_target) for side in sides], wide=True),
        Column(
            f"steps, {summary.baseline}'s = 1",
            [_relative(side) for side in sides],
            wide=True,
        ),
    ]
    if not summary.loaded:
        found += [
            Column(f"seconds to {target}", [_median(s.seconds_to_target, 1) for s in sides]),
            Column("time of a step", [_times(side.relative_time) for side in sides]),
        ]
    return found


def details(summary: Summary) -> list[Column]:
    """Return the columns with the chosen settings, and the results on the test split."""
    sides = summary.sides
    searched = any(side.tried for side in sides)
    several = any(side.tunable > 1 for side in sides)
    found = [Column("finished", [_finished(side) for side in sides], wide=not _lost(sides))]
    if searched:
        found.append(Column("tried", [Cell(_tried(side), len(side.tried)) for side in sides]))
    found += [
        Column(
            "settings found" if several else "learning rate",
            [Cell(_found(side), side.learning_rate) for side in sides],
            numbers=not several,
        ),
        Column("test ELBO", [_of(side.test_elbo) for side in sides], wide=True),
        Column(
            f"test IW-{summary.importance_samples}",
            [_of(side.test_log_likelihood) for side in sides],
        ),
        Column("test KL", [_mean(side.test_kl, 2) for side in sides]),
        Column(f"active of {summary.code_size}", [_active(side) for side in sides]),
    ]
    return found


def _of(found: Interval | None) -> Cell:
    return Cell(shown(found), None if found is None else found.mean)


def _relative(side: Side) -> Cell:
    """Return steps relative to the baseline's, and at how many seeds if both did not reach all."""
    found = side.steps_to_baseline
    some = f" ({found.seeds} of {side.seeds} seeds)" if found and found.seeds < side.seeds else ""
    return _of(found)._replace(text=f"{shown(found)}{some}")


def _mean(found: Interval | None, digits: int) -> Cell:
    return Cell("") if found is None else Cell(f"{found.mean:.{digits}f}", found.mean)


def _behind(gap: Pair | None, near: Sequence[str]) -> Cell:
    """Return how far an optimizer is below the first; with a sign if they are not told apart."""
    if gap is None:
        return Cell("", 0.0)
    found = _of(gap.difference)
    return found._replace(text=f"{found.text} {APPROXIMATELY}") if gap.b in near else found


def _p(gap: Pair | None) -> Cell:
    p = None if gap is None else gap.best_p
    return Cell(p_of(p), p)


def _times(ratio: float | None) -> Cell:
    return Cell("" if ratio is None else f"\N{MULTIPLICATION SIGN}{ratio:.2f}", ratio)


def _lost(sides: Sequence[Side]) -> bool:
    return any(side.diverged for side in sides)


def _finished(side: Side) -> Cell:
    return Cell(f"{side.seeds - side.diverged} of {side.seeds}", side.seeds - side.diverged)


def _active(side: Side) -> Cell:
    collapsed = f" ({side.collapsed} of {side.seeds} collapsed)" if side.collapsed else ""
    found = _mean(side.active_units, 1)
    return found._replace(text=found.text + collapsed)


def _tried(side: Side) -> str:
    """Return how many points were tried, and of how many keys if it is not the learning rate."""
    return f"{len(side.tried)} of {side.tunable} keys" if side.tunable > 1 else f"{len(side.tried)}"


def _found(side: Side) -> str:
    """Return the settings that a search found, or the learning rate."""
    if side.learning_rate is None:
        return "none trains"
    others = written(
        tuple((key.rpartition(".")[2], each) for key, each in side.found.items() if key != RATE)
    )
    edge = " (the edge of those tried)" * side.at_edge
    return ", ".join(filter(None, [f"{side.learning_rate:g}{edge}", others]))


def _median(values: Sequence[float | None], digits: int = 0) -> Cell:
    """Return the median over seeds, and how many seeds did not reach the target.

    If half of the seeds or more did not, there is no median, and the text says how many did.
    """
    missing = sum(value is None for value in values)
    middle = median([math.inf if value is None else value for value in values] or [math.inf])
    if middle == math.inf:
        reached = len(values) - missing
        return Cell("not reached" + f" ({reached} of {len(values)} seeds reach it)" * bool(reached))
    some = f" ({missing} of {len(values)} did not)" if missing else ""
    digits = digits if float(middle).is_integer() else max(digits, 1)  # between two seeds' numbers
    return Cell(f"{middle:,.{digits}f}{some}", middle)


def close(sides: Sequence[Side], pairs: Sequence[Pair]) -> list[str]:
    """List the optimizers that are not told apart from the first, if not all seeds diverged."""
    lost = {side.label for side in sides if not side.best}
    found = [p for p in pairs if p.a == sides[0].label and p.order == "unknown"]
    return [pair.b for pair in found if not {pair.a, pair.b} & lost]


def standing(summary: Summary, label: str) -> str:
    """Say where one optimizer stands, and how far from the first."""
    place = [side.label for side in summary.sides].index(label) + 1
    if not summary.sides[place - 1].best:
        return f"{label} diverged at all seeds."
    first = summary.sides[0].label
    ranked = f"{label} ranks {place} of {len(summary.sides)}"
    gap = next((pair for pair in summary.pairs if (pair.a, pair.b) == (first, label)), None)
    if gap is None or gap.difference is None:
        return f"{ranked}."
    tested = f", {told_p(gap.best_p)}" if gap.best_p is not None else ""
    apart = "; the two cannot be told apart" * (gap.order == "unknown")
    where, by = "below", gap.difference
    if by.mean < 0:
        where, by = "above", -by
    return f"{ranked}, {shown(by)} nats {where} {first}, the first{tested}{apart}."


def told_along(summary: Summary) -> list[str]:
    """Say who leads along the budget, and whether the ranking depends on it."""
    if len(summary.sides) < 2 or not summary.sides[0].best:
        return []
    (_, first), *later = summary.leaders
    then = "".join(f", {who} from epoch {epoch}" for epoch, who in later)
    found = [f"By mean rank {first} leads from the start{then}."]
    if summary.crossings:
        found.append(f"The ranking depends on the budget: {'; '.join(summary.crossings)}.")
    return found


def told_times(summary: Summary) -> str:
    """Explain the times of steps, or why they are not ranked."""
    if summary.loaded:
        return f"No ranking by time: {summary.loaded}."
    return "Times are those of a step, measured for all in turns; the fastest is 1."


def told_tests(pairs: Sequence[Pair]) -> str:
    """Explain the tests of pairs, and that intervals are not adjusted; empty without tests."""
    tested = [pair for pair in pairs if pair.p_value is not None]
    if not tested:
        return ""
    if len(tested) == 1:
        return f"p: paired t test; at {statistics.LEVEL} or less the two are told apart."
    of_first = sum(pair.a == pairs[0].a for pair in tested)
    return (
        f"p: paired t tests, adjusted by Holm's method for all {len(tested)} pairs; at "
        f"{statistics.LEVEL} or less two are told apart; intervals are those of each pair alone. "
        f"Beside {pairs[0].a}, for the {of_first} pairs with it, which tell whether it is the best."
    )


def told_p(p: float | None) -> str:
    """Write a p-value with its sign, `p = 0.012`; nothing for none."""
    number = p_of(p)
    return f"p {number}" if number.startswith("<") else f"p = {number}" if number else ""


def p_of(p: float | None) -> str:
    """Write a p-value, `0.012` or `< 0.001`; nothing for none."""
    if p is None:
        return ""
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def told_pairs(summary: Summary) -> str:
    """Say on what kinds of devices members ran, and how many pairs remain; nothing if it is one."""
    if len(summary.kinds) < 2:
        return ""
    left, most = sum(pair.seeds for pair in summary.pairs), len(summary.seeds) * len(summary.pairs)
    return (
        f"{told(summary.kinds)} Differences are taken only where both ran on one kind: {left} of "
        f"{most} pairs of optimizers at a seed remain. Ranks are over all."
    )


def verdict(sides: list[Side], pairs: list[Pair], quantity: str = "elbo") -> str:
    """Return a sentence that says which optimizer is best and how certain that is."""
    first = sides[0]
    if not first.best:
        return "No member finished: all of them diverged."
    lost = [f"{s.label} diverged at {s.diverged} of {s.seeds} seeds" for s in sides if s.diverged]
    what = f"validation {term(quantity)}"
    said = f"{first.label} reaches a {what} of {first.best[quantity].mean:.2f}"
    if pairs:
        said = _compared(pairs, first.seeds, what, close(sides, pairs))
        higher = _above(pairs[1:], first.label)  # the next one is always mentioned
        if higher:
            verb = "is" if len(higher) == 1 else "are"
            said += f"; but {' and '.join(higher)} {verb} higher where both finished"
    return "; ".join([said, *lost]) + "."


def _above(pairs: Sequence[Pair], first: str) -> list[str]:
    """Name the optimizers that are above the first although it has the better rank."""
    return [pair.b for pair in pairs if pair.a == first and pair.order == "above"]


def _compared(pairs: Sequence[Pair], run: int, what: str, near: Sequence[str]) -> str:
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
    if pair.order == "unknown":
        return f"{a} and {b} cannot be told apart: they differ by {known}"
    if pair.order == "above":
        return f"{a} has the best mean rank, but on average {b} is above it by {known}"
    if gap.seeds < ENOUGH:
        return (
            f"{a} is ahead of {b}, the next, by {known}: {gap.seeds} seeds are too few to be sure"
        )
    if near:
        return f"{a} ranks first, ahead of {b} by {known}, but is not told from {', '.join(near)}"
    if _above(pairs, a):
        return f"{a} ranks first, ahead of {b} by {known}"
    return f"{a} is best: its {what} exceeds {b}'s, the next, by {known}"


def _tested(pairs: Sequence[Pair]) -> str:
    """Write the p-value of the first of some pairs, adjusted for those with its first optimizer."""
    count = sum(pair.a == pairs[0].a for pair in pairs if pair.p_value is not None)
    family = f", adjusted for {count} pairs" if count > 1 else ""
    return told_p(pairs[0].best_p) + family
