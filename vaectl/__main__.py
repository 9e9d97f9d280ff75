"""The process: `vaectl`, and `python -m vaectl`."""

import os
import sys

from vaectl.base import surroundings


def main() -> None:
    """Free the process of its surroundings, answer signals, then run the command line.

    Other modules are imported here and not above: before `settle`, a file in the current directory
    could stand in for any of them.
    """
    surroundings.settle()
    asked = os.environ.get("_VAECTL_COMPLETE", "")
    if asked.startswith("complete_"):  # by a shell's script: the word at the cursor, and fast
        from vaectl import completion

        sys.exit(completion.answer(asked))
    from vaectl.base.interrupts import ignore, leave_at_once

    leave_at_once()
    if sys.stderr is None:  # else a file of ours would be the second, into which libraries complain
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    from vaectl import cli
    from vaectl.runs.quiet import silence_orbax

    silence_orbax()  # until the process has ended
    try:
        cli.main()
    finally:
        ignore()


if __name__ == "__main__":
    main()
