"""A job: members of one compiled program that one worker trains, and the runs that they leave.

A member is a training of a study. Its run is complete in itself: it goes through the same
loop, and the same writer, as that of `vaectl train`. A run that was interrupted goes on from its
last checkpoint: on a CPU to the same bits; if members train together, to the same numbers up to
rounding. A run that ended without a sealed trial finishes once more.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import NamedTuple, final

import jax

from vaectl import experiment
from vaectl.base import spent
from vaectl.base.errors import DivergedError, RunError, VaectlError
from vaectl.base.files import Folder
from vaectl.config.schema import Config
from vaectl.evaluation.means import Images
from vaectl.experiment import Task
from vaectl.members import places
from vaectl.runs import environment
from vaectl.runs import resume as resumption
from vaectl.runs.directory import RunDir
from vaectl.runs.metrics import UNROUNDED, Row
from vaectl.runs.quiet import quiet_orbax
from vaectl.runs.record import Record
from vaectl.runs.recorder import Recorder, rows_of
from vaectl.runs.saved import kept
from vaectl.training import fit as fitting
from vaectl.training import population
from vaectl.training.events import Event, Started, Stopped, Warned
from vaectl.training.fit import Chunk, Epoch, Saved
from vaectl.training.program import Member
from vaectl.training.status import Status
from vaectl.training.step import columns


class Wanted(NamedTuple):
    """A member to train."""

    name: str
    """Its name in events."""
    settings: Config
    run: str | None = None
    """The name of the run that it leaves; None if only its numbers are wanted."""
    until: int = 0
    """The epoch after which its run pauses, to go on later; 0: it trains to the end."""
    traced: Sequence[str] = ()
    """The optimizer's keys in which members of a job may differ: see `Program.traced`."""


class Done(NamedTuple):
    """The result of a member that ended."""

    member: str
    rows: Sequence[Row]
    """Its metrics."""
    error: str
    """The reason why it diverged; empty if it finished."""
    files: Mapping[str, str]
    """The small files of its run as text, by their paths in it; none while it pauses."""
    paused: bool = False
    """True if it has not ended, and can go on."""


Job = Sequence[Wanted]


def train(
    job: Job, task: Task, folder: Folder, stopping: Callable[[], bool]
) -> Generator[Event | Done, None, None]:
    """Train the members of a job, in turn or together; yield what happens, and each result.

    Args:
        job: members that pause after the same epoch, and whose settings differ only in seed,
            learning rate and traced keys.
        task: the data and the device; its settings and its watcher are not used.
        folder: where the members leave their runs.
        stopping: tells whether a signal has asked to stop; a member in its last epoch still
            finishes.

    Raises:
        KeyboardInterrupt: asked to stop; the runs' states are saved.
        RunError: something cannot be written.
    """
    task = of(job[0], task)
    splits = task.images()
    how, _ = population.strategy(task.program, task.devices, splits[0])
    # resumed members take turns on any device, so that one state at a time is restored
    alone = [each for each in job if how == "in turn" or _is_there(each, folder)]
    for each in alone:
        yield from _train([each], "in turn", task, splits, folder, stopping)
    if together := [each for each in job if each not in alone]:
        yield from _train(together, how, task, splits, folder, stopping)


def of(wanted: Wanted, task: Task) -> Task:
    """Return the task of a member of a study."""
    return task._replace(settings=wanted.settings, traced=wanted.traced)


def compile_ahead(wanted: Wanted, task: Task) -> None:
    """Compile the program of a member that trains later, but not that of members together.

    Args:
        wanted: the member.
        task: the data and the device, as of `train`.
    """
    task = of(wanted, task)
    alone = task.alone
    splits = alone.shapes()
    if population.strategy(task.program, task.devices, splits[0])[0] == "in turn":
        with jax.default_device(alone.device):
            fitting.compile_ahead(alone.program, alone.member, *splits)


def _is_there(wanted: Wanted, folder: Folder) -> bool:
    try:
        return wanted.run is not None and folder.kind(wanted.run) is not None
    except OSError as error:
        raise places.unwritable(error) from None


def _train(
    job: Job,
    how: population.Strategy,
    task: Task,
    splits: tuple[Images, Images],
    folder: Folder,
    stopping: Callable[[], bool],
) -> Generator[Event | Done, None, None]:
    """Train members in turn or together; see `train`."""
    program = task.program
    until = job[0].until or program.epochs
    last, pauses = until * program.steps_per_epoch, until < program.epochs
    with quiet_orbax(), ExitStack() as running:
        tracks = [_Track(each, task, folder, running.enter_context(ExitStack())) for each in job]
        for track in tracks:
            yield from track.prepare()
            if track.step >= last:  # it was killed before its result was kept, or has paused
                yield from track.end(paused=pauses)
        going = [track for track in tracks if track.step < last]
        saved = {at: track.saved for at, track in enumerate(going) if track.saved}
        each = [Member.of(track.wanted.settings, track.wanted.traced) for track in going]
        members = jax.device_put(each, task.alone.everywhere)
        left, leaving, begins_round = len(going), False, True
        for at, event, ends_round in population.fit(program, members, splits, how, saved, until):
            track = going[at]
            if not track.started:
                yield track.start()
            if isinstance(event, DivergedError):
                yield from track.end(str(event))
                left -= 1
            else:
                track.take(event)
                yield event._replace(member=track.wanted.name)
            if begins_round:  # once for all that train together, so that all of them are saved
                leaving = stopping()
            begins_round = ends_round
            if isinstance(event, Epoch) and event.epoch == until:
                if pauses:
                    track.save(event)
                yield from track.end(paused=pauses)
                left -= 1
            elif leaving and not isinstance(event, DivergedError):
                track.save(event)
            if leaving and ends_round and left:
                raise KeyboardInterrupt


@final
class _Track:
    """A member while it trains."""

    def __init__(self, wanted: Wanted, task: Task, folder: Folder, opened: ExitStack) -> None:
        self.wanted = wanted
        self.started = False
        self.saved: Saved | None = None
        """The state that it goes on from, until it trains."""
        self.step = 0
        """The last step before this training; 0 for a new one."""
        self._told: list[Event] = []
        """Notes on a run that goes on, or on why it cannot."""
        self._task = task._replace(settings=wanted.settings, watch=self._told.append)
        self._folder = folder
        self._open = opened
        """The contexts that are left when it ends."""
        self._rows: list[Row] = []
        self._recorder: Recorder | None = None
        """The writer of its run, if it leaves one."""
        self._error, self._paused = "", False

    def prepare(self) -> Iterator[Event]:
        """Prepare to resume an interrupted run, or make room for a new one."""
        name = self.wanted.run
        if name is None:
            return
        places.wait_for(self._folder, name)
        found = self._take_up(name)
        if found:
            recorder, self.saved = found
            self.step = self.saved.step if self.saved else 0
            self._record(recorder, self._open)
        yield from self._told
        if not found and (aside := places.clear(self._folder, name)):
            yield Warned(f"{name} is there, and not of a sealed trial: renamed to {aside}")

    @spent.on("saving")
    def start(self) -> Started:
        """Begin the training, and the run if the member leaves one."""
        self.started = True
        task, name = self._task, self.wanted.run
        if name is not None and self._recorder is None:
            rundir = self._open.enter_context(
                RunDir.create(self._folder.path, name, name, force=False)
            )
            record, names = experiment.first_record(task, rundir), columns(task.program)
            recorder = Recorder(rundir, task.settings, record, names, unrounded=True)
            self._record(recorder, self._open)
        place = self._recorder.rundir.path if self._recorder else None
        return Started(self.wanted.name, task.settings, task.dataset, place, self.step)

    @spent.on("saving")
    def take(self, event: Chunk | Epoch) -> None:
        """Write an event into the run, and keep an epoch's numbers."""
        if isinstance(event, Epoch):
            self._rows += rows_of(event)
        if self._recorder:
            self._recorder.take(event)
            self._recorder.save_if_due(event)

    @spent.on("saving")
    def save(self, event: Chunk | Epoch) -> None:
        """Save the state, from which the run can go on."""
        if self._recorder:
            self._recorder.save(event)

    def end(self, error: str = "", *, paused: bool = False) -> Iterator[Event | Done]:
        """Write how it ended, or that it pauses, and yield its result."""
        self._error, self._paused = error, paused
        with spent.on("saving"):
            self._open.close()
            files = {}
            if self._recorder and not paused:
                files = places.small_files(self._recorder.rundir)
        ended: Status = "failed" if error else "finished"
        yield Stopped(self.wanted.name, "interrupted" if paused else ended, error)
        yield Done(self.wanted.name, self._rows, error, files, paused)

    def _take_up(self, name: str) -> tuple[Recorder, Saved | None] | None:
        """Resume an interrupted run with these settings; return None if there is none that fits."""
        rundir = RunDir(self._folder.folder(name))
        try:
            if not places.is_member(self._folder, name) or not rundir.has_record:
                return None
            with ExitStack() as held:
                held.enter_context(rundir.lock())
                record = rundir.read_record()
                if record.status not in ("running", "interrupted") and not rundir.folder.kind(
                    UNROUNDED
                ):
                    return None  # of a trial that was sealed
                stored = rundir.read_config()
                if why := self._otherwise(stored, record):
                    raise RunError(why, hint="")
                task = self._task._replace(settings=stored)  # keep its interval between saves
                recorder, saved = experiment.go_on(task, rundir, record, unrounded=True)
                self._rows = list(recorder.rows)
                self._task = task
                self._open.push(held.pop_all())
                return recorder, saved
        except (VaectlError, OSError, ValueError) as error:
            why = error.message if isinstance(error, VaectlError) else str(error)
            text = f"{name} was cut off, and is trained from the beginning: {why}"
            self._told[:] = [Warned(text)]
            return None

    def _otherwise(self, stored: Config, record: Record) -> str:
        """Return the reason why an interrupted run would get other numbers; empty if it would not.

        Raises:
            VaectlError: its configuration was changed, or the data are others.
        """
        task = self._task
        if not _is_of(record, stored, self.wanted, task):
            return "it has other settings"
        found = resumption.differences(record, environment.versions(), task.place)
        return next(iter([*found, *resumption.changed_plugs(self.wanted.settings, record)]), "")

    def _record(self, recorder: Recorder, opened: ExitStack) -> None:
        """Write a run until the contexts are left; its record says how it ended."""
        self._recorder = recorder
        opened.enter_context(self._recording(recorder))

    @contextmanager
    def _recording(self, recorder: Recorder) -> Iterator[None]:
        recorder.begin(places.header(recorder.rundir.name))
        try:
            with recorder.saving():
                yield
        except BaseException as error:
            recorder.end("interrupted", str(error))
            raise
        ended: Status = "failed" if self._error else "finished"
        recorder.end("interrupted" if self._paused else ended, self._error)


def _is_of(record: Record, stored: Config, wanted: Wanted, task: Task) -> bool:
    """Tell whether a run is that of a member, as far as it has come.

    Raises:
        VaectlError: its configuration was changed, or the data are others.
    """
    settings, dataset = wanted.settings, task.dataset
    resumption.check_unchanged(record.name, stored, record)
    record.check_data(settings.data.source, dataset.fingerprint, dataset.image_shape)
    return stored.model_copy(update={"checkpoint": settings.checkpoint}) == settings


def paused(wanted: Wanted, task: Task, folder: Folder) -> Sequence[Row]:
    """Return the metrics of a member with a paused run; an empty list if it must be trained.

    Nothing is written. The arguments are those of `train`.
    """
    name = wanted.run
    try:
        if name is None or not places.is_member(folder, name):
            return []
        rundir = RunDir(folder.folder(name))
        infos = kept(rundir.checkpoints)
        if not rundir.has_record or not infos or rundir.is_locked():
            return []
        record = rundir.read_record()
        if record.status != "interrupted" or not _is_of(record, rundir.read_config(), wanted, task):
            return []
        rows = resumption.read_metrics(rundir, infos[-1].epoch, infos[-1].metrics)
        return rundir.read_unrounded(rows)
    except (VaectlError, OSError, ValueError):
        return []  # it is trained, which reports what is wrong with it


def forget_curve(folder: Folder, run: str) -> None:
    """Remove the unrounded metrics of a run whose trial has them.

    Raises:
        RunError: they cannot be removed.
    """
    try:
        if folder.kind(f"{run}/{UNROUNDED}"):
            folder.folder(run).remove(UNROUNDED)
    except OSError as error:
        raise places.unwritable(error) from None
