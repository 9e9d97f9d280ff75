"""SIGINT and SIGTERM: a question that a loop asks between two pieces of work; else, the end."""

import contextlib
import os
import select
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from vaectl.base.errors import InterruptedRunError

SIGNALS = (signal.SIGINT, signal.SIGTERM)

Handler = Callable[[int, FrameType | None], object] | int | None


def leave_at_once() -> None:
    """Let both signals end the process from now on, without a traceback, by exit code 130.

    Nothing is lost by it: what counts on disk is whole at every moment.
    """
    for number in _heeded():
        signal.signal(number, _leave)


def ignore() -> None:
    """From now on neither signal does anything: all is done but for the end of Python itself."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def _heeded() -> dict[signal.Signals, Handler]:
    """The signals that were not left to be ignored, as `nohup` or a shell's `&` does."""
    handlers = {number: signal.getsignal(number) for number in SIGNALS}
    return {number: old for number, old in handlers.items() if old not in (signal.SIG_IGN, None)}


def _leave(_number: int, _frame: FrameType | None) -> None:
    words = b"error: interrupted\n"
    with contextlib.suppress(OSError):
        if sys.stderr is not None and select.select([], [2], [], 0)[1]:  # else it would wait
            # a bar that was being drawn hid the cursor
            os.write(2, (b"\033[?25h\n" if os.isatty(2) else b"") + words)
    os._exit(InterruptedRunError.exit_code)


@contextmanager
def asked_to_stop() -> Iterator[Callable[[], bool]]:
    """Take over both signals, and tell on request whether one has come.

    The first signal is noted and the old handlers are put back, so that a second one does what it
    always did: leave at once. An exception is never raised out of nowhere: within JAX it can end
    the process. Outside the main thread nothing is taken over, nor are signals that are ignored.
    """
    if threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return
    asked = False
    previous = _heeded()

    def restore() -> None:
        for number, handler in previous.items():
            signal.signal(number, handler)

    def note(_number: int, _frame: FrameType | None) -> None:
        nonlocal asked
        asked = True
        restore()

    for number in previous:
        signal.signal(number, note)
    try:
        yield lambda: asked
    finally:
        restore()
