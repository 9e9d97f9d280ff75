"""Text for a terminal: whatever a name holds, it is shown, and changes nothing else."""

import os
import sys


def visible(text: str) -> str:
    r"""Write what would move the cursor, colour or reorder text as `\u001b` and the like.

    Names of runs, values of configurations and messages may come from somebody else. Line ends and
    tabs stay. JSON stays the same JSON.
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
    """Print a line to stderr; a closed stderr is ignored, since a message is not worth a run."""
    try:
        if sys.stderr is not None:  # print would take stdout for it
            print(visible(text), file=sys.stderr, flush=True)
    except OSError:
        # what could not be written waits for Python's exit, which would fail of it
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
