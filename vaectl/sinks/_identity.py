"""The identity of a training in a tracker, so that a resume goes on in the same curves.

runs/NAME/mlflow/run.json    {"format_version": 1, "where": "http://...", "run": "3f2a..."}
"""

from __future__ import annotations

import json

from vaectl.base.files import Folder
from vaectl.runs import belongings
from vaectl.sinks.base import Training

FILE = "run.json"
MADE = {r"run\.json": belongings.JSON}
"""The beginning of the file, by the pattern of its name: for `Sink.leaves`."""
_MOST_BYTES = 10_000


def recall(training: Training, folder: str, where: str) -> str | None:
    """Return what a tracker called a training; None if it is not known there.

    Args:
        training: the training.
        folder: the sink's folder in the run directory.
        where: the tracker's address; it prevents a run from somebody else from choosing another
            address.
    """
    place = Folder(training.directory).folder(folder)
    try:
        known = json.loads(place.read(FILE, _MOST_BYTES))
        return str(known["run"]) if known["where"] == where else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def remember(training: Training, folder: str, where: str, run: str) -> None:
    """Note what a tracker calls a training.

    Raises:
        OSError: it cannot be written.
    """
    place = Folder(training.directory).folder(folder)
    place.make()
    fields = {"format_version": 1, "where": where, "run": run}
    with place.replacing(FILE) as file:
        file.write(f"{json.dumps(fields)}\n".encode())
