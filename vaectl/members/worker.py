"""The main loop of a worker: read the data, train one job after another, report every event.

    driver                         worker
       |  <------------  Ready        | has read the data, and knows whether it sees the directory
       |  Job  ------------------->   | trains
       |  <--  events, Handed, Done   |
       |  None, or the pipe's end --> | saves what trains, and ends

The driver alone writes the study's ledger. A worker without access to the study's directory keeps
runs in a folder of its own, and sends each as a whole.
"""

from __future__ import annotations

import os
import platform
import secrets
import shutil
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from multiprocessing.connection import Connection
from pathlib import Path
from queue import SimpleQueue
from tempfile import gettempdir
from typing import Any, NamedTuple, final

import jax
from filelock import FileLock, Timeout

from vaectl import data
from vaectl.base import devices, plugins, spawn, surroundings
from vaectl.base.errors import DataError, RunError
from vaectl.base.files import Folder
from vaectl.config.schema import Config
from vaectl.experiment import Task
from vaectl.follow import follow
from vaectl.members import handover, places
from vaectl.members import job as jobs
from vaectl.members.job import Done, Job, Wanted
from vaectl.runs.quiet import quiet_orbax
from vaectl.sinks import Sink
from vaectl.training.events import Event, Started, ignore
from vaectl.training.fit import Chunk, Epoch
from vaectl.training.program import TrainState

NO_STATE = TrainState({}, (), None)  # type: ignore[arg-type]
"""The state of an event that has left its process."""
TOKEN = ".workers"  # noqa: S105  # no password
"""The file by which a worker recognizes the study's directory."""


class Facts(NamedTuple):
    """The facts of a study that a worker knows, in plain values."""

    settings: dict[str, Any]
    fingerprint: str
    """The fingerprint of the data."""
    folder: str
    """The folder in which members leave their runs, if the worker sees it."""
    token: bytes
    """The content of its file `TOKEN`."""
    sinks: list[tuple[str, dict[str, Any]]]
    command: list[str]
    """The command of the study, for the records of its runs."""
    git_commit: str | None
    """The Git commit of the directory in which it runs."""


class Ready(NamedTuple):
    """A worker waits for jobs."""

    shared: bool
    """True if it sees the study's directory."""
    host: str
    processor: str


class Begun(NamedTuple):
    """The event `Started`, without the data and the settings, which the receiver has."""

    member: str
    directory: Any
    step: int


class Unable(NamedTuple):
    """A worker ends, because it cannot write in a folder of its own, as on a full disk."""

    why: str


class Handed(NamedTuple):
    """A run, complete or saved, from a worker without access to the study's directory."""

    run: str
    content: bytes


@contextmanager
def facts(task: Task, folder: Folder, sinks: Sequence[Sink]) -> Iterator[Facts]:
    """Describe a study to its workers; its directory is marked until the context is left.

    Raises:
        RunError: the directory cannot be written.
    """
    token = f"vaectl {secrets.token_hex(16)}".encode()  # vaectl recognizes it by "vaectl "
    try:
        handover.discard(folder)
        with folder.replacing(TOKEN) as file:
            file.write(token)
    except OSError as error:
        raise places.unwritable(error) from None
    plain = [(sink.name, sink.model_dump(mode="json")) for sink in sinks]
    settings = task.settings.model_dump(mode="json")
    path = str(folder.path.absolute())
    try:
        yield Facts(
            settings, task.dataset.fingerprint, path, token, plain, sys.argv, task.git_commit()
        )
    finally:
        with suppress(OSError):
            folder.remove(TOKEN)


def plain(job: Job, folder: Folder, *, shared: bool) -> list[Any]:
    """Describe a job; a worker without access to the directory also gets interrupted runs.

    Raises:
        RunError: such a run cannot be read.
    """
    # a configuration's classes are made anew in each process
    return [
        (
            wanted.name,
            wanted.settings.model_dump(mode="json"),
            wanted.run,
            wanted.until,
            [*wanted.traced],
            b"" if shared or wanted.run is None else handover.pack(folder, wanted.run),
        )
        for wanted in job
    ]


def received(message: Any, members: Mapping[str, Wanted], dataset: data.Dataset) -> Any:
    """Return the event that a message of a worker stands for."""
    if isinstance(message, Begun):
        member, directory, step = message
        return Started(member, members[member].settings, dataset, directory, step)
    return message


def work(connection: Connection, known: Facts) -> None:
    """Train jobs until the driver asks to stop, or is gone."""
    line, shared = _Line(connection), True
    try:
        device = devices.select("cpu")
        task = _task(known, device)
        with ExitStack() as opened:
            folder, shared = _folder(known, opened)
            sinks = [_sink(name, values) for name, values in known.sinks]
            opened.enter_context(quiet_orbax())
            opened.enter_context(jax.default_device(device))
            watch = opened.enter_context(follow(sinks, line.tell))
            line.send(Ready(shared, platform.node(), surroundings.processor()))
            for job, runs in line.jobs():
                with _handing_over([*runs] if not shared else [], folder, line) as hand_over:
                    for run, content in runs.items():
                        if content:
                            handover.unpack(content, folder, run)
                    names = {wanted.name: wanted.run for wanted in job}
                    for message in jobs.train(job, task, folder, line.closed.is_set):
                        if isinstance(message, Done):
                            hand_over(names[message.member])
                            line.send(message)
                        else:
                            watch(message)
    except KeyboardInterrupt:
        return  # asked to stop, and saved
    except RunError as error:
        # another machine may have the room
        line.send(spawn.failure(error) if shared else Unable(error.message))
    except BaseException as error:
        line.send(spawn.failure(error))


@final
class _Line:
    """The pipe to the driver."""

    def __init__(self, connection: Connection) -> None:
        self.closed = threading.Event()
        """The driver asks to stop, or is gone."""
        self._connection = connection
        self._received: SimpleQueue[Any] = SimpleQueue()
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        with suppress(EOFError, OSError):
            while (job := self._connection.recv()) is not None:
                self._received.put(job)
        self.closed.set()
        self._received.put(None)

    def jobs(self) -> Iterator[tuple[Job, dict[str, bytes]]]:
        """Wait for jobs; yield each with the archives of its interrupted runs."""
        while (plain := self._received.get()) and not self.closed.is_set():
            job = [Wanted(name, Config.model_validate(s), *rest) for name, s, *rest, _ in plain]
            yield job, {run: content for _, _, run, *_, content in plain if run is not None}

    def send(self, message: object) -> None:
        """Send a message; if the driver is gone, save the running members and end this process."""
        try:
            self._connection.send(message)
        except OSError:
            self.closed.set()

    def tell(self, event: Event) -> None:
        """Send an event without what the driver has, or does not need."""
        match event:
            case Started(member, _, _, directory, step):
                self.send(Begun(member, directory, step))
            case Chunk() | Epoch():
                self.send(event._replace(state=NO_STATE))
            case _:
                self.send(event)


@contextmanager
def _handing_over(
    runs: list[str], folder: Folder, line: _Line
) -> Iterator[Callable[[str | None], None]]:
    """Yield a function that sends one of some runs; the rest are sent at the end of the context."""

    def hand_over(run: str | None) -> None:
        if run in runs:
            runs.remove(run)
            if content := handover.pack(folder, run):
                line.send(Handed(run, content))
                folder.remove(run)

    try:
        yield hand_over
    finally:
        for run in [*runs]:
            hand_over(run)


def _task(known: Facts, device: jax.Device) -> Task:
    base = Config.model_validate(known.settings)
    task = Task(
        base,
        data.load(base.data),
        [device],
        streamed=False,
        watch=ignore,
        git_commit=lambda: known.git_commit,
        command=known.command,
    )
    if task.dataset.fingerprint != known.fingerprint:
        raise DataError(
            f"{base.data.source}: not the data that the study began with",
            hint="put back the old data, or begin another study",
        )
    return task


def _folder(known: Facts, opened: ExitStack) -> tuple[Folder, bool]:
    """Return the study's directory if this machine sees it, else a folder for its runs."""
    folder = Folder(Path(known.folder))
    with suppress(OSError):
        if folder.read(TOKEN, 100) == known.token:
            return folder, True
    return Folder(opened.enter_context(_scratch())), False


@contextmanager
def _scratch() -> Iterator[Path]:
    """Yield a folder for the runs of this worker; remove those of workers that were killed."""
    top = Path(gettempdir()) / f"vaectl-workers-{os.getuid()}"
    top.mkdir(mode=0o700, exist_ok=True)
    for other in top.glob("*.lock"):
        with suppress(Timeout, OSError), FileLock(other, timeout=0):
            shutil.rmtree(other.with_suffix(""), ignore_errors=True)
            other.unlink()
    folder = top / secrets.token_hex(8)
    lock = folder.with_suffix(".lock")
    with FileLock(lock):
        folder.mkdir()
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)
            lock.unlink(missing_ok=True)


def _sink(name: str, values: dict[str, Any]) -> Sink:
    found: Sink = plugins.named(Sink, name, "--log").model_validate(values)
    return found
