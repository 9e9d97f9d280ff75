"""The process: `vaectl`, and `python -m vaectl`."""

import gc
import os
import sys
from typing import Any

from vaectl.base import surroundings

OBJECTS = 500_000
"""Objects before garbage is collected for the first time: importing JAX makes 250,000 that stay."""


def main() -> None:
    """Isolate the process from its environment, handle signals, then run the command line.

    Other modules are imported here and not above: before `settle`, a file in the current directory
    could stand in for any of them.
    """
    surroundings.settle()
    asked = os.environ.get("_VAECTL_COMPLETE", "")
    if asked.startswith("complete_"):  # a completion script asks for the word at the cursor
        from vaectl import completion

        sys.exit(completion.answer(asked))
    from vaectl.base.interrupts import ignore, leave_at_once
    from vaectl.base.terminal import secure_streams

    secure_streams()
    leave_at_once()
    _collect_garbage_later()
    from vaectl import cli
    from vaectl.runs.quiet import silence_matplotlib, silence_orbax

    silence_orbax()  # until the process has ended
    silence_matplotlib()
    try:
        cli.main()
    finally:
        ignore()
        gc.freeze()  # else Python looks through all objects as it exits, for half a second


def _collect_garbage_later() -> None:
    """Postpone garbage collection until after the start, a tenth of whose time it would take."""
    usual = gc.get_threshold()

    def begun(*_: Any) -> None:
        gc.callbacks.remove(begun)
        gc.set_threshold(*usual)

    gc.set_threshold(OBJECTS)
    gc.callbacks.append(begun)


if __name__ == "__main__":
    main()
