"""What the runs of a study were trained on: data, devices, versions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from vaectl.runs.record import Record


def environment(records: Sequence[Record]) -> dict[str, Any]:
    """Describe data, device and versions by the first run, and count the environments of all."""
    first = records[0] if records else None
    return {
        "metrics": first.metrics if first else {},
        "data": first.model_dump(mode="json")["data"] if first else {},
        "device": first.device if first else {},
        "versions": first.versions if first else {},
        "git_commit": first.git_commit if first else None,
        "places": len({repr((each.device, each.versions)) for each in records}),
    }
