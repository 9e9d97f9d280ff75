"""What a person should know of workers: members that take far longer than others, and idleness."""

from __future__ import annotations

import time
from bisect import insort
from datetime import timedelta

from vaectl.base.terminal import visible
from vaectl.training.events import Event, Started, Stopped

FAR = 3.0
"""A member is far slower if it takes so many times the median of those that ended."""
ENOUGH = 3
"""So many must have ended before that."""
PATIENCE = 10.0
"""Seconds after which either is told; shorter ones are of no interest."""


class Workers:
    """Tells what is new of workers that train members apart from each other."""

    def __init__(self) -> None:
        self._began: dict[str, float] = {}
        """When each member that trains began."""
        self._took: list[float] = []
        """The seconds of members that ended, in order."""
        self._most = 0
        """The most that trained at once: so many workers there are."""
        self._looked = 0.0
        self._idle = 0
        """The number of idle workers that was told."""
        self._full = 0.0
        """When all of them last had something to do."""
        self._slow: set[str] = set()

    def add(self, event: Event) -> str:
        """Take an event; return what is new, if anything is."""
        now = time.monotonic()
        match event:
            case Started(member):
                self._began[member] = now
                self._most = max(self._most, len(self._began))
            case Stopped(member) if member in self._began:
                insort(self._took, now - self._began.pop(member))
        if len(self._began) == self._most:
            self._full, self._idle = now, 0
        if now < self._looked + 1:
            return ""
        self._looked = now
        return "; ".join([*self._slower(now), *self._idler(now)])

    def _slower(self, now: float) -> list[str]:
        if len(self._took) < ENOUGH:
            return []
        median = self._took[len(self._took) // 2]
        found = []
        for member, began in self._began.items():
            seconds = now - began
            if seconds > max(FAR * median, PATIENCE) and member not in self._slow:
                self._slow.add(member)
                found.append(
                    f"{visible(member)} has trained for {_time(seconds)}, others for "
                    f"{_time(median)} (median)"
                )
        return found

    def _idler(self, now: float) -> list[str]:
        idle = self._most - len(self._began)
        if not self._began or idle <= self._idle or now < self._full + PATIENCE:
            return []
        self._idle = idle
        return [f"{idle} of {self._most} workers {'is' if idle == 1 else 'are'} idle"]


def _time(seconds: float) -> str:
    return f"{timedelta(seconds=round(seconds))}"
