"""Names of runs, and the directories that are runs."""

import re
from pathlib import Path

from vaectl.base.errors import ConfigError, RunError
from vaectl.base.files import Folder
from vaectl.runs import belongings

PARTS = ("run.json", "config.yaml", "metrics.csv", "checkpoints")
"""A directory with any of these is taken for a run."""

STUDIES = {"comparison.yaml": "comparison", "sweep.yaml": "sweep", "profile.json": "profile"}
"""The kinds of studies, by the file that identifies them. Comparisons and sweeps contain runs; a
profile sums up comparisons, and has no runs of its own."""

LOCK = ".lock"
"""The file that a process locks while it writes in a run."""

EVALUATION_LOCK = ".evaluation.lock"
"""The file that a process locks while it writes an evaluation or a diagnosis into a run."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


def is_name(text: str) -> bool:
    """Tell whether a run or a study can have this name."""
    return text != "latest" and bool(_NAME.fullmatch(text))


def check_name(runs_dir: Path, name: str | None, *, force: bool) -> None:
    """Check the name of a new run, before anything is computed.

    Raises:
        ConfigError: a directory cannot have this name.
        RunError: the name is taken.
    """
    if name is None:
        return
    if not is_name(name):
        raise ConfigError(
            f"--name {name}: not usable as the name of a run",
            hint="use up to 100 letters, digits, '.', '_' and '-', beginning with a letter or "
            "digit; 'latest' is reserved",
        )
    path = runs_dir / name
    try:
        if path.exists():
            _check_replaceable(path, force)
    except OSError as error:
        raise RunError.of(error, path) from None


def is_run(path: Path) -> bool:
    """Tell whether a path is a run; one that was killed early has only a lock and config.yaml."""
    folder = Folder(path)
    try:
        names = folder.names()
        return "run.json" in names or (LOCK in names and "config.yaml" in names and _is_bare(path))
    except (OSError, ValueError):  # too long, not readable, or with a character of no path
        return False


def _is_bare(path: Path) -> bool:
    """Tell whether a directory has only the files that training writes before run.json."""
    folder = Folder(path)
    names = folder.names()
    ours = all(
        name in (LOCK, "config.yaml")
        or (name.startswith(".") and belongings.is_made(folder, name, belongings.TRAINING))
        for name in names
    )
    return ours and (LOCK in names or not names)


def _check_replaceable(path: Path, force: bool) -> None:
    if not force:
        raise RunError(
            f"{path} exists already", hint="choose another --name, or replace it with --force"
        )
    if path.is_symlink():
        raise RunError(
            f"{path} is a link, and --force deletes nothing behind one",
            hint="choose another --name, or remove the link",
        )
    if not path.is_dir() or not (is_run(path) or _is_bare(path)):
        raise RunError(
            f"{path} is not a run, so --force does not replace it", hint="choose another --name"
        )


def claim(runs_dir: Path, name: str, *, fixed: bool, force: bool) -> tuple[Path, bool]:
    """Make the directory of a new run atomically.

    Args:
        runs_dir: the parent directory, which is there.
        name: that of the directory.
        fixed: whether it must have this name; else a number makes it unique.
        force: whether a run of this name is to be replaced.

    Returns:
        The directory's path, and whether it is a run to be replaced.

    Raises:
        RunError: the name is taken.
        OSError: the directory cannot be made.
    """
    path = runs_dir / name
    number = 1
    while True:
        try:
            path.mkdir()
            Folder(runs_dir).sync_names()
            return path, False
        except FileExistsError:
            if fixed or force:
                _check_replaceable(path, force)
                return path, True
            number += 1
            path = runs_dir / f"{name}-{number}"
