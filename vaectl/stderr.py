"""Words on stderr, which nobody need be there to read: what is said is not worth a run."""

import os
import sys


def say(text: str) -> None:
    """Print a line to stderr, or to nobody if whoever read it is gone."""
    try:
        if sys.stderr is not None:  # print would take stdout for it
            print(text, file=sys.stderr, flush=True)
    except OSError:
        # what could not be written waits for Python's exit, which would fail of it
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
