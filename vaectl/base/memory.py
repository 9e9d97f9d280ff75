"""How much memory there is, and what does not fit into it."""

import os
import resource
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

_STATUS = Path("/proc/self/status")
_MINE = Path("/proc/self/cgroup")
_GROUPS = Path("/sys/fs/cgroup")
_LIMITS = {
    "": (_GROUPS, "memory.max"),
    "memory": (_GROUPS / "memory", "memory.limit_in_bytes"),
}
"""Where control groups say theirs: in version 2, and in version 1."""


def total() -> int:
    """Bytes that this process may fill: the machine's, or less where a container allows less."""
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return min([machine, *_limits()])


def peak() -> int:
    """Bytes that this process has filled at most."""
    with suppress(OSError):  # only Linux tells it; what getrusage says a process may inherit
        for line in _STATUS.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return 1024 * int(line.split()[1])
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else 1024 * most


def excess(need: int, there: int | None = None) -> str:
    """Say that so many bytes are more than there are; nothing where they fit.

    Args:
        need: an estimate.
        there: on a device of its own; None: what this process may fill.
    """
    there = total() if there is None else there
    if need <= there:
        return ""
    return f"needs about {_text(need)} of memory, and there are {_text(there)}"


def _limits() -> Iterator[int]:
    with suppress(OSError):  # only Linux has them
        for line in _MINE.read_text().splitlines():
            _, kind, path = line.split(":", 2)
            if kind in _LIMITS:
                root, name = _LIMITS[kind]
                group = root / path.lstrip("/")
                for place in (group, *group.parents):
                    with suppress(OSError, ValueError):  # not ours to see, or "max"
                        yield int((place / name).read_text())


def _text(size: float) -> str:
    for unit in ("KiB", "MiB", "GiB"):
        size /= 1024
        if size < 1000:
            return f"{size:.1f} {unit}"
    return f"{size / 1024:,.1f} TiB"
