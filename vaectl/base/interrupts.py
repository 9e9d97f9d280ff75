"""Handlers of signals that ask to stop: stop between two steps of a loop, or end the process.

SIGINT   Ctrl-C
SIGTERM  `kill`, a scheduler, a shutdown
SIGHUP   the terminal is gone: a closed window, a lost connection
"""

import contextlib
import os
import select
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from types import FrameType

from vaectl.base.errors import InterruptedRunError

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

Handler = Callable[[int, FrameType | None], object] | int | None

_INTERRUPTED = "error: interrupted"


def leave_at_once() -> None:
    """Let these signals end the process from now on, with exit code 130 and no traceback.

    Nothing is lost: files on disk are complete at every moment.
    """
    for number in _heeded():
        signal.signal(number, partial(_leave, lambda: _INTERRUPTED))


@contextmanager
def leaving(kept: Callable[[], str]) -> Iterator[None]:
    """Let these signals end the process at once within this context, as `leave_at_once` does.

    Args:
        kept: returns what the message says after "interrupted".
    """
    previous = _heeded()
    for number in previous:
        signal.signal(number, partial(_leave, lambda: f"{_INTERRUPTED}; {kept()}"))
    try:
        yield
    finally:
        _restore(previous)


def ignore() -> None:
    """Ignore these signals from now on, while Python exits after all work is done."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def _heeded() -> dict[signal.Signals, Handler]:
    """Return the handlers of the signals that are not ignored (as under `nohup`)."""
    handlers = {number: signal.getsignal(number) for number in SIGNALS}
    return {number: old for number, old in handlers.items() if old not in (signal.SIG_IGN, None)}


def _restore(handlers: Mapping[signal.Signals, Handler]) -> None:
    for number, handler in handlers.items():
        signal.signal(number, handler)


def _leave(words: Callable[[], str], _number: int, _frame: FrameType | None) -> None:
    with contextlib.suppress(OSError):
        if sys.stderr is not None and select.select([], [2], [], 0)[1]:  # else it might block
            # a progress bar hides the cursor: show it again
            os.write(2, (b"\033[?25h\n" if os.isatty(2) else b"") + f"{words()}\n".encode())
    os._exit(InterruptedRunError.exit_code)


@contextmanager
def asked_to_stop() -> Iterator[Callable[[], bool]]:
    """Handle these signals, and yield a function that says whether one has arrived.

    The first signal is only noted, and the old handlers are restored, so that a second one ends the
    process at once; but each SIGHUP is only noted, since the shell and the system may both send one
    when a terminal is closed. No exception is raised in the middle of other code, because within
    JAX it can abort the process. Outside the main thread nothing is handled, nor are ignored
    signals.
    """
    if threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return
    asked = False
    previous = _heeded()

    def note(_number: int, _frame: FrameType | None) -> None:
        nonlocal asked
        asked = True
        _restore({each: old for each, old in previous.items() if each != signal.SIGHUP})

    for number in previous:
        signal.signal(number, note)
    try:
        yield lambda: asked
    finally:
        _restore(previous)
