"""TensorBoard: curves, pictures and hyperparameters, in files that `tensorboard --logdir` reads."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterable, Iterator, Mapping, Set
from typing import Any, ClassVar, final

from vaectl.base.files import Folder
from vaectl.runs import belongings, resume
from vaectl.sinks._sheets import Shows, sheets
from vaectl.sinks.base import Log, Pictures, Results, Status, Training

FOLDER = "tensorboard"
"""The folder of its files in the run directory."""
FILES = {
    # a record: its length, a checksum of that, and an event: its time, and what kind of file it is
    r"events\.out\.tfevents\.\d+\.vaectl": rb".{12}\x09.{8}\x1a\x0dbrain\.Event:2",
}
"""The beginnings of its files, by patterns of their names."""
_MOST = 2**28
"""Bytes of a record that is read."""


class TensorBoard(Shows, name="tensorboard"):
    """Files for TensorBoard, in the run's own directory: `tensorboard --logdir runs` shows them."""

    needs: ClassVar[tuple[str, ...]] = ("tensorboardX",)
    leaves: ClassVar[Mapping[str, Mapping[str, bytes]]] = {FOLDER: FILES}

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
        self._folder, self._last = folder, max(training.over, default=0)
        if not (training.step or training.over):
            belongings.remove(folder, FILES)
        self._old: list[str] = []
        """The files that this one replaces."""
        if training.over:
            made = (n for n in folder.names() if belongings.is_made(folder, n, FILES))
            self._old = sorted(made)
        self._kept = _kept(folder, self._old, training.over)
        numbers = [re.fullmatch(r"events\.out\.tfevents\.(\d+)\..*", n) for n in folder.names()]
        number = 1 + max((int(found[1]) for found in numbers if found), default=0)
        self._name = f"events.out.tfevents.{number:010}.vaectl"
        self._time, self._done = training.time, 0
        self._records = RecordWriter(str(folder.path.absolute() / self._name))
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
        images = self._kept.get(results.step, {})
        if results.pictures is not None:
            images = {**images, **_images(results.pictures)}
        values += images.values()
        self._time = results.time
        self._write(step=results.step, summary=Summary(value=values))
        self._records.flush()
        self._done = results.step

    def close(self, status: Status) -> None:
        """Say whether the training finished, and close the file.

        Of this file and the files that it replaces, only complete ones stay: this file if it is
        complete, else the old ones, whose pictures may be impossible to make again.
        """
        if status == "finished":
            self._write(summary=self._end)
            self._records.flush()
        self._records.close()
        if self._old:
            for name in self._old if self._done == self._last else [self._name]:
                self._folder.remove(name)

    def _write(self, **what: Any) -> None:
        from tensorboardX.proto.event_pb2 import Event

        self._records.write(Event(wall_time=self._time, **what).SerializeToString())


def _images(pictures: Pictures) -> dict[str, Any]:
    """Return what TensorBoard shows of pictures, by tag."""
    from tensorboardX.summary import image

    drawn = sheets(pictures)
    return {name: image(name, sheet, dataformats="HWC").value[0] for name, sheet in drawn.items()}


def _kept(folder: Folder, names: Iterable[str], steps: Set[int]) -> dict[int, dict[str, Any]]:
    """Read the images of files, by step and tag; those of the last file count."""
    from tensorboardX.proto.event_pb2 import SessionLog

    found: dict[int, dict[str, Any]] = {}
    for name in names:
        for event in _events(folder, name):
            if event.session_log.status == SessionLog.START:
                found = {step: images for step, images in found.items() if step < event.step}
            images = {each.tag: each for each in event.summary.value if each.HasField("image")}
            if images and event.step in steps:
                found[event.step] = {**found.get(event.step, {}), **images}
    return found


def _events(folder: Folder, name: str) -> Iterator[Any]:
    """Read a file up to its end, or to where it is damaged or cut off."""
    from tensorboardX.proto.event_pb2 import Event
    from tensorboardX.record_writer import masked_crc32c

    with folder.open(name) as file:
        while len(head := file.read(12)) == 12:
            size, check = struct.unpack("<QI", head)
            if check != masked_crc32c(head[:8]) or size > _MOST:
                return
            data, end = file.read(size), file.read(4)
            if end != struct.pack("<I", masked_crc32c(data)):
                return
            yield Event.FromString(data)
