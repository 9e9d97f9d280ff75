"""What a run depends on beside its configuration: versions, and the commit of the directory."""

import os
import platform
import shutil
import subprocess
from importlib import metadata

from vaectl.version import VERSION

PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")


def versions() -> dict[str, str]:
    """Of vaectl, of Python, and of the packages that numbers depend on."""
    packages = {name: metadata.version(name) for name in PACKAGES}
    return {"vaectl": VERSION, "python": platform.python_version(), **packages}


def git_commit() -> str | None:
    """The commit of the working directory, with `-dirty` if files differ from it; None without.

    The repository may be a stranger's, whose configuration names programs for Git to run: filters,
    hooks, a file system monitor, ways to fetch. None of them is run. Without its filter, a file
    that a filter changes counts as dirty once it was touched. Where the flag cannot be had safely,
    it is left out.
    """
    commit = _git("rev-parse", "--verify", "HEAD")
    if not commit:
        return None
    names = _git("config", "--null", "--name-only", "--get-regexp", r"^filter\.", none=1)
    filters = {name.rpartition(".")[0] for name in (names or "").split("\0") if name}
    # `-c` takes what precedes the first = for the whole name
    if names is None or any("=" in name for name in filters):
        return commit
    changes = _git(
        *(word for name in sorted(filters) for word in _without(name)),
        *("status", "--porcelain", "--untracked-files=no", "--ignore-submodules=all"),
    )
    return f"{commit}-dirty" if changes else commit


def _without(name: str) -> list[str]:
    """Options of Git that keep a filter from running."""
    empty = [f"{name}.{key}=" for key in ("clean", "smudge", "process")]
    return [word for setting in (*empty, f"{name}.required=false") for word in ("-c", setting)]


def _git(*arguments: str, none: int = 0) -> str | None:
    """Run Git so that it starts no other program and reaches no network; return its answer.

    Args:
        arguments: its options and command.
        none: the exit code of a command that has found nothing.

    Returns:
        None where there is no Git, no repository, or no answer in time.
    """
    path = os.pathsep.join(folder for folder in os.get_exec_path() if os.path.isabs(folder))  # noqa: PTH117
    program = shutil.which("git", path=path)  # not one of the current directory
    if program is None:
        return None
    unset = ("-c", "core.fsmonitor=", "-c", "core.hooksPath=/dev/null")
    command = [program, "--no-pager", *unset, *arguments]
    # a Git hook or script that starts vaectl sets GIT_* for its own repository
    kept = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    hardened = {
        "PATH": path,
        "GIT_OPTIONAL_LOCKS": "0",  # write no index, after which a hook would run
        "GIT_NO_LAZY_FETCH": "1",  # fetch no missing object of a partial clone
        "GIT_ALLOW_PROTOCOL": "none",  # nor, by an older Git, over any protocol
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
