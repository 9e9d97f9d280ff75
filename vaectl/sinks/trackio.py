"""Trackio: curves in a database of this machine, which `trackio show` draws."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import ClassVar, final

from vaectl.runs import resume
from vaectl.sinks import _identity
from vaectl.sinks.base import Log, Results, Sink, Status, Training

FOLDER = "trackio"
"""The file in the run directory that has the identity of Trackio's run."""


class Trackio(Sink, name="trackio"):
    """A run of a Trackio project, in TRACKIO_DIR or the default directory, without a server."""

    needs: ClassVar[tuple[str, ...]] = ("trackio",)
    leaves: ClassVar[Mapping[str, Mapping[str, bytes]]] = {FOLDER: _identity.MADE}

    project: str = "vaectl"
    """The project in which Trackio shows the run."""

    def open(self, training: Training) -> Log:
        """Begin a run, or go on with the one that the training has."""
        where = f"project {self.project}"
        run = _identity.recall(training, FOLDER, where)
        if run is None:
            run = uuid.uuid4().hex
            _identity.remember(training, FOLDER, where, run)
        return _Run(self.project, run, training)


@final
class _Run:
    """A run of a project. Trackio's own `log` writes later, prints to stdout and knows no times."""

    def __init__(self, project: str, run: str, training: Training) -> None:
        from trackio.sqlite_storage import SQLiteStorage

        self._project, self._run, self._name = project, run, training.name
        settings = training.settings
        self._config = {"epochs": settings.epochs, **resume.settled(settings)}
        held = SQLiteStorage.get_logs(project, run_id=run)
        before = [row for row in held if row["step"] <= training.step]
        if len(before) < len(held):  # the rest belongs to lost training
            SQLiteStorage.delete_run(project, self._name, run_id=run)
            times, steps = ([row.pop(key) for row in before] for key in ("timestamp", "step"))
            self._add(before, steps, times)

    def write(self, results: Results) -> None:
        """Write an epoch."""
        metrics = {
            f"{row.split}/{name}": value
            for row in results.rows
            for name, value in {**row.terms, "seconds": row.seconds}.items()
        }
        time = datetime.fromtimestamp(results.time, UTC).isoformat()
        self._add([{"epoch": results.epoch, **metrics}], [results.step], [time])

    def _add(
        self, rows: list[dict[str, float]], steps: Sequence[int], times: Sequence[str]
    ) -> None:
        from trackio.sqlite_storage import SQLiteStorage

        SQLiteStorage.bulk_log(
            self._project,
            self._name,
            rows,
            steps=[*steps],
            timestamps=[*times],
            config=self._config,
            log_ids=[f"{self._run}-{step}" for step in steps],  # each is there once
            run_id=self._run,
        )

    def close(self, status: Status) -> None:
        """Do nothing: every epoch is in the database."""
