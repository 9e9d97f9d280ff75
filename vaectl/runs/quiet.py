"""Suppression of messages of libraries about writes that failed."""

from __future__ import annotations

import contextlib
import logging
import sys
import threading
import warnings
from collections.abc import Callable, Iterator


def silence_orbax() -> Callable[[], None]:
    """Silence what Orbax prints about a write that failed: it raises the same error.

    It logs a traceback; it drops coroutines and tasks that nobody awaits, which the garbage
    collector finds later; and it closes its event loop while TensorStore, whose other writes end
    later, still calls into it.

    Returns:
        A function that restores the former settings of this process.
    """
    loggers = [logging.getLogger(name) for name in ("absl", "asyncio")]
    levels = [logger.level for logger in loggers]
    hook = sys.unraisablehook
    filters = warnings.catch_warnings()
    filters.__enter__()
    warnings.filterwarnings("ignore", "coroutine .* was never awaited", RuntimeWarning)
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)

    def show(unraisable: sys.UnraisableHookArgs) -> None:
        if str(unraisable.exc_value) != "Event loop is closed":
            hook(unraisable)

    sys.unraisablehook = show

    def restore() -> None:
        sys.unraisablehook = hook
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
        filters.__exit__(None, None, None)

    return restore


def silence_matplotlib() -> None:
    """Silence what Matplotlib says if it cannot keep its list of fonts, and makes it each time."""
    logging.getLogger("matplotlib").setLevel(logging.ERROR)


_LOCK = threading.Lock()
_open: list[Callable[[], None]] = []
"""The function that restores the settings, once for each open context."""


@contextlib.contextmanager
def quiet_orbax() -> Iterator[None]:
    """Silence Orbax within a context; later messages need `silence_orbax` for the whole process.

    The settings belong to the process: of several contexts, as of trainings in threads, the first
    one changes them, and the last one to be left restores them.
    """
    with _LOCK:
        _open.append(_open[0] if _open else silence_orbax())
    try:
        yield
    finally:
        with _LOCK:
            restore = _open.pop()
            if not _open:
                restore()
