"""A sweep and what is left of it, in a few lines."""

from __future__ import annotations

from vaectl.base.plural import plural
from vaectl.studies.estimate import Estimate
from vaectl.sweeps.plan import Sweep
from vaectl.sweeps.search import rungs


def told(settings: Sweep, left: Estimate | None) -> str:
    """Say in a few lines what a sweep is, and what is left of it to do."""
    points, seeds = len(settings.points), len(settings.seeds)
    members = points * seeds
    axes = " x ".join(f"{a:,} of {' and '.join(keys)}" for a, keys in _axes(settings))
    first = (
        f"{plural(points, 'point')} ({axes}) at {plural(seeds, 'seed')}: "
        f"{plural(members, 'member')}"
    )
    if settings.search:
        each = rungs(settings, settings.search)
        steps = ", ".join(f"{points:,} until epoch {epoch}" for epoch, points in each)
        first += f"\nsearch by successive halving: {steps}"
    if left is None:
        return f"{first}; all of them are done"
    done = f"{members - left.members} of them are done; the others: " * (members > left.members)
    if settings.search:  # paused trials are included
        done = "from the beginning: "
    return f"{first}\n{done}{left}"


def _axes(settings: Sweep) -> list[tuple[int, list[str]]]:
    return [
        (1 + max(point.levels[number] for point in settings.points), keys)
        for number, keys in enumerate(settings.axes)
    ]
