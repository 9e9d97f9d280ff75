"""The run that a trial of the result leaves, checked against what was sealed with the trial.

The sealed trial contains the small files of the run, so they can be made again. The checkpoints
exist only in the run.
"""

from __future__ import annotations

import json
from pathlib import Path

from vaectl.base import seals
from vaectl.base.errors import RunError
from vaectl.base.files import Folder
from vaectl.members.places import content, unwritable
from vaectl.runs.saved import DAMAGED, Info, is_intact
from vaectl.studies.ended import Ended
from vaectl.studies.ledger import write


def is_there(run: Folder, trial: Ended) -> bool:
    """Tell whether the run of a trial is there, perhaps with some of its files changed or gone.

    Raises:
        RunError: that cannot be known.
    """
    # many trials can have the same config.yaml; the other files belong to one trial
    known = {name: content(run, name) for name in trial.files if name != "config.yaml"}
    record = known["run.json"]
    if record is not None and _is_another(record, trial.files["run.json"].encode()):
        return False
    if any(found == trial.files[name].encode() for name, found in known.items()):
        return True
    # without any of these a checkpoint still tells
    gone = all(found is None for found in known.values())
    return gone and any(not _damage(run, info) for info in trial.checkpoints)


def mend(run: Folder, trial: Ended) -> list[Path]:
    """Make the small files of a run again that are not what was sealed; return their paths.

    Raises:
        RunError: one cannot be read or written, or lies behind a link.
    """
    changed = [name for name in trial.files if content(run, name) != trial.files[name].encode()]
    for name in changed:
        try:
            run.folder(name.rpartition("/")[0]).make()
        except OSError as error:
            raise unwritable(error) from None
        write(run, name, trial.files[name])
    return [run.path / name for name in changed]


def check_checkpoints(run: Folder, trial: Ended) -> None:
    """Refuse a run whose checkpoints are not those that were sealed.

    Raises:
        RunError: one is damaged or gone, or cannot be read.
    """
    for info in trial.checkpoints:
        if found := _damage(run, info):
            raise RunError(
                f"{found}; what is published of it was sealed before",
                hint="put it back from a copy; or delete the run, and it is trained again",
            )


def _damage(run: Folder, info: Info) -> str:
    """Say what is wrong with a checkpoint; nothing if it is intact."""
    folder = run.folder(f"checkpoints/{info.step}")
    what = "is damaged: its files are not those that were saved"
    try:
        if is_intact(folder, info):
            return ""
    except OSError as error:
        if error.errno not in DAMAGED:
            return f"{error.filename}: the checkpoint cannot be read: {error.strerror}"
        if not folder.path.exists():
            what = "is gone"
    return f"{folder.path}: the checkpoint {what}"


def _is_another(record: bytes, known: bytes) -> bool:
    """Tell the record of another run from one that was changed, even if only in its layout."""
    try:
        seals.check(record)
    except ValueError:
        return False
    return bool(json.loads(record) != json.loads(known))
