"""Text for a terminal, with control characters shown instead of executed."""

import os
import sys
from collections.abc import Callable

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
    try:
        if sys.stderr is not None:  # print would use stdout instead
            print(visible(text), file=sys.stderr, flush=True)
    except OSError:
        # Python would write the rest at its exit, and fail
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
