"""The executor `processes`: workers on this machine, each with CPU cores of its own.

A worker is a process that reads the data and compiles once, and then trains one member after
another. Small members leave one of several cores idle, so that two workers with a core each train
two members in less time than one worker with both cores takes for two.
"""

from __future__ import annotations

import os
import signal
import threading
import traceback
from collections.abc import Iterator, Sequence, Set
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection, wait
from pathlib import Path
from queue import SimpleQueue
from typing import Any, ClassVar, NamedTuple, final

import jax
from pydantic import Field

from vaectl import data
from vaectl.base import devices, errors, spawn
from vaectl.base.errors import ConfigError, DataError, VaectlError
from vaectl.base.files import Folder
from vaectl.config.schema import Config
from vaectl.executors.base import Executor, Lost, Message, Surroundings
from vaectl.experiment import Task
from vaectl.follow import follow
from vaectl.members import job as jobs
from vaectl.members.job import Done, Job, Wanted
from vaectl.runs.quiet import quiet_orbax
from vaectl.runs.record import Device
from vaectl.sinks.base import Sink
from vaectl.training.events import Event, Started, ignore
from vaectl.training.fit import Chunk, Epoch
from vaectl.training.program import TrainState

MOMENT = 0.2
"""Seconds to wait for a message before a signal is looked for."""
PATIENCE = 60.0
"""Seconds in which a worker that is asked to stop saves its member."""
NO_STATE = TrainState({}, (), None)  # type: ignore[arg-type]
"""The state of an event that has left its process."""


@final
class Processes(Executor, name="processes"):
    """Train one member in each of so many processes, which share out the CPU cores."""

    argument: ClassVar[str] = "count"

    count: int = Field(2, ge=1, le=1024)
    """The number of processes."""

    @property
    def processes(self) -> int:
        """The number of processes."""
        return self.count

    def check(self, device: jax.Device) -> None:
        """Refuse fewer cores than processes, and a GPU.

        Raises:
            ConfigError: there are too few cores, or the device is a GPU.
        """
        what = f"--executor processes:{self.count}"
        if device.platform != "cpu":
            raise ConfigError(
                f"{what}: the processes share out CPU cores, and the device is a "
                f"{device.platform.upper()}",
                hint="there members train together in one process: leave --executor out, or add "
                "--device cpu",
            )
        cores = len(os.sched_getaffinity(0))
        if self.count > cores:
            raise ConfigError(
                f"{what}: this process may use {cores} CPU core{'s' * (cores > 1)}",
                hint=f"--executor processes:{cores}" if cores > 1 else "leave it out",
            )

    @contextmanager
    def open(self, surroundings: Surroundings) -> Iterator[_Pool]:
        """Start the processes; when the context is left, they have ended."""
        cores = sorted(os.sched_getaffinity(0))
        each = len(cores) // self.count
        shares = [{*cores[i * each : (i + 1) * each]} for i in range(self.count)]
        pool = _Pool(shares, surroundings)
        try:
            yield pool
        finally:
            pool.close()


class _Begun(NamedTuple):
    """The event `Started`, without the data and the settings, which the receiver has."""

    member: str
    directory: Any
    step: int


class _Failed(NamedTuple):
    """An error that ends a job."""

    kind: str
    message: str
    hint: str


@final
class _Worker:
    """A process, and what it trains."""

    def __init__(self, cores: Set[int], surroundings: Surroundings) -> None:
        task, folder, sinks, _ = surroundings
        settings = task.settings.model_dump(mode="json")
        self.cores = cores
        self.process, self.connection = spawn.start(
            _work,
            settings,
            task.dataset.fingerprint,
            folder.path.absolute(),
            list(sinks),
            cores=cores,
        )
        self.members: dict[str, Wanted] = {}
        """Those under way, by name."""

    def submit(self, job: Job) -> None:
        """Send a job."""
        self.members = {wanted.name: wanted for wanted in job}
        # a configuration's classes are made anew in each process
        plain = [(w.name, w.settings.model_dump(mode="json"), w.run, w.until) for w in job]
        with suppress(OSError):  # if it was killed just now, its end is noticed later
            self.connection.send(plain)

    def stop(self) -> None:
        """Ask it to save what it trains, and to end."""
        with suppress(OSError):
            self.connection.send(None)


@final
class _Pool:
    most = 1

    def __init__(self, shares: Sequence[Set[int]], surroundings: Surroundings) -> None:
        self._surroundings = surroundings
        self._threads = len(shares[0])
        self._idle = list(shares)
        """The cores that a worker is started for when there is a job."""
        self._workers: list[_Worker] = []
        self._error: VaectlError | RuntimeError | None = None
        """The error of a job: what else was under way is saved before it is raised."""

    @property
    def room(self) -> int:
        if self._error or self._surroundings.stopping():
            return 0
        return len(self._idle) + sum(not worker.members for worker in self._workers)

    @property
    def place(self) -> Device:
        return {**self._surroundings.task.place, "cpu_threads": self._threads}

    def submit(self, job: Job) -> None:
        for worker in [w for w in self._workers if not w.members]:
            if worker.process.is_alive():
                break
            self._leave(worker)  # killed while it had nothing to do
        else:
            worker = _Worker(self._idle.pop(0), self._surroundings)
            self._workers.append(worker)
        worker.submit(job)

    def receive(self) -> Message | None:
        leaving = bool(self._error) or self._surroundings.stopping()
        busy = {worker.connection: worker for worker in self._workers if worker.members}
        if leaving and not busy:
            raise self._error or KeyboardInterrupt
        if leaving:  # results that are on their way are still taken
            for worker in busy.values():
                worker.stop()
        for connection in wait(list(busy), MOMENT):
            assert isinstance(connection, Connection)  # noqa: S101  # of the pipes above
            worker = busy[connection]
            try:
                return self._read(worker, connection.recv())
            except (EOFError, OSError):
                lost = self._lost(worker)
                return None if leaving else lost
        return None

    def _read(self, worker: _Worker, message: Any) -> Message | None:
        match message:
            case Done(member):
                del worker.members[member]
            case _Begun(member, directory, step):
                settings, dataset = worker.members[member].settings, self._surroundings.task.dataset
                return Started(member, settings, dataset, directory, step)
            case _Failed(kind, text, hint):
                worker.members = {}
                error = getattr(errors, kind)(text, hint=hint) if kind else RuntimeError(text)
                self._error = self._error or error
                return None
        found: Message = message
        return found

    def _lost(self, worker: _Worker) -> Lost:
        """Tell of the members of a worker whose process has ended."""
        self._leave(worker)
        return Lost([*worker.members], f"its process ended: {_how(worker.process.exitcode)}")

    def _leave(self, worker: _Worker) -> None:
        """Give up a worker; another one takes its place when there is a job."""
        worker.process.join()
        worker.connection.close()
        self._workers.remove(worker)
        self._idle.append(worker.cores)

    def close(self) -> None:
        """Have every worker save its member, and end."""
        for worker in self._workers:
            worker.connection.close()
        for worker in self._workers:
            worker.process.join(PATIENCE)
            worker.process.kill()
            worker.process.join()


def _how(code: int | None) -> str:
    if code is not None and code < 0:
        return f"killed by {signal.Signals(-code).name}"
    return f"exit code {code}"


def _work(
    connection: Connection,
    settings: dict[str, Any],
    fingerprint: str,
    folder: Path,
    sinks: list[Sink],
) -> None:
    """Train jobs until the other side closes the pipe: the life of a worker."""
    received: SimpleQueue[Any] = SimpleQueue()
    closed = threading.Event()

    def listen() -> None:
        with suppress(EOFError, OSError):
            while (job := connection.recv()) is not None:
                received.put(job)
        closed.set()
        received.put(None)

    def send(message: object) -> None:
        try:
            connection.send(message)
        except OSError:  # the other side is gone: what trains is saved, and then this ends
            closed.set()

    def tell(message: Event | Done) -> None:
        match message:
            case Started(member, _, _, directory, step):
                send(_Begun(member, directory, step))
            case Chunk() | Epoch():
                send(message._replace(state=NO_STATE))
            case _:
                send(message)

    threading.Thread(target=listen, daemon=True).start()
    try:
        device = devices.select("cpu")
        base = Config.model_validate(settings)
        task = Task(base, data.load(base.data), device, streamed=False, watch=ignore)
        if task.dataset.fingerprint != fingerprint:
            raise DataError(
                f"{base.data.source}: the data were changed while the comparison ran",
                hint="put back the old data, or begin another comparison",
            )
        with quiet_orbax(), jax.default_device(device), follow(sinks, tell) as watch:
            while (job := received.get()) and not closed.is_set():
                wanted = [Wanted(name, Config.model_validate(s), *rest) for name, s, *rest in job]
                for message in jobs.train(wanted, task, Folder(folder), closed.is_set):
                    tell(message) if isinstance(message, Done) else watch(message)
    except KeyboardInterrupt:
        return  # asked to stop, and saved
    except VaectlError as error:
        send(_Failed(type(error).__name__, error.message, error.hint))
    except BaseException:
        send(_Failed("", traceback.format_exc(), ""))
