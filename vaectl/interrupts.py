"""SIGINT and SIGTERM: a question that a loop asks between two pieces of work; else, the end."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import final

from vaectl.errors import InterruptedRunError
from vaectl.stderr import say

SIGNALS = (signal.SIGINT, signal.SIGTERM)


def leave_at_once() -> None:
    """From now on both signals end the process: no traceback, wherever it is, and exit code 130.

    Nothing is lost by it: what counts on disk is whole at every moment.
    """
    for number in SIGNALS:
        signal.signal(number, _leave)


def _leave(_number: int, _frame: FrameType | None) -> None:
    say("error: interrupted")
    os._exit(InterruptedRunError.exit_code)


@final
class Stopping:
    """Whether a signal has asked to stop: what a loop asks between two pieces of work."""

    def __init__(self) -> None:
        self._asked = self._at_once = False

    def __call__(self) -> bool:
        """Say it."""
        return self._asked

    def ask(self) -> None:
        """Take note of a signal."""
        self._asked = True
        if self._at_once:
            raise KeyboardInterrupt

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """Within, a signal raises KeyboardInterrupt: for work that leaves nothing to save."""
        if self._asked:
            raise KeyboardInterrupt
        self._at_once = True
        try:
            yield
        finally:
            self._at_once = False


@contextmanager
def asked_to_stop() -> Iterator[Stopping]:
    """Take over both signals, and tell on request whether one has come.

    The first signal is noted and the old handlers are put back, so that a second one does what it
    always did: leave at once. Outside the main thread nothing is taken over.
    """
    stopping = Stopping()
    if threading.current_thread() is not threading.main_thread():
        yield stopping
        return
    previous = {number: signal.getsignal(number) for number in SIGNALS}

    def restore() -> None:
        for number, handler in previous.items():
            signal.signal(number, handler)

    def note(_number: int, _frame: FrameType | None) -> None:
        restore()
        stopping.ask()

    for number in SIGNALS:
        signal.signal(number, note)
    try:
        yield stopping
    finally:
        restore()
