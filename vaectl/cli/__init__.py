"""The command line: parses, calls one function, prints. Nothing imports it."""

import os
import sys

# isort: off: importing registers commands, in the order in which the help lists them
from vaectl.cli import (  # noqa: F401  # noqa: F401
    bench,
    compare,
    config,
    data,
    evaluate,
    look,
    runs,
    train,
)

# isort: on
from vaectl.cli.app import Tracebacks, app
from vaectl.errors import VaectlError

CLOSED_PIPE = 141
"""What a shell says of a command that SIGPIPE ended."""


def main() -> None:
    """Run the command line; the one place where errors become messages and exit codes."""
    try:
        try:
            _run()
        finally:
            print(end="", flush=True)  # else a short answer meets a closed pipe as Python exits
    except (BrokenPipeError, SystemExit) as error:
        # Typer and Rich make an exit of it, with 1
        if BrokenPipeError not in (type(error), type(error.__context__)):
            raise
        # who read it, `head` perhaps, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        sys.exit(CLOSED_PIPE)


def _run() -> None:
    try:
        app()
    except VaectlError as error:
        if Tracebacks.shown:
            raise
        first, *more = error.message.splitlines()
        lines = [f"error: {first}", *(f"       {line}" for line in more)]
        if error.hint:
            lines.append(f"try:   {error.hint}")
        print("\n".join(lines), file=sys.stderr)
        sys.exit(error.exit_code)
