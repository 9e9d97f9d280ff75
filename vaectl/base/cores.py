"""The CPU cores that this process may use, and processes with cores of their own."""

from __future__ import annotations

import os
from collections.abc import Set

from vaectl.base.errors import ConfigError


def usable() -> set[int]:
    """Return the numbers of the cores that this process may use; all if the system does not say."""
    if hasattr(os, "sched_getaffinity"):
        return os.sched_getaffinity(0)
    return {*range(os.cpu_count() or 1)}


def check(what: str) -> None:
    """Refuse processes with cores of their own on systems without CPU affinity, such as macOS.

    Raises:
        ConfigError: this system cannot keep a process to some of its cores.
    """
    if not hasattr(os, "sched_setaffinity"):
        raise ConfigError(
            f"{what}: its workers need CPU cores of their own, which this system does not support",
            hint="leave --executor out, or use a machine with Linux",
        )


def take(cores: Set[int]) -> None:
    """Keep this process to some cores, before a library counts them."""
    os.sched_setaffinity(0, cores)
