"""Let sinks follow trainings while they happen, or afterwards from the files of a run.

    with follow(sinks, watch) as watch:
        experiment.run(settings, watch=watch)

Each sink works in a thread of its own. The training only puts results into the sink's queue; it
waits for the sink only at the end of a member, for a bounded time. A sink that raises is disabled,
and one that hangs is left behind: a warning says so, and the training goes on.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from functools import partial
from queue import Full, Queue
from threading import Event as Flag
from threading import Thread
from typing import final

import numpy as np

from vaectl.base import mesh
from vaectl.base.errors import DataError, RunError
from vaectl.data.arrays import Split
from vaectl.pictures import latent
from vaectl.runs import trained
from vaectl.runs.directory import RunDir
from vaectl.runs.recorder import rows_of
from vaectl.runs.saved import Info, kept
from vaectl.runs.trained import Trained
from vaectl.sinks.base import Log, Pictures, Results, Sink, Status, Training
from vaectl.training import compiled
from vaectl.training.events import Event, Started, Stopped, Warned, Watch
from vaectl.training.fit import Epoch
from vaectl.training.program import Member

SAMPLES, IMAGES, PLANE = 16, 8, 10
"""The numbers of samples and of images that a sink gets as pictures, and of images per row of a
plane."""


@contextmanager
def follow(
    sinks: Sequence[Sink], watch: Watch, *, patience: float = 60.0, most: int = 1000
) -> Iterator[Watch]:
    """Let sinks follow the events of a watcher; yield the watcher to use in its place.

    Args:
        sinks: what follows.
        watch: called with every event, and with warnings about sinks that fail.
        patience: seconds to wait for a sink at the end of a member.
        most: epochs that may wait for a slow sink; further ones are left out.

    Raises:
        ConfigError: a sink needs what is not installed.
    """
    for sink in sinks:
        sink.check()
    followers = [_Follower(sink, watch, patience, most) for sink in sinks]

    def tell(event: Event) -> None:
        watch(event)
        for follower in followers:
            follower.tell(event)

    try:
        yield tell
    finally:
        for follower in followers:
            follower.leave()


def log_warnings(event: Event) -> None:
    """Watch by Python's logging, which prints warnings to stderr unless told otherwise."""
    if isinstance(event, Warned):
        logging.getLogger("vaectl").warning(event.text)


@final
class _Member:
    """A training that a sink follows. All but `model` is for the sink's thread."""

    def __init__(self, sink: Sink, training: Training, started: Started) -> None:
        self.training = training
        self.first = _first(started.dataset.validation)
        self._program, self._sink = started.program, sink
        self._log: Log
        self._undrawn: Results | None = None
        """The last epoch, if it has no pictures."""

    def open(self) -> None:
        """Begin its log."""
        self._log = self._sink.open(self.training)

    def write(self, results: Results) -> None:
        """Write an epoch."""
        self._log.write(results)
        self._undrawn = results

    def draw(self, results: Results, model: Trained) -> None:
        """Write an epoch with pictures that its model makes."""
        self._log.write(results._replace(pictures=pictures(model, self.first)))
        self._undrawn = None

    def close(self, status: Status) -> None:
        """End its log; one that stopped early has the pictures of its last epoch only now."""
        last = self._undrawn
        try:
            if last is not None and status == "finished" and self._sink.pictures_every is not None:
                model = trained.load(RunDir(self.training.directory), "latest")
                if (model.checkpoint.epoch, model.checkpoint.beyond) == (last.epoch, 0):
                    self.draw(last._replace(rows=()), model)
        finally:
            self._log.close(status)

    def model(self, epoch: Epoch) -> Trained:
        """Return the model at the end of an epoch; a copy, since the next one has its state."""
        settings = self.training.settings
        arrays = compiled.evaluated(self._program, Member.of(settings), epoch.state)
        variables = mesh.copied(arrays)
        info = Info(epoch=epoch.epoch, step=epoch.step, score=None)
        directory = RunDir(self.training.directory)
        return Trained(directory, settings, info, variables, self._program.vae)


@final
class _Follower:
    """One sink, and the thread in which it works.

    `tell` and `leave` are called in the training's thread, which alone reports problems.
    """

    def __init__(self, sink: Sink, watch: Watch, patience: float, most: int) -> None:
        self._sink, self._watch, self._patience = sink, watch, patience
        self._members: dict[str, _Member] = {}
        self._jobs: Queue[Callable[[], None] | Flag | None] = Queue(most)
        self._drawn = Flag()
        """Set once the last requested pictures are made, so that only one copy of a model waits."""
        self._drawn.set()
        self._problem = ""
        """The reason why it is disabled."""
        self._told: set[str] = set()
        self._undrawn = 0
        """The number of epochs whose pictures were due, but not drawn in time; see the sink."""
        Thread(target=self._work, name=f"sink {sink.name}", daemon=True).start()

    def tell(self, event: Event) -> None:
        """Queue the work that an event makes for the sink."""
        if not self._problem:
            try:
                self._take(event)
            except Exception as error:  # for example, no memory for a copy
                self._problem = _of(error)
        self._report()

    def leave(self) -> None:
        """Close what is still open, as after an error, and let the thread end."""
        for name in tuple(self._members):
            self.tell(Stopped(name, "interrupted"))
        if not self._jobs.full():  # else the sink hangs, and the thread with it
            self._jobs.put(None)
        if self._undrawn and not self._problem:
            self._tell_once(
                f"draws more slowly than the model trains: pictures of {self._undrawn} epoch"
                f"{'s' if self._undrawn > 1 else ''} are left out"
            )
        self._report()

    def _take(self, event: Event) -> None:
        match event:
            case Started(name, settings, _, directory, step) if directory is not None:
                training = Training(name, directory, settings, step, time.time())
                member = self._members[name] = _Member(self._sink, training, event)
                self._put(member.open)
            case Epoch(member=name) if name in self._members:
                self._epoch(self._members[name], event)
            case Stopped(name, status) if name in self._members:
                deadline = time.monotonic() + self._patience
                self._put(partial(self._members.pop(name).close, status), self._patience)
                self._settle(deadline)

    def _epoch(self, member: _Member, epoch: Epoch) -> None:
        results = Results(epoch.epoch, epoch.step, time.time(), rows_of(epoch))
        epochs = member.training.settings.epochs
        due = self._sink.draws(epoch.epoch, epochs)
        if due and (epoch.epoch == epochs or self._drawn.is_set()):
            self._drawn.clear()
            self._put(partial(member.draw, results, member.model(epoch)))
            self._put(self._drawn.set)
        else:
            self._undrawn += due and self._sink.misses_pictures
            self._put(partial(member.write, results))

    def _put(self, job: Callable[[], None], timeout: float = 0.0) -> None:
        """Queue a job; give up if the queue stays full for `timeout` seconds."""
        try:
            self._jobs.put(job, timeout=timeout)
        except Full:
            self._drawn.set()
            self._tell_once("is too slow: the results of some epochs are left out")

    def _settle(self, deadline: float) -> None:
        """Wait until all that was queued is done; a sink that is late is left behind."""

        def left() -> float:
            return max(deadline - time.monotonic(), 0.0)

        flag = Flag()
        try:
            self._jobs.put(flag, timeout=left())
            done = flag.wait(left())
        except Full:
            done = False
        if not done:
            self._problem = f"did not end within {self._patience:g} s, and is left behind"

    def _work(self) -> None:
        """Do the jobs in order; after one fails, skip the others, so that nobody waits."""
        while (job := self._jobs.get()) is not None:
            if isinstance(job, Flag):
                job.set()
            elif not self._problem:
                try:
                    job()
                except BaseException as error:  # SystemExit too
                    self._problem = _of(error)

    def _report(self) -> None:
        if self._problem:
            self._tell_once(f"{self._problem}; training goes on without it")

    def _tell_once(self, what: str) -> None:
        if what not in self._told:
            self._told.add(what)
            fill = f"vaectl export-log RUN --to {self._sink.name} fills in what it can"
            self._watch(Warned(f"the sink {self._sink.name} {what} ({fill})"))


def _of(error: BaseException) -> str:
    return f"failed: {type(error).__name__}: {error}"


def pictures(model: Trained, first: Split) -> Pictures:
    """Decode fixed codes from the prior, and a plane if there is one; reconstruct images."""
    shape, images = (-1, *model.image_shape), np.asarray(first.images)
    given = (images / np.float32(255)).reshape(shape)
    made = given
    if len(images):
        made = model.reconstruct(images, model.labels_of(first)).reshape(shape)
    plane = None
    if model.code_size == 2:
        if model.vae.prior.standard:
            x = y = latent.axis(PLANE, -2.5, 2.5, "linear")
        else:
            x, y = (latent.spread(dim, PLANE, "linear") for dim in model.prior(1000).T)
        codes = latent.plane(x, y, (0, 1), np.zeros(2, np.float32))
        labels = np.zeros(PLANE**2, np.int32) if model.vae.classes else None
        plane = model.decode(codes, labels).reshape(PLANE, PLANE, *model.image_shape)
    return Pictures(model.sample(SAMPLES).reshape(shape), given, made, plane)


def replay(rundir: RunDir, sink: Sink, watch: Watch) -> None:
    """Let a sink write the log of a finished run as if it had followed it; older logs are replaced.

    The pictures of older logs stay, since only those of checkpoints can be made again.

    Args:
        rundir: of the run.
        sink: what writes.
        watch: told what is missing.

    Raises:
        RunError: the run is broken, another process trains in it, or the sink fails.
    """
    with rundir.lock():
        record, settings = rundir.read_record(), rundir.read_config()
        if record.status == "imported":
            raise record.untrained()
        rows = rundir.read_metrics(until=record.epoch)
        drawn = _drawn(rundir, watch) if sink.pictures_every else {}
        now = datetime.fromisoformat(record.start).timestamp()
        status: Status = "interrupted" if record.status == "running" else record.status
        over = frozenset(row.step for row in rows)
        try:
            log = sink.open(Training(rundir.name, rundir.path, settings, 0, now, over))
            try:
                for pair in zip(rows[::2], rows[1::2], strict=True):
                    epoch, step, *_ = pair[0]
                    now += sum(row.seconds for row in pair)
                    log.write(Results(epoch, step, now, pair, drawn.get(epoch)))
            except BaseException:
                with suppress(Exception):  # the first error matters more
                    log.close("failed")
                raise
            log.close(status)
        except Exception as error:
            raise RunError(
                f"{rundir.path}: the sink {sink.name} {_of(error)}",
                hint="what it has written is not whole; the run itself is as it was",
            ) from error


def _drawn(rundir: RunDir, watch: Watch) -> dict[int, Pictures]:
    """Make pictures by the checkpoints of a run, by epoch."""
    found: dict[int, Pictures] = {}
    first: Split | None = None
    for info in kept(rundir.checkpoints):
        if info.beyond:
            continue
        try:
            model = trained.load(rundir, info.epoch)
            if first is None:
                first = _first_of(model, watch)
            found[info.epoch] = pictures(model, first)
        except RunError as error:
            watch(Warned(f"no pictures of epoch {info.epoch}: {error.message}"))
    return found


def _first(split: Split) -> Split:
    """Return the images of a split that are reconstructed."""
    labels = None if split.labels is None else split.labels[:IMAGES]
    return Split(np.asarray(split.images[:IMAGES]), labels)


def _first_of(model: Trained, watch: Watch) -> Split:
    try:
        return _first(model.split("validation"))
    except DataError as error:
        watch(Warned(f"no reconstructions: {error.message}"))
        return Split(np.zeros((0, *model.image_shape), np.uint8), None)
