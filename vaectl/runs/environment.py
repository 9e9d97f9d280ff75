"""Versions of packages, and the Git commit of the working directory."""

import os
import platform
import shutil
import subprocess
from importlib import metadata

from vaectl.version import VERSION

PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")


def versions() -> dict[str, str]:
    """Return the versions of vaectl, Python, and the packages on which results depend."""
    packages = {name: metadata.version(name) for name in PACKAGES}
    return {"vaectl": VERSION, "python": platform.python_version(), **packages}


def git_commit() -> str | None:
    """Return the commit of the working directory, with `-dirty` if files differ from it.

    The repository may be somebody else's, with a configuration that names programs for Git to run:
    filters, hooks, a file system monitor, transports. None of them is run. Without its filter, a
    filtered file counts as dirty after any change of its time. If it cannot be determined safely
    whether files differ, the flag is left out. Without Git or a repository the result is None.
    """
    commit = _git("rev-parse", "--verify", "HEAD")
    if not commit:
        return None
    names = _git("config", "--null", "--name-only", "--get-regexp", r"^filter\.", none=1)
    filters = {name.rpartition(".")[0] for name in (names or "").split("\0") if name}
    # `-c` ends the name of a setting at the first =
    if names is None or any("=" in name for name in filters):
        return commit
    changes = _git(
        *(word for name in sorted(filters) for word in _without(name)),
        *("status", "--porcelain", "--untracked-files=no", "--ignore-submodules=all"),
    )
    return f"{commit}-dirty" if changes else commit


def _without(name: str) -> list[str]:
    """Return options of Git that keep a filter from running."""
    empty = [f"{name}.{key}=" for key in ("clean", "smudge", "process")]
    return [word for setting in (*empty, f"{name}.required=false") for word in ("-c", setting)]


def _git(*arguments: str, none: int = 0) -> str | None:
    """Run Git without other programs and without the network, and return its output.

    Args:
        arguments: Git's options and command.
        none: the exit code of a command that finds nothing.

    Returns:
        The output; None without Git, without a repository, or after a timeout.
    """
    path = os.pathsep.join(folder for folder in os.get_exec_path() if os.path.isabs(folder))  # noqa: PTH117
    program = shutil.which("git", path=path)  # never from the current directory
    if program is None:
        return None
    unset = ("-c", "core.fsmonitor=", "-c", "core.hooksPath=/dev/null")
    command = [program, "--no-pager", *unset, *arguments]
    # a Git hook or script that starts vaectl sets GIT_* for its own repository
    kept = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    hardened = {
        "PATH": path,
        "GIT_OPTIONAL_LOCKS": "0",  # do not write the index, which would run a hook
        "GIT_NO_LAZY_FETCH": "1",  # do not fetch missing objects of a partial clone
        "GIT_ALLOW_PROTOCOL": "none",  # the same for older versions of Git
        "GIT_TERMINAL_PROMPT": "0",
    }
    try:
        answer = subprocess.run(  # noqa: S603  # a fixed command
            command,
            capture_output=True,
            check=False,
            env=kept | hardened,
            stdin=subprocess.DEVNULL,
            timeout=5,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    if answer.returncode not in (0, none):
        return None
    return answer.stdout.decode(errors="surrogateescape").strip()
