"""Run the comparison of each workload.

runs/<name>-<workload>/   an ordinary comparison
runs/<name>/
  profile.json            the profile, and what it rests on
  figures/                the profile, drawn
  report.html             all of it on one page
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import NamedTuple

from vaectl.base.errors import DivergedError, RunError, VaectlError
from vaectl.comparison import publish as publishing
from vaectl.comparison import run as comparison
from vaectl.comparison.result import Result
from vaectl.comparison.summary import Summary
from vaectl.profiles.plan import Workloads
from vaectl.runs.checkpoints import check_place
from vaectl.runs.names import check_name
from vaectl.studies import directory
from vaectl.studies.directory import Kind
from vaectl.studies.run import How
from vaectl.training.events import Note, Watch

KIND = Kind(
    "profile",
    "vaectl compare-optimizers",
    load=lambda _: None,
    differing=lambda *_: [],  # a profile is computed anew from its comparisons
)


class Compared(NamedTuple):
    """A workload whose comparison has ended."""

    result: Result
    summary: Summary


def run(
    settings: Workloads,
    name: str,
    how: How,
    watching: Callable[[], AbstractContextManager[Watch]],
) -> dict[str, Compared]:
    """Run the comparison of each workload, and publish it; all are checked before the first runs.

    Args:
        settings: the comparisons.
        name: of the profile's directory, with which the names of the others begin.
        how: each is run; see `vaectl.studies.run.run`.
        watching: opens what is told of one comparison.

    Raises:
        ConfigError: as of a comparison, or the profile's directory contains something else.
        DataError: a data set is missing or broken.
        RunError: a directory cannot be written, or members were given up.
        InterruptedRunError: SIGINT, SIGTERM or SIGHUP; the same command continues.
    """
    _check(settings, name, how)
    found = {}
    for place, (workload, one) in enumerate(settings.workloads.items(), start=1):
        with watching() as watch:
            watch(Note(f"workload {workload}, {place} of {len(settings.workloads)}"))
            mine: How = {**how, "name": f"{name}-{workload}", "watch": watch}
            result = comparison.run(one, **mine)
            found[workload] = Compared(result, publishing.publish(result, watch))
            watch(Note(found[workload].summary.verdict))
    return found


def _check(settings: Workloads, name: str, how: How) -> None:
    """Refuse comparisons that cannot run, before any of them starts."""
    runs_dir, force = how["runs_dir"], how.get("force", False)
    for each in (name, *(f"{name}-{workload}" for workload in settings.workloads)):
        check_name(runs_dir / "-", each, force=False)
    check_place(runs_dir / name, to_save=True)
    directory.check(KIND, settings, runs_dir / name, force=force)
    for workload, one in settings.workloads.items():
        directory.check(comparison.KIND, one, runs_dir / f"{name}-{workload}", force=force)
    for one in settings.workloads.values():
        comparison.check(one, how.get("device_kind", "auto"), how.get("executor"))


def check(compared: dict[str, Compared]) -> None:
    """Raise the problems of single members of any workload, after everything else is done.

    Raises:
        RunError: members that are damaged, or could not be evaluated.
        DivergedError: members of a result that diverged.
    """
    errors: list[VaectlError] = []
    messages: list[str] = []
    for workload, each in compared.items():
        try:
            each.result.check()
        except (RunError, DivergedError) as error:
            errors.append(error)
            messages += [f"{workload}: {line}" for line in error.message.splitlines()]
    if errors:
        worst = next((e for e in errors if isinstance(e, RunError)), errors[0])
        raise type(worst)("\n".join(messages), hint=worst.hint)
