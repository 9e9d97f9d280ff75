"""Members that take far longer than others."""

from __future__ import annotations

import time
from bisect import insort
from datetime import timedelta

from vaectl.base.terminal import visible
from vaectl.training.events import Event, Started, Stopped

FAR = 3.0
"""The multiple of the median time from which a member counts as far slower than the others."""
ENOUGH = 3
"""The number of members that must have ended before any is reported as slow."""
PATIENCE = 10.0
"""The least seconds of training before a member is reported as slow."""


class Stragglers:
    """Reports each member that trains far longer than the others did, once."""

    def __init__(self) -> None:
        self._began: dict[str, float] = {}
        """The time at which each member that trains began."""
        self._took: list[float] = []
        """The seconds of members that ended, in order."""
        self._looked = 0.0
        self._told: set[str] = set()

    def add(self, event: Event) -> str:
        """Take an event; return a message about newly found slow members, or an empty text."""
        now = time.monotonic()
        match event:
            case Started(member):
                self._began[member] = now
            case Stopped(member) if member in self._began:
                insort(self._took, now - self._began.pop(member))
        if len(self._took) < ENOUGH or now < self._looked + 1:
            return ""
        self._looked = now
        median = self._took[len(self._took) // 2]
        far = max(FAR * median, PATIENCE)
        found = {m: now - at for m, at in self._began.items() if now - at > far}
        new = [member for member in found if member not in self._told]
        self._told |= {*new}
        return "; ".join(
            f"{visible(member)} has trained for {_time(found[member])}, others for {_time(median)} "
            "(median)"
            for member in new
        )


def _time(seconds: float) -> str:
    return f"{timedelta(seconds=round(seconds))}"
