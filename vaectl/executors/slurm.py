"""The executor `slurm`: workers that are Slurm jobs, submitted by submitit.

A job is a worker that serves one member after another, so that a study waits in the queue, starts
Python and compiles once for each worker, not for each member. It connects back to this process by
TCP, with a secret that submitit writes into the job's file. The connection carries jobs, events and
results, and its end tells each side that the other is gone. When a job comes to the end of its
time, its member is saved, and goes on in the next job.
"""

from __future__ import annotations

import secrets
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from multiprocessing import AuthenticationError
from multiprocessing.connection import (
    Connection,
    Listener,
    answer_challenge,
    deliver_challenge,
)
from tempfile import TemporaryDirectory
from typing import Any, ClassVar, Literal, final

import jax
from pydantic import Field

from vaectl.base import far, plugins, spawn
from vaectl.base.errors import ConfigError
from vaectl.executors._pool import GRACE, Hand, Pool
from vaectl.executors.base import Executor, Surroundings
from vaectl.members import worker
from vaectl.members.places import unwritable
from vaectl.runs import environment

LOGS = ".slurm"
"""The folder, in a study's directory, of the jobs' files; it stays after a failure."""
POLL = 0.5
"""Seconds between questions to submitit whether a job has ended."""


@final
class Slurm(Executor, name="slurm"):
    """Train in Slurm jobs, each a worker that trains one member after another.

    The command waits for its jobs: start it on a login node in tmux, or in a small job of its own.
    """

    needs: ClassVar[tuple[str, ...]] = ("submitit",)
    argument: ClassVar[str] = "partition"

    partition: str = ""
    """The partition of jobs; empty for the cluster's default."""
    workers: int = Field(4, ge=1, le=10_000)
    """The number of jobs at once."""
    cores: int = Field(1, ge=1, le=1024)
    """CPU cores, and threads, of each worker."""
    memory: float = Field(4.0, gt=0)
    """GiB of each worker."""
    minutes: int = Field(240, ge=1)
    """Time of a job; a member that takes longer goes on in the next job."""
    account: str = ""
    """The account that pays; empty for the user's default."""
    options: dict[str, str | int | bool] = Field({})
    """Other options of sbatch, like {constraint: avx512}."""
    host: str = ""
    """The name of this machine as jobs reach it; empty for its full name."""
    system: Literal["slurm", "local", "debug"] = "slurm"
    """slurm; or, for trials without a cluster, submitit's local processes or its debugger."""

    @property
    def processes(self) -> int:
        """The number of workers on this machine: none, except with `system` local or debug."""
        return 1 if self.system == "slurm" else self.workers

    @property
    def at_once(self) -> int | None:
        """The number of jobs."""
        return self.workers

    def check(self, device: jax.Device) -> None:
        """Refuse a GPU, and a machine without Slurm.

        Raises:
            ConfigError: submitit or Slurm is not installed, or the device is a GPU.
        """
        self.check_installed()
        self._check_cpu(device)
        with TemporaryDirectory() as folder:
            self._executor(folder)

    @contextmanager
    def open(self, surroundings: Surroundings) -> Iterator[Pool]:
        """Open a pool; a job is submitted when there is something to train."""
        task, folder, sinks, _ = surroundings
        try:
            with suppress(FileNotFoundError):
                folder.remove(LOGS)
            folder.folder(LOGS).make()
        except OSError as error:
            raise unwritable(error) from None
        executor = self._executor(str(folder.folder(LOGS).path.absolute() / "%j"))
        with worker.facts(task, folder, sinks) as facts, _Switchboard(self._host) as board:
            call = spawn.packed(spawn.call(worker.work, facts))
            versions = {**environment.versions(), **plugins.packages()}
            order = far.Order(versions, self.cores, call)
            jobs: list[_Job] = []

            def start() -> Hand:
                jobs.append(_Job(executor, board, order))
                return jobs[-1]

            with closing(Pool(surroundings, self.cores, lambda: self.workers, start)) as pool:
                yield pool
        deadline = time.monotonic() + GRACE
        for job in jobs:
            job.gone.wait(max(deadline - time.monotonic(), 0))
        if not board.failed:
            with suppress(OSError):  # a job that is just ending may still write there
                folder.remove(LOGS)

    @property
    def _host(self) -> str:
        return self.host or ("127.0.0.1" if self.system != "slurm" else socket.getfqdn())

    def _executor(self, folder: str) -> Any:
        """Return submitit's executor."""
        import cloudpickle  # which submitit brings
        import submitit

        cloudpickle.register_pickle_by_value(far)
        try:
            executor = submitit.AutoExecutor(folder, cluster=self.system)
            common = {"name": "vaectl", "timeout_min": self.minutes, "cpus_per_task": self.cores}
            own = {"partition": self.partition, "account": self.account}
            if self.system == "slurm":
                own = {f"slurm_{key}": value for key, value in own.items() if value}
                more = {"slurm_additional_parameters": self.options} if self.options else {}
                executor.update_parameters(mem_gb=self.memory, **common, **own, **more)
            else:
                executor.update_parameters(**common)
        except (RuntimeError, ValueError, NameError) as error:
            raise ConfigError(
                f"--executor slurm: {error}",
                hint="start the command where sbatch is; system=local tries it without a cluster",
            ) from None
        return executor


@final
class _Switchboard:
    """Takes connections of jobs that know the secret, and keeps each until it is asked for."""

    def __init__(self, host: str) -> None:
        self.key = secrets.token_bytes(32)
        self.host = host
        self._listener: Listener
        self._closed = threading.Event()
        self._changed = threading.Condition()
        self._lines: dict[int, Connection] = {}
        self._number = 0
        self.failed: list[str] = []
        """The jobs that failed, whose logs are kept."""

    def __enter__(self) -> _Switchboard:
        """Listen on a free port.

        Raises:
            ConfigError: this machine has no such address.
        """
        try:
            place = "127.0.0.1" if self.host == "127.0.0.1" else "0.0.0.0"  # noqa: S104
            self._listener = Listener((place, 0), backlog=128)
        except OSError as error:
            raise ConfigError(
                f"--executor slurm: cannot listen for jobs on {self.host}: {error.strerror}",
                hint="give the name of this machine as jobs reach it: host=NAME",
            ) from None
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closed.set()
        self._listener.close()
        with self._changed:
            for line in self._lines.values():
                line.close()

    @property
    def address(self) -> tuple[str, int]:
        """The address that jobs connect to."""
        address: Any = self._listener.address
        return self.host, address[1]

    def number(self) -> int:
        """Return the number of the next job."""
        self._number += 1
        return self._number

    def wait(self, number: int, seconds: float) -> Connection | None:
        """Wait for the connection of a job."""
        with self._changed:
            self._changed.wait_for(lambda: number in self._lines, seconds)
            return self._lines.pop(number, None)

    def _accept(self, listener: Listener) -> None:
        while not self._closed.is_set():
            try:
                line = listener.accept()
            except OSError:  # closed; or a job hung up, or too many files are open for a moment
                self._closed.wait(POLL)
                continue
            # a silent connection must not block the others
            threading.Thread(target=self._admit, args=(line,), daemon=True).start()

    def _admit(self, line: Connection) -> None:
        try:
            deliver_challenge(line, self.key)
            answer_challenge(line, self.key)
            far.keep_alive(line)
            number = line.recv()
        except (AuthenticationError, EOFError, OSError):
            line.close()
            return
        with self._changed:
            self._lines[number] = line
            self._changed.notify_all()


@final
class _Job(Hand):
    """A job, and the connection that it opens when it begins."""

    def __init__(self, executor: Any, board: _Switchboard, order: far.Order) -> None:
        self._board = board
        self._number = board.number()
        self._line: Connection | None = None
        self._over = False
        """True once its connection has ended, or it is no longer needed."""
        self.gone = threading.Event()
        """Set once the job has ended."""
        self._job = executor.submit(far.call_back, board.address, board.key, self._number, order)
        threading.Thread(target=self._follow, daemon=True).start()

    def send(self, message: bytes) -> None:
        if self._line:
            self._line.send_bytes(message)

    def receive(self) -> bytes:
        while self._line is None:
            self._line = self._board.wait(self._number, POLL)
            if self._line is None and (self._over or self.gone.is_set()):
                raise EOFError
        try:
            return self._line.recv_bytes()
        except (EOFError, OSError):
            self._over = True
            raise

    def end(self) -> None:
        if not self._over:  # else it ends by itself
            self._over = True
            with suppress(Exception):  # Slurm may not answer
                self._job.cancel()
            if self._line:
                far.hang_up(self._line)

    def how(self) -> str:
        self._board.failed.append(self._job.job_id)
        return f"job {self._job.job_id} ended; its log: {self._job.paths.stderr}"

    def _follow(self) -> None:
        """Watch for a job that ends without a connection; submitit's debugger runs it here."""
        with suppress(Exception):
            while not self._job.done():
                time.sleep(POLL)
        self.gone.set()
