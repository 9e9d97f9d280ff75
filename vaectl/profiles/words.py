"""A profile in words: the cells of its tables, and sentences."""

from __future__ import annotations

from vaectl.base.plural import plural
from vaectl.comparison.words import APPROXIMATELY, Cell, Column, p_of, told_p
from vaectl.profiles.profile import Part, Profile, Standing
from vaectl.studies.statistics import ENOUGH, shown

_TIMES = "\N{MULTIPLICATION SIGN}"


def standings(profile: Profile) -> list[Column]:
    """Return the columns that say how good each optimizer is over all workloads."""
    found, count = profile.standings, len(profile.workloads)
    reached = {
        each.label: sum(w.parts[each.label].steps is not None for w in profile.workloads)
        for each in found
    }
    firsts = {each.label: len(profile.firsts(each.label)) for each in found}
    columns = [Column("score", [Cell(f"{each.score:.2f}", each.score) for each in found])]
    if len(profile.seeds) > 1:
        columns.append(
            Column(
                "mean over seeds",
                [Cell(shown(s.of_seeds), s.of_seeds.mean if s.of_seeds else None) for s in found],
            )
        )
    if len(profile.seeds) > 1 and len(found) > 1:
        columns.append(Column(f"below {found[0].label}", [_behind(each) for each in found]))
        columns.append(
            Column("p", [Cell(p_of(each.p_value), each.p_value) for each in found], wide=True)
        )
    return [
        *columns,
        Column("target reached", [_of(reached[each.label], count) for each in found]),
        Column("first by its bound", [_of(firsts[each.label], count) for each in found]),
    ]


def bound_and_factor(part: Part) -> str:
    """Return the mean best score, and the steps relative to the fewest."""
    bound = "diverged" if part.best is None else f"{part.best.mean:.2f}"
    return f"{bound}  {factor(part)}"


def factor(part: Part) -> str:
    """Return the steps relative to the fewest; infinitely many do not reach the target."""
    return f"{_TIMES}\N{INFINITY}" if part.factor is None else f"{_TIMES}{part.factor:.2f}"


def verdict(profile: Profile) -> str:
    """Say who has the best score, and how certain that is."""
    first, *others = profile.standings
    count = len(profile.workloads)
    said = f"{first.label} has the highest score over {plural(count, 'workload')}"
    said += f", {first.score:.2f} of 1"
    close = [each.label for each in others if each.order == "unknown"]
    above = [each.label for each in others if each.order == "above"]
    if others and len(profile.seeds) < 2:
        said += "; one seed does not tell how others would differ"
    elif close:
        said += f"; it is not told apart from {' and '.join(close)}"
    elif others and not above:
        gap = shown(others[0].behind)
        p = told_p(others[0].p_value)
        said += f"; over seeds {others[0].label}, the next, is {gap} below it ({p})"
        if len(profile.seeds) < ENOUGH:
            said += f": {len(profile.seeds)} seeds are too few to be sure"
    if above and len(profile.seeds) > 1:
        verb = "is" if len(above) == 1 else "are"
        said += f"; but by the mean over seeds {' and '.join(above)} {verb} above it"
    return f"{said}."


def notes(profile: Profile) -> list[str]:
    """Say where each optimizer is first, how the ranking depends on a workload, what a score is."""
    firsts = {each.label: profile.firsts(each.label) for each in profile.standings}
    count = len(profile.workloads)
    told = "; ".join(
        f"{label} in {len(where)} of {count}" + (f" ({', '.join(where)})" if where else "")
        for label, where in firsts.items()
    )
    nowhere = [
        each.name
        for each in profile.workloads
        if all(part.steps is None for part in each.parts.values())
    ]
    changes = "; ".join(profile.changes)
    mixed = [each.label for each in profile.standings[1:] if each.behind is None]
    found = [
        f"First by mean rank of its best bound: {told}.",
        f"The ranking by score depends on the workloads: {changes}."
        if changes
        else "The ranking by score is the same without any one of the workloads." * (count > 1),
        f"No optimizer reached the target of {', '.join(nowhere)}." * bool(nowhere),
        f"No difference is taken between {profile.standings[0].label} and {', '.join(mixed)}: at "
        "some seed they ran on different kinds of devices." * bool(mixed),
    ]
    return [each for each in found if each]


def explained(profile: Profile) -> list[str]:
    """Say what a score and its interval are."""
    limit = f"{profile.limit:g}"
    found = [
        "Score: the area under the profile, on a logarithmic axis of factors from 1 to "
        f"{limit}; 1: the fastest on every workload, 0: never faster than {limit} times the steps "
        "of the fastest. Steps are medians over seeds, and counted in whole epochs."
    ]
    if len(profile.seeds) > 1:
        found.append(
            "Mean over seeds: of the scores of each seed alone, which are paired; their intervals "
            "tell of other seeds, not of other workloads."
        )
    if any(each.order == "unknown" for each in profile.standings[1:]) and len(profile.seeds) > 1:
        found.append(f"{APPROXIMATELY}: not told apart from {profile.standings[0].label}.")
    return found


def _of(number: int, count: int) -> Cell:
    return Cell(f"{number} of {count}", number)


def _behind(standing: Standing) -> Cell:
    if standing.behind is None:
        return Cell("", 0.0)
    sign = f" {APPROXIMATELY}" * (standing.order == "unknown")
    return Cell(f"{shown(standing.behind)}{sign}", standing.behind.mean)
