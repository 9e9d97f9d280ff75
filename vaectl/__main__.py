"""The process: `vaectl`, and `python -m vaectl`."""

import os
import sys

from vaectl.interrupts import ignore, leave_at_once


def main() -> None:
    """Answer signals before anything is imported that takes time, then run the command line."""
    leave_at_once()
    if sys.stderr is None:  # else a file of ours would be the second, into which libraries complain
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    from vaectl import cli

    try:
        cli.main()
    finally:
        ignore()


if __name__ == "__main__":
    main()
