"""The run that a trial of the result leaves: whether it is still what was sealed with the trial.

Its small files stand in the sealed trial as they are, and are made again from it. Its checkpoint
stands nowhere else.
"""

from __future__ import annotations

from pathlib import Path

from vaectl.checkpoints import DAMAGED, digest
from vaectl.comparison.ended import FILES, Ended
from vaectl.comparison.ledger import MOST_BYTES, unwritable, write
from vaectl.errors import RunError
from vaectl.files import read


def is_there(run: Path, trial: Ended) -> bool:
    """Whether the run of a trial is there, perhaps with some of its files changed or gone.

    Raises:
        RunError: that cannot be known.
    """
    known = [(_content(run / name), trial.files[name].encode()) for name in FILES]
    if any(here == sealed for here, sealed in known):
        return True
    # without any of these a checkpoint still tells
    return all(here is None for here, _ in known) and not _damage(run, trial)


def mend(run: Path, trial: Ended) -> list[Path]:
    """Make the small files of a run again that are not what was sealed; return their paths.

    Raises:
        RunError: one cannot be read or written, or lies behind a link.
    """
    changed = [path for path in trial.files if _content(run / path) != trial.files[path].encode()]
    for folder in (run, run / "checkpoints"):
        if changed and folder.is_symlink():
            raise RunError(f"{folder} is a link, and nothing is written behind one")
    for path in changed:
        file = run / path
        try:
            file.parent.mkdir(exist_ok=True)
        except OSError as error:
            raise unwritable(file, error) from None
        write(file, trial.files[path])
    return [run / path for path in changed]


def check_checkpoint(run: Path, trial: Ended) -> None:
    """Refuse a run whose checkpoint is not the one that was sealed.

    Raises:
        RunError: it is damaged or gone, or cannot be read.
    """
    if found := _damage(run, trial):
        raise RunError(f"{found}; what is published of it was sealed before")


def _damage(run: Path, trial: Ended) -> str:
    """What is wrong with the checkpoint; nothing where it is intact, or the trial has none."""
    info = trial.checkpoint
    if info is None:
        return ""
    path = run / "checkpoints" / str(info.step)
    try:
        if digest(path) == info.digest:
            return ""
    except OSError as error:
        if error.errno not in DAMAGED:
            return f"{path}: the checkpoint cannot be read: {error.strerror}"
    what = "is damaged: its files are not those that were saved" if path.exists() else "is gone"
    return f"{path}: the checkpoint {what}"


def _content(file: Path) -> bytes | None:
    """What a file holds; None where it is gone, or none."""
    try:
        return read(file, MOST_BYTES)
    except OSError as error:
        if error.errno in DAMAGED:
            return None
        raise RunError(f"{file}: cannot be read: {error.strerror}") from None
