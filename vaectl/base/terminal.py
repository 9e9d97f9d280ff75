"""Text for a terminal, with control characters shown instead of executed."""

import contextlib
import io
import os
import sys
from collections.abc import Callable
from typing import Any, final

Tell = Callable[[str], None]
"""A function that is called with a description of work that takes long."""


def silent(text: str) -> None:
    """Say nothing."""


def visible(text: str) -> str:
    r"""Escape characters that would move the cursor, colour or reorder text, as in `\u001b`.

    Names of runs, values of configurations and messages may come from somebody else. Line ends and
    tabs are kept, and JSON keeps its meaning.
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in "\n\t" else _escaped(c) for c in text)


def _escaped(character: str) -> str:
    units = character.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[i : i + 2].hex()}" for i in range(0, len(units), 2))


def show(what: object, *, end: str = "\n") -> None:
    """Print to stdout."""
    print(visible(str(what)), end=end)


def say(text: str) -> None:
    """Print a line to stderr; a closed stderr is ignored, because a run must not fail over it."""
    if sys.stderr is not None:  # print would use stdout instead
        with contextlib.suppress(OSError):
            print(visible(text), file=sys.stderr, flush=True)


def secure_streams() -> None:
    """Open the standard streams that are closed, and let no write to stderr fail from now on.

    Otherwise a file of ours gets the descriptor of a closed stream, and a terminal that has gone
    away ends a training that only reports its progress.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            nothing = os.open(os.devnull, os.O_RDWR)  # the lowest free descriptor: its own
            os.set_inheritable(nothing, True)  # for workers, too
            setattr(sys, name, os.fdopen(nothing, mode, encoding="utf-8", closefd=False))
    sys.stderr = io.TextIOWrapper(
        io.BufferedWriter(Unfailing(sys.stderr.fileno(), "w", closefd=False)),
        encoding=sys.stderr.encoding,
        errors="backslashreplace",
        line_buffering=True,
    )


@final
class Unfailing(io.FileIO):
    """An open file that ignores what cannot be written, such as a terminal that has gone away."""

    def write(self, content: Any, /) -> int:
        """Write as much as possible, and report all of it as written."""
        with contextlib.suppress(OSError):
            return super().write(content) or len(content)  # None: it would block
        return len(content)
