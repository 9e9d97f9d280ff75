"""The command line: parses, calls one function, prints. Nothing imports it."""

import sys

# isort: off: importing registers commands, in the order in which the help lists them
from vaectl.cli import (  # noqa: F401  # noqa: F401
    bench,
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


def main() -> None:
    """Run the command line; the one place where errors become messages and exit codes."""
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
