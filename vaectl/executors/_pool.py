"""A pool of workers that train one member after another, wherever they are.

An executor says how many workers there may be, and how one is started; starting one returns a
`Hand`, the handle of that worker.
"""

from __future__ import annotations

import platform
import threading
import time
from abc import abstractmethod
from collections.abc import Callable, Iterable
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import Any, Protocol, final

from vaectl.base import errors, spawn, spent
from vaectl.base.errors import VaectlError
from vaectl.base.surroundings import processor
from vaectl.executors.base import Lost, Message, Surroundings
from vaectl.members import handover, worker
from vaectl.members.job import Done, Job, Wanted
from vaectl.members.worker import Handed, Ready, Unable
from vaectl.runs.record import Device
from vaectl.training.events import Warned

MOMENT = 0.2
"""Seconds to wait for a message before checking for a signal."""
PATIENCE = 60.0
"""Seconds in which a worker that is asked to stop saves its member."""
GRACE = 5.0
"""Seconds to wait for a worker that should end at once."""


class Hand(Protocol):
    """A worker, as the driver sees it."""

    @abstractmethod
    def send(self, message: bytes) -> None:
        """Send a message.

        Raises:
            OSError: the worker has ended, which `receive` tells as well.
        """

    @abstractmethod
    def receive(self) -> bytes:
        """Wait for a message, in a thread that does nothing else.

        Raises:
            EOFError: the worker has ended.
            VaectlError: it cannot be started.
        """

    @abstractmethod
    def end(self) -> None:
        """End the worker at once, if it has not ended; `receive` then raises."""

    @abstractmethod
    def how(self) -> str:
        """Say how it ended."""


@final
class _Worker:
    """A worker, and what it trains."""

    def __init__(self, hand: Hand, told: SimpleQueue[tuple[_Worker, Any]]) -> None:
        self.hand = hand
        self.members: dict[str, Wanted] = {}
        """The members that it trains, by name."""
        self.ready: Ready | None = None
        """Its message when it began to wait for jobs."""
        self.ended = threading.Event()
        self._asked = False
        threading.Thread(target=self._listen, args=(told,), daemon=True).start()

    def _listen(self, told: SimpleQueue[tuple[_Worker, Any]]) -> None:
        try:
            while True:
                told.put((self, spawn.unpacked(self.hand.receive())))
        except (EOFError, OSError):
            pass
        except Exception as error:
            told.put((self, spawn.failure(error)))
        self.ended.set()
        told.put((self, None))

    def send(self, message: object) -> None:
        """Send a message; if the worker was just killed, its end is noticed later."""
        with suppress(OSError):
            self.hand.send(spawn.packed(message))

    def stop(self) -> None:
        """Ask it to save what it trains, and to end."""
        if not self._asked:
            self._asked = True
            self.send(None) if self.ready else self.hand.end()

    def leave(self, deadline: float) -> None:
        """Wait until it has ended, and end it at the deadline."""
        self.ended.wait(max(deadline - time.monotonic(), 0.0))
        self.hand.end()


@final
class Pool:
    """Workers, of which each trains one member at a time."""

    most = 1

    def __init__(
        self, surroundings: Surroundings, threads: int, most: Callable[[], int], start: Any
    ) -> None:
        self._surroundings, self._threads = surroundings, threads
        self._most: Callable[[], int] = most
        self._start: Callable[[], Hand] = start
        self._workers: list[_Worker] = []
        self._told: SimpleQueue[tuple[_Worker, Any]] = SimpleQueue()
        self._error: VaectlError | RuntimeError | None = None
        """The error of a job; it is raised after all other running members are saved."""
        self._patience = PATIENCE
        self._deadline: float | None = None
        """The time at which workers that were asked to stop are ended."""
        self._processors = {processor()}
        """The kinds of processors of this machine and of workers."""

    @property
    def room(self) -> int:
        """The number of workers that have nothing to do, or can be started."""
        if self._leaving:
            return 0
        try:
            most = self._most()
        except VaectlError:  # no worker can be reached
            self._patience = 0.0
            raise
        return max(most - sum(bool(each.members) for each in self._workers), 0)

    @property
    def place(self) -> Device:
        """This machine, with a worker's number of threads."""
        return {**self._surroundings.task.place, "cpu_threads": self._threads}

    @property
    def _leaving(self) -> bool:
        return bool(self._error) or self._surroundings.stopping()

    def submit(self, job: Job) -> None:
        """Give a job to a worker that waits, or to a new one."""
        idle = self._idle
        if not idle:
            for each in self._workers:
                if each.ended.is_set():  # and has not been noticed: what it held is free
                    each.hand.end()
            idle = [_Worker(self._start(), self._told)]
            self._workers += idle
        self._give(idle[0], {wanted.name: wanted for wanted in job})

    def receive(self) -> Message | None:
        """Wait for a message of a job, or for a moment."""
        if self._leaving:
            busy = [each for each in self._workers if each.members]
            # results that are on their way are still taken
            if not busy or time.monotonic() > self._stop(busy):
                raise self._error or KeyboardInterrupt
        try:
            with spent.on("waiting for workers"):
                told, message = self._told.get(timeout=MOMENT)
        except Empty:
            self._share()
            return None
        return self._read(told, message)

    @property
    def _idle(self) -> list[_Worker]:
        """The workers that have nothing to do; those that wait for a job first."""
        idle = [each for each in self._workers if not each.members and not each.ended.is_set()]
        return sorted(idle, key=lambda each: each.ready is None)

    def _share(self) -> None:
        """Give idle workers the jobs of workers that have not started, and may never start."""
        late = [each for each in self._workers if each.members and not each.ready]
        for one, other in zip(late, [each for each in self._idle if each.ready], strict=False):
            members, one.members = one.members, {}
            self._give(other, members)

    def _give(self, chosen: _Worker, members: dict[str, Wanted]) -> None:
        chosen.members = members
        if chosen.ready:
            self._send_job(chosen)

    def _read(self, told: _Worker, message: Any) -> Message | None:
        match message:
            case None:
                return self._lost(told)
            case Ready():
                told.ready = message
                if told.members:
                    self._send_job(told)
                return self._unlike(message)
            case Handed(run, content):
                aside = handover.unpack(content, self._surroundings.folder, run)
                text = f"{run} is there, and not of a sealed trial: renamed to {aside}"
                return Warned(text) if aside else None
            case Unable(why):
                lost, told.members = [*told.members], {}
                told.ended.set()  # nothing more is given to it
                told.hand.end()
                return Lost(lost, f"{_on(told.ready)}{why}")
            case {"kind": kind, "message": text, "hint": hint}:
                told.members = {}
                self._error = self._error or _error(kind, f"{_on(told.ready)}{text}", hint)
                return None
            case Done(member):
                del told.members[member]
        dataset = self._surroundings.task.dataset
        found: Message = worker.received(message, told.members, dataset)
        return found

    def _send_job(self, chosen: _Worker) -> None:
        assert chosen.ready  # noqa: S101  # the callers know
        job, folder = [*chosen.members.values()], self._surroundings.folder
        chosen.send(worker.plain(job, folder, shared=chosen.ready.shared))

    def _unlike(self, ready: Ready) -> Warned | None:
        """Warn of a worker whose last bits may differ, once for each kind."""
        if ready.processor in self._processors:
            return None
        known = ", ".join(sorted(self._processors))
        self._processors.add(ready.processor)
        return Warned(
            f"the worker on {ready.host} has another processor ({ready.processor}, not {known}): "
            "the last bits of its members may differ"
        )

    def _lost(self, told: _Worker) -> Lost | None:
        """Give up a worker that has ended; another one takes its place when there is a job."""
        self._workers.remove(told)
        told.hand.end()
        if not told.members or self._leaving:
            told.members = {}
            return None
        return Lost([*told.members], f"its worker ended: {_on(told.ready)}{told.hand.how()}")

    def _stop(self, workers: Iterable[_Worker]) -> float:
        """Ask workers to stop; return the time at which those that have not are ended."""
        for each in workers:
            each.stop()
        if self._deadline is None:
            self._deadline = time.monotonic() + self._patience
        return self._deadline

    def close(self) -> None:
        """Have every worker save its member, and end."""
        deadline = self._stop(self._workers)
        for each in self._workers:
            each.leave(deadline)
        for each in self._workers:
            each.ended.wait(max(deadline + GRACE - time.monotonic(), 0.0))
        while not self._told.empty():  # after an error; else all have been read
            _, message = self._told.get()
            if isinstance(message, Handed):
                handover.unpack(message.content, self._surroundings.folder, message.run)


def _on(ready: Ready | None) -> str:
    """Name the machine of a worker if it is another one."""
    return f"on {ready.host}: " if ready and ready.host != platform.node() else ""


def _error(kind: str, text: str, hint: str) -> VaectlError | RuntimeError:
    error: VaectlError | RuntimeError
    error = getattr(errors, kind)(text, hint=hint) if kind else RuntimeError(text)
    return error
