"""What a run depends on beside its configuration: versions, and the commit of the directory."""

import platform
import subprocess
from importlib import metadata

from vaectl.version import VERSION

PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")


def versions() -> dict[str, str]:
    """Of vaectl, of Python, and of the packages that numbers depend on."""
    packages = {name: metadata.version(name) for name in PACKAGES}
    return {"vaectl": VERSION, "python": platform.python_version(), **packages}


def git_commit() -> str | None:
    """The commit of the working directory, with `-dirty` if files differ from it; None without."""
    command = ["git", "describe", "--always", "--abbrev=40", "--exclude=*", "--dirty"]
    try:
        answer = subprocess.run(  # noqa: S603  # a fixed command
            command, capture_output=True, text=True, timeout=5, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return answer.stdout.strip() or None
