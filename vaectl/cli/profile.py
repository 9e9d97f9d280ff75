"""The part of `vaectl compare-optimizers` for several workloads."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from vaectl.base import spent
from vaectl.base.plural import plural
from vaectl.base.terminal import show
from vaectl.cli.studies import Asked

if TYPE_CHECKING:  # these load JAX
    from vaectl.profiles.plan import Workloads
    from vaectl.profiles.profile import Profile


def compare(settings: Workloads, name: str, asked: Asked) -> None:
    """Run the comparison of each workload, then write and print the profile."""
    with spent.on("loading"):
        from vaectl.profiles import publish, run

    compared = run.run(settings, name, asked.how, asked.watching)
    summaries = {workload: each.summary for workload, each in compared.items()}
    path = asked.how["runs_dir"] / name
    profile = publish.publish(path, settings, summaries, force=asked.how.get("force", False))
    asked.show(path, profile, partial(_show, profile))
    run.check(compared)
    asked.end(path, sum(each.result.trained for each in compared.values()), best=False)


def _show(profile: Profile) -> None:
    """Print the standings, a table with a column for each workload, and the verdict."""
    from vaectl.cli.tables.studies import show_columns
    from vaectl.comparison.words import Cell, Column
    from vaectl.profiles import words

    seeds, count = len(profile.seeds), len(profile.workloads)
    brackets = f" [{profile.intervals}]" * (seeds > 1)
    show(f"{profile.name}: {plural(count, 'workload')}, {plural(seeds, 'seed')}" + brackets)
    labels = [each.label for each in profile.standings]
    of_workloads = [
        Column(w.name, [Cell(words.bound_and_factor(w.parts[label])) for label in labels])
        for w in profile.workloads
    ]
    show_columns(labels, [column for column in words.standings(profile) if not column.wide])
    show("Best bound, nats per image; steps to the target as multiples of the fewest:")
    show_columns(labels, of_workloads)
    lines = [*words.explained(profile), *words.notes(profile), words.verdict(profile)]
    for line in lines:
        show(line)
