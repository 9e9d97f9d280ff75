"""The executor `local`: this process."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import final

import jax

from vaectl.base import spent
from vaectl.executors.base import Executor, Foreseeing, Message, Pool, Surroundings
from vaectl.follow import follow
from vaectl.members import job as jobs
from vaectl.members.job import Done, Job, Wanted
from vaectl.runs.record import Device
from vaectl.training.events import Event, Phase, Watch
from vaectl.training.program import Program


@final
class Local(Executor, name="local"):
    """Train in this process: members of one job in turn on a CPU, together on an accelerator."""

    spreads = True

    @contextmanager
    def open(self, surroundings: Surroundings) -> Iterator[Pool]:
        """Open a pool of one worker, which trains while the caller waits for messages."""
        told: deque[Message] = deque()
        device = surroundings.task.device
        with (
            jax.default_device(device),
            ThreadPoolExecutor(1) as compiler,
            follow(surroundings.sinks, told.append) as tell,
        ):
            pool = _Local(surroundings, told, tell, compiler)
            try:
                yield pool
            finally:
                pool.close()
                if pool.compiles:
                    surroundings.task.watch(Phase("waiting for the compiler, which cannot stop"))


@final
class _Local(Pool, Foreseeing):
    """A worker that is this process. While it trains, a thread compiles what trains next."""

    most = 2**32

    def __init__(
        self,
        surroundings: Surroundings,
        told: deque[Message],
        tell: Watch,
        compiler: ThreadPoolExecutor,
    ) -> None:
        self._surroundings, self._told, self._tell = surroundings, told, tell
        self._compiler = compiler
        self._job: Generator[Event | Done, None, None] | None = None
        self._members = 0
        """The members of the job that have not ended."""
        self._compiling: Future[None] | None = None
        self._expected: Program | None = None
        """The program that compiles, or was compiled last, in the thread."""

    @property
    def room(self) -> int:
        return int(self._job is None)

    @property
    def place(self) -> Device:
        return self._surroundings.task.place

    @property
    def compiles(self) -> bool:
        """True while the thread compiles."""
        return self._compiling is not None and not self._compiling.done()

    def submit(self, job: Job) -> None:
        task, folder, _, stopping = self._surroundings
        if self._compiling and self._expected == jobs.of(job[0], task).program:
            with spent.on("compilation"):
                self._compiling.exception()  # waits; the job meets an error itself
        self._job, self._members = jobs.train(job, task, folder, stopping), len(job)

    def expect(self, wanted: Wanted) -> None:
        task = self._surroundings.task
        program = jobs.of(wanted, task).program
        if program != self._expected:
            self._expected = program
            self._compiling = self._compiler.submit(jobs.compile_ahead, wanted, task)

    def receive(self) -> Message | None:
        if not self._told and self._job:
            message = next(self._job)
            if isinstance(message, Done):
                self._told.append(message)
                self._members -= 1
                if not self._members:
                    self.close()
            else:
                self._tell(message)
        return self._told.popleft() if self._told else None

    def close(self) -> None:
        """End the job; a member that trains saves its best state, and its run says so."""
        if self._job:
            self._job.close()
        self._job = None
