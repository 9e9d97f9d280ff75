"""Writing of a profile: profile.json, figures/, report.html."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from vaectl.base import spent
from vaectl.base.files import Folder
from vaectl.base.plural import plural
from vaectl.comparison.summary import Summary
from vaectl.experiment.curves import FORMATS
from vaectl.objectives.base import label
from vaectl.pictures import fields
from vaectl.profiles import words
from vaectl.profiles.plan import Workloads
from vaectl.profiles.profile import LIMIT, Profile, profile_of
from vaectl.runs.directory import RunDir
from vaectl.studies import directory, page
from vaectl.studies.ledger import write
from vaectl.studies.statistics import shown


@spent.on("figures and page")
def publish(
    path: Path, settings: Workloads, summaries: Mapping[str, Summary], *, force: bool = False
) -> Profile:
    """Write the profile and its figure, and a page with both.

    Args:
        path: the profile's directory.
        settings: the comparisons.
        summaries: of the comparison of each workload.
        force: whether the content of the directory is removed first.

    Raises:
        RunError: a file cannot be written.
    """
    with directory.locked(path, force=force):
        profile = profile_of(path, summaries)
        write(Folder(path), "profile.json", profile.model_dump_json(indent=2) + "\n")
        figure = fields.profile(
            {each.label: (each.factors, each.within) for each in profile.standings},
            [each.label for each in profile.standings],
            title=profile.name,
            facts=f"{plural(len(profile.workloads), 'workload')}; "
            f"steps: medians over {plural(len(profile.seeds), 'seed')}",
        )
        files = RunDir(path).write_figure("profile", figure, FORMATS)
        write(Folder(path), "report.html", _page(profile, settings, files[1].read_bytes()))
        return profile


def _page(profile: Profile, settings: Workloads, image: bytes) -> str:
    """Return the page with verdict, standings, profile, workloads, settings and environment."""
    summary = {
        **dict(profile),
        "verdict": words.verdict(profile),
        "metrics": {},
        "data": {
            f"data of {name}": one.base.data.source for name, one in settings.workloads.items()
        },
    }
    return page.render(
        "vaectl.profiles",
        settings=settings,
        file="the comparison of each workload",
        summary=summary,
        standings=words.standings(profile),
        notes=words.notes(profile),
        explained=words.explained(profile),
        factor=words.factor,
        shown=shown,
        label=label,
        limit=LIMIT,
        links={
            each.name: f"{os.path.relpath(each.path, profile.path)}/report.html"
            for each in profile.workloads
        },
        image=page.embedded({"profile": image})["profile"],
    )
