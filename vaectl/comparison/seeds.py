"""The seeds of a comparison that has a result: there can be more, but not fewer."""

from __future__ import annotations

import json
from pathlib import Path

from vaectl.base.errors import VaectlError
from vaectl.base.files import Folder
from vaectl.comparison import plan
from vaectl.comparison.plan import Comparison
from vaectl.runs.find import MOST_BYTES


def with_those_of_result(settings: Comparison, path: Path) -> Comparison:
    """Add the seeds of the result in a directory, so that fewer seeds do not overwrite it.

    A comparison with other settings, or whose result has not been published, adds none.
    """
    try:
        old = plan.load(path / f"{plan.KIND}.yaml")
        published = json.loads(Folder(path).read("summary.json", MOST_BYTES))["seeds"]
    except (VaectlError, OSError, ValueError, LookupError, TypeError):
        return settings
    added = [seed for seed in old.seeds if seed not in settings.seeds]
    if not added or published != old.seeds or plan.differing(settings, old):
        return settings
    new = [seed for seed in settings.seeds if seed not in old.seeds]
    return settings.model_copy(update={"seeds": [*old.seeds, *new]})
