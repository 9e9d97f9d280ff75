"""The size of the memory, and messages about what does not fit into it."""

import os
import resource
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

_STATUS = Path("/proc/self/status")
_LIMITS = {"": ("", "memory.max"), "memory": ("memory", "memory.limit_in_bytes")}
"""Directory and file of a control group's limit, by the hierarchy's name: versions 2 and 1."""


def total(root: Path = Path("/")) -> int:
    """Return the bytes that this process may use: the machine's, or a container's limit.

    Args:
        root: the directory that contains /proc and /sys, where the limit is found.
    """
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return min([machine, *_limits(root)])


def peak() -> int:
    """Return the largest number of bytes that this process has used."""
    with suppress(OSError):  # Linux only; getrusage may report the parent's peak
        for line in _STATUS.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return 1024 * int(line.split()[1])
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else 1024 * most


def excess(need: int, there: int | None = None) -> str:
    """Say that `need` bytes do not fit into memory; return an empty string if they do.

    Args:
        need: an estimate of the bytes that are needed.
        there: the bytes of a device; None for what this process may use.
    """
    there = total() if there is None else there
    if need <= there:
        return ""
    return f"needs about {text(need)} of memory, but only {text(there)} are available"


def _limits(root: Path) -> Iterator[int]:
    with suppress(OSError):  # Linux only
        for line in (root / "proc/self/cgroup").read_text().splitlines():
            _, kind, path = line.split(":", 2)
            if kind in _LIMITS:
                folder, name = _LIMITS[kind]
                group = root / "sys/fs/cgroup" / folder / path.lstrip("/")
                for place in (group, *group.parents):
                    with suppress(OSError, ValueError):  # not readable, or "max"
                        yield int((place / name).read_text())


def text(size: float) -> str:
    """Return a number of bytes as text."""
    for unit in ("KiB", "MiB", "GiB"):
        size /= 1024
        if size < 1000:
            return f"{size:.1f} {unit}"
    return f"{size / 1024:,.1f} TiB"
