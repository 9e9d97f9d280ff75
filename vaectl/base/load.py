"""The load of this machine by other programs."""

from __future__ import annotations

import os
import time
from pathlib import Path

STAT = Path("/proc/stat")
"""The file in which Linux counts the time of each core."""
MOMENT = 0.5
"""Seconds below which the counts of cores are too coarse."""


class Load:
    """The share of this process's cores that other programs use, measured from now on."""

    def __init__(self) -> None:
        """Begin to watch."""
        self._began, self._own, self._busy = time.perf_counter(), time.process_time(), _busy()

    def of_others(self) -> float | None:
        """Return the share, from 0 to 1, of the time of these cores; None if it is unknown."""
        wall, own = time.perf_counter() - self._began, time.process_time() - self._own
        busy = _busy()
        if busy is None or self._busy is None or wall < MOMENT:
            return None
        cores = len(os.sched_getaffinity(0))
        return min(max((busy - self._busy - own) / (wall * cores), 0.0), 1.0)


def _busy() -> float | None:
    """Return the seconds that the cores of this process have worked; None except on Linux."""
    try:
        lines = STAT.read_text().splitlines()
        own = {f"cpu{core}" for core in os.sched_getaffinity(0)}
    except (OSError, AttributeError):
        return None
    ticks = 0
    for line in lines:
        name, *counts = line.split()
        if name in own:  # user, nice, system, idle, iowait, irq, softirq, steal
            ticks += sum(
                int(count) for place, count in enumerate(counts[:8]) if place not in (3, 4)
            )
    return ticks / os.sysconf("SC_CLK_TCK")
