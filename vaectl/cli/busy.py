"""A progress indicator on stderr, which starts before the libraries of a command are loaded."""

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Protocol, TypeVar

from rich.console import Console

from vaectl.base.terminal import say, visible
from vaectl.cli.bar import progress

LOADING = "loading libraries"
"""The text that most commands show in their first second."""
_T = TypeVar("_T")


class Sign(Protocol):
    """Report what is being done, and, if known, how many of `total` things are done."""

    def __call__(self, what: str, done: float = 0, total: float | None = None) -> None:
        """Change what is shown."""


@contextmanager
def busy(
    what: str = "", *, quiet: bool = False, lines: bool = False, after: float = 0.0
) -> Iterator[Sign]:
    """Show what is being done: on a terminal a spinner, with a bar where the end is known.

    Print nothing to stdout within the context: it would appear on stderr.

    Args:
        what: the first task.
        quiet: show nothing.
        lines: print a line for each thing that begins, where there is no terminal.
        after: on a terminal, show nothing until a report comes at least this many seconds later.
    """
    console = Console(stderr=True, highlight=False)
    if quiet:
        yield _nothing
    elif console.is_terminal:
        with _bar(console, what, after) as tell:
            yield tell
    elif lines:
        tell = _lines()
        if what:
            tell(what)
        yield tell
    else:
        yield _nothing


def counted(things: Iterable[_T], total: int, what: str, tell: Sign) -> Iterator[_T]:
    """Yield things one by one, and report how many were yielded."""
    tell(what, 0, total)
    for done, thing in enumerate(things, 1):
        yield thing
        tell(what, done, total)


def _nothing(what: str, done: float = 0, total: float | None = None) -> None:
    """Show nothing."""


@contextmanager
def _bar(console: Console, what: str, after: float) -> Iterator[Sign]:
    bar = progress(console)
    task = bar.add_task(visible(what), total=None, numbers="")
    began = time.monotonic()

    def tell(what: str, done: float = 0, total: float | None = None) -> None:
        if time.monotonic() - began >= after:
            bar.start()
        numbers = "" if total is None else f"{done:g}/{total:g}"
        bar.update(task, description=visible(what), completed=done, total=total, numbers=numbers)

    try:
        if not after:
            bar.start()
        yield tell
    finally:
        bar.stop()


def _lines() -> Sign:
    last = ""

    def tell(what: str, done: float = 0, total: float | None = None) -> None:
        del done, total
        nonlocal last
        if what != last:
            say(what)
        last = what

    return tell
