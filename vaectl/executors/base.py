"""The protocol of executors: what trains the members of a study.

An executor opens a pool. The pool takes jobs while it has room, and reports their events. Only the
pool knows where jobs are computed; its caller plans them and keeps the results.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import ClassVar, NamedTuple, Protocol, runtime_checkable

import jax

from vaectl.base.errors import ConfigError
from vaectl.base.files import Folder
from vaectl.base.plugs import Plug
from vaectl.config import options
from vaectl.experiment import Task
from vaectl.members.job import Done, Job, Wanted
from vaectl.runs.record import Device
from vaectl.sinks.base import Sink
from vaectl.training.events import Event


class Lost(NamedTuple):
    """Members of a job that ended without a result, because their worker did."""

    members: Sequence[str]
    why: str


Message = Event | Done | Lost


class Surroundings(NamedTuple):
    """The environment of a pool: data, directory and sinks of the study."""

    task: Task
    """The data and the device."""
    folder: Folder
    """The folder in which members leave their runs."""
    sinks: Sequence[Sink]
    """The sinks, each of which follows the members that leave a run."""
    stopping: Callable[[], bool]
    """Tells whether a signal has asked to stop."""


class Pool(Protocol):
    """A pool of workers. When its context is left, running members are saved and stopped."""

    most: int
    """The most members of a job."""

    @property
    def room(self) -> int:
        """The number of jobs that it would begin at once."""

    @property
    def place(self) -> Device:
        """The hardware and software of a worker, which last bits depend on."""

    def submit(self, job: Job) -> None:
        """Take a job."""

    def receive(self) -> Message | None:
        """Wait for a message of a job; None when nothing happened for a moment.

        Raises:
            KeyboardInterrupt: asked to stop.
            VaectlError: a job failed; what other jobs did until then is kept.
        """


@runtime_checkable
class Foreseeing(Protocol):
    """A pool that prepares for what comes next, as pools need not do."""

    def expect(self, wanted: Wanted) -> None:
        """Prepare for a member that probably trains next."""


class Executor(Plug, kind="executor"):
    """Settings, and how a pool is opened."""

    spreads: ClassVar[bool] = False
    """True if it uses all devices of the task."""

    @property
    def processes(self) -> int:
        """The number of members that train at once on this machine, each with its own memory."""
        return 1

    @property
    def at_once(self) -> int | None:
        """The number of members that train at once, in separate workers; None if unknown."""
        return self.processes

    def check(self, device: jax.Device) -> None:
        """Refuse a device or a machine on which it cannot work, before anything is computed.

        Raises:
            ConfigError: this machine or the device does not have what it needs.
        """

    def _check_cpu(self, device: jax.Device, hint: str = "add --device cpu") -> None:
        if device.platform != "cpu":
            raise ConfigError(
                f"--executor {self.name}: its workers train on CPU cores, and the device is a "
                f"{device.platform.upper()}",
                hint=hint,
            )

    @abstractmethod
    def open(self, surroundings: Surroundings) -> AbstractContextManager[Pool]:
        """Open a pool of workers."""


def default() -> Executor:
    """Return the executor of a command that names none: this process."""
    executor: Executor = Executor.known["local"]()
    return executor


def parse(text: str) -> Executor:
    """Read an executor as `--executor` has it: see `vaectl.config.options`."""
    executor: Executor = options.parse(Executor, text, "--executor")
    return executor
