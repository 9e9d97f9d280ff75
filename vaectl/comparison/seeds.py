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

    Only the seeds of the published result are added: seeds that were planned later, but have not
    ended, can be left out again. A comparison with other settings, or without a published result,
    adds none.
    """
    try:
        old = plan.load(path / f"{plan.KIND}.yaml")
        published = json.loads(Folder(path).read("summary.json", MOST_BYTES))["seeds"]
    except (VaectlError, OSError, ValueError, LookupError, TypeError):
        return settings
    if not isinstance(published, list) or any(type(seed) is not int for seed in published):
        return settings
    if {*published} <= {*settings.seeds} or plan.differing(settings, old):
        return settings
    new = [seed for seed in settings.seeds if seed not in published]
    return settings.model_copy(update={"seeds": [*published, *new]})
