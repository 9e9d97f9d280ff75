"""TensorBoard: curves, pictures and hyperparameters, in files that `tensorboard --logdir` reads."""

from __future__ import annotations

import re
from collections.abc import Mapping
from importlib.util import find_spec
from typing import Any, ClassVar, final

from vaectl.base.errors import ConfigError
from vaectl.base.files import Folder
from vaectl.base.section import Count
from vaectl.runs import belongings, resume
from vaectl.sinks._sheets import sheets
from vaectl.sinks.base import Log, Pictures, Results, Sink, Status, Training

FOLDER = "tensorboard"
"""In the run directory."""
FILES = {
    # a record: its length, a checksum of that, and an event: its time, and what kind of file it is
    r"events\.out\.tfevents\.\d+\.vaectl": rb".{12}\x09.{8}\x1a\x0dbrain\.Event:2",
}
"""The beginnings of its files, by patterns of their names."""


class TensorBoard(Sink, name="tensorboard"):
    """Files for TensorBoard, in the run's own directory: `tensorboard --logdir runs` shows them."""

    leaves: ClassVar[Mapping[str, Mapping[str, bytes]]] = {FOLDER: FILES}

    images_every: Count | None = 10
    """Epochs between samples and reconstructions; the last epoch always has them. null: none."""

    def check(self) -> None:
        """Refuse to follow without tensorboardX.

        Raises:
            ConfigError: it is not installed.
        """
        if find_spec("tensorboardX") is None:
            raise ConfigError(
                "the sink tensorboard needs tensorboardX, which is not installed",
                hint="pip install 'vaectl[tensorboard]'",
            )

    @property
    def pictures_every(self) -> int | None:
        """The setting `images_every`."""
        return self.images_every

    def open(self, training: Training) -> Log:
        """Begin a file, after those that are there if the training goes on."""
        return _EventFile(training)


@final
class _EventFile:
    """One more file of a run; TensorBoard reads them in the order of their names."""

    def __init__(self, training: Training) -> None:
        from tensorboardX import RecordWriter
        from tensorboardX.proto.event_pb2 import SessionLog
        from tensorboardX.summary import hparams

        folder = Folder(training.directory).folder(FOLDER)
        folder.make()
        if not training.step:
            belongings.remove(folder, FILES)
        numbers = [re.fullmatch(r"events\.out\.tfevents\.(\d+)\..*", n) for n in folder.names()]
        number = 1 + max((int(found[1]) for found in numbers if found), default=0)
        name = f"events.out.tfevents.{number:010}.vaectl"
        self._time = training.time
        self._records = RecordWriter(str(folder.path.absolute() / name))
        self._write(file_version="brain.Event:2")
        if training.step:
            # TensorBoard drops what older files hold of this step and later ones
            begin = SessionLog(status=SessionLog.START)
            self._write(step=training.step + 1, session_log=begin)
        settings = {"epochs": training.settings.epochs, **resume.settled(training.settings)}
        best = f"{training.settings.objective.chosen.best}/validation"
        experiment, start, self._end = hparams(settings, {best: 0.0})
        self._write(summary=experiment)
        self._write(summary=start)
        self._records.flush()

    def write(self, results: Results) -> None:
        """Write an epoch as one record, and sync it to the disk."""
        from tensorboardX.proto.summary_pb2 import Summary

        values = [
            Summary.Value(tag=f"{name}/{row.split}", simple_value=value)
            for row in results.rows
            for name, value in {**row.terms, "seconds": row.seconds}.items()
        ]
        if results.pictures is not None:
            values += _images(results.pictures)
        self._time = results.time
        self._write(step=results.step, summary=Summary(value=values))
        self._records.flush()

    def close(self, status: Status) -> None:
        """Say whether the training finished, and close the file."""
        if status == "finished":
            self._write(summary=self._end)
            self._records.flush()
        self._records.close()

    def _write(self, **what: Any) -> None:
        from tensorboardX.proto.event_pb2 import Event

        self._records.write(Event(wall_time=self._time, **what).SerializeToString())


def _images(pictures: Pictures) -> list[Any]:
    from tensorboardX.summary import image

    return [
        image(name, sheet, dataformats="HWC").value[0] for name, sheet in sheets(pictures).items()
    ]
