"""The place of a member's run in a study's directory."""

from __future__ import annotations

import time
from itertools import count

from vaectl.base.errors import RunError
from vaectl.base.files import Folder
from vaectl.runs import belongings
from vaectl.runs.directory import RunDir
from vaectl.runs.saved import DAMAGED, kept

FILES = ("config.yaml", "run.json", "metrics.csv")
"""The small files that every run has."""
CHECKPOINTS = "checkpoints/"
"""The folder of the other small files: a description of each checkpoint."""
MOST_BYTES = 2**30
"""The largest small file: the metrics of a million epochs, the most that a configuration allows."""


def header(name: str) -> str:
    """Return the first line of config.yaml of a member's run."""
    return f"the resolved configuration of {name}"


def is_member(folder: Folder, name: str) -> bool:
    """Tell whether an entry is a run of the study, not a copy and not renamed.

    Raises:
        OSError: that cannot be known.
    """
    if folder.kind(name) != "folder" or folder.kind(f"{name}/config.yaml") != "file":
        return False
    with folder.open(f"{name}/config.yaml") as file:
        return file.readline(1000).decode(errors="replace") == f"# {header(name)}\n"


def wait_for(folder: Folder, name: str, patience: float = 20.0) -> None:
    """Wait until no process writes in a run: workers of a killed command still save it.

    Args:
        folder: the study's directory.
        name: the name of the run, which may be missing.
        patience: the most seconds to wait.

    Raises:
        RunError: another process still writes in it.
    """
    deadline = time.monotonic() + patience
    run = folder.folder(name)
    try:
        while folder.kind(name) == "folder" and RunDir(run).is_locked():
            if time.monotonic() > deadline:
                raise RunError(f"{run.path}: another process writes in it", hint="wait for it")
            time.sleep(0.1)
    except OSError as error:
        raise unwritable(error) from None


def clear(folder: Folder, name: str) -> str:
    """Make room for a run: remove one that never ended, and rename anything else.

    Returns:
        The new name of what was there; empty if nothing is left of it.

    Raises:
        RunError: it cannot be removed or renamed.
    """
    try:
        if name not in folder.names():
            return ""
        if is_member(folder, name) and not _ended(RunDir(folder.folder(name))):
            belongings.remove_run(folder, name)
        there = folder.names()
        if name not in there:
            return ""
        aside = next(place for n in count(1) if (place := f"{name}.{n}") not in there)
        folder.rename(name, aside)
        return aside
    except OSError as error:
        raise unwritable(error) from None


def _ended(rundir: RunDir) -> bool:
    """Tell whether a run ended; a run with an unreadable record counts as ended."""
    try:
        return rundir.has_record and rundir.read_record().status in ("finished", "failed")
    except RunError:
        return True


def small_files(rundir: RunDir) -> dict[str, str]:
    """Read the files of a run that are sealed with its trial, by their paths in it.

    Raises:
        RunError: one cannot be read.
    """
    names = [*FILES, *(checkpoint_file(info.step) for info in kept(rundir.checkpoints))]
    found = {name: content(rundir.folder, name) for name in names}
    if missing := [name for name, text in found.items() if text is None]:
        raise RunError(
            f"{rundir.path / missing[0]}: was removed while the run was trained",
            hint="the same command trains it again",
        )
    return {name: (text or b"").decode() for name, text in found.items()}


def content(run: Folder, name: str) -> bytes | None:
    """Return the content of a small file; None if it is gone, or is no file.

    Raises:
        RunError: it cannot be read.
    """
    try:
        return run.read(name, MOST_BYTES)
    except OSError as error:
        if error.errno in DAMAGED:
            return None
        raise RunError.of(error) from None


def checkpoint_file(step: int) -> str:
    """Return the path, in a run, of the description of the checkpoint of a step."""
    return f"{CHECKPOINTS}{step}.json"


def unwritable(error: OSError) -> RunError:
    """Say that something in a study's directory cannot be written."""
    return RunError.of(
        error,
        what="cannot be written",
        hint="what was written before is intact; the same command continues after it",
    )
