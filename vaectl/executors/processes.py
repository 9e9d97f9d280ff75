"""The executor `processes`: workers on this machine, each with CPU cores of its own.

A worker is a process that reads the data and compiles once, and then trains one member after
another. Small members do not keep several cores busy: two workers with one core each train two
members faster than one worker with both cores.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import ClassVar, final

import jax
from pydantic import Field

from vaectl.base import cores as own_cores
from vaectl.base import spawn
from vaectl.base.errors import ConfigError
from vaectl.base.plural import plural
from vaectl.executors._pool import Hand, Pool
from vaectl.executors.base import Executor, Surroundings
from vaectl.members import worker


@final
class Processes(Executor, name="processes"):
    """Train one member in each of several processes, which divide the CPU cores."""

    argument: ClassVar[str] = "count"

    count: int = Field(2, ge=1, le=1024)
    """The number of processes."""

    @property
    def processes(self) -> int:
        """The number of processes."""
        return self.count

    def check(self, device: jax.Device) -> None:
        """Refuse fewer cores than processes, a GPU, and a system without CPU affinity.

        Raises:
            ConfigError: there are too few cores, the system has no CPU affinity, or the device is a
                GPU.
        """
        what = f"--executor processes:{self.count}"
        self._check_cpu(
            device,
            "there members train together in one process: leave --executor out, or add "
            "--device cpu",
        )
        own_cores.check(what)
        cores = len(own_cores.usable())
        if self.count > cores:
            raise ConfigError(
                f"{what}: this process may use {plural(cores, 'CPU core')}",
                hint=f"--executor processes:{cores}" if cores > 1 else "leave it out",
            )

    @contextmanager
    def open(self, surroundings: Surroundings) -> Iterator[Pool]:
        """Open a pool; a process is started when there is a job for it."""
        cores = sorted(own_cores.usable())
        each = len(cores) // self.count
        idle = [{*cores[i * each : (i + 1) * each]} for i in range(self.count)]
        task, folder, sinks, _ = surroundings
        with worker.facts(task, folder, sinks) as facts:
            call = spawn.call(worker.work, facts)

            def start() -> Hand:
                return _Process(call, idle)

            with closing(Pool(surroundings, each, lambda: self.count, start)) as pool:
                yield pool


@final
class _Process(Hand):
    """A process of this machine."""

    def __init__(self, call: spawn.Call, idle: list[set[int]]) -> None:
        self._idle, self._cores = idle, idle.pop(0)
        """The cores of no process, and those of this one until it has ended."""
        self._process: BaseProcess
        self._pipe: Connection
        self._process, self._pipe = spawn.start(call, self._cores)

    def send(self, message: bytes) -> None:
        self._pipe.send_bytes(message)

    def receive(self) -> bytes:
        return self._pipe.recv_bytes()

    def end(self) -> None:
        if self._cores:
            self._process.kill()
            self._process.join()
            self._idle.append(self._cores)
            self._cores = set()

    def how(self) -> str:
        return spawn.how_it_ended(self._process)
