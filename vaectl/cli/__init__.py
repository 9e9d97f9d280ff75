"""The command line: parses, calls one function, prints. Nothing imports it."""

import errno
import io
import os
import sys

from vaectl.base import surroundings
from vaectl.base.errors import ConfigError, VaectlError
from vaectl.base.terminal import say

# isort: off: importing registers commands, in the order in which the help lists them
from vaectl.cli import (  # noqa: F401
    bench,
    compare,
    config,
    data,
    evaluate,
    export_log,
    look,
    runs,
    train,
)

# isort: on
from vaectl.cli.app import Tracebacks, app

CLOSED_PIPE = 141
"""What a shell says of a command that SIGPIPE ended."""
LOST = (errno.EPIPE, errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)
"""What writing to stdout ends in."""
FEW_FILES = (errno.EMFILE, errno.ENFILE)
"""This process, or all together, may open no more."""


def main() -> None:
    """Run the command line; the one place where errors become messages and exit codes."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # not every file's name is text
    try:
        try:
            _run()
        finally:
            print(end="", flush=True)  # else a short answer meets a closed pipe as Python exits
    except (OSError, SystemExit) as error:
        # Typer and Rich make an exit of a closed pipe, with 1
        cause = error.__context__ if isinstance(error, SystemExit) else error
        if not isinstance(cause, OSError) or cause.filename or cause.errno not in LOST:
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        if cause.errno == errno.EPIPE:
            sys.exit(CLOSED_PIPE)  # who read it, `head` perhaps, has seen enough
        sys.exit(f"error: stdout: cannot be written: {cause.strerror}")


def _run() -> None:
    try:
        surroundings.check_files()
        _check_text(sys.argv)
        app()
    except Exception as reason:
        error = _told(reason)
        if error is None or Tracebacks.shown:
            raise
        first, *more = error.message.splitlines()
        lines = [f"error: {first}", *(f"       {line}" for line in more)]
        if error.hint:
            lines.append(f"try:   {error.hint}")
        say("\n".join(lines))
        sys.exit(error.exit_code)


def _told(reason: Exception) -> VaectlError | None:
    """What a user can mend of an error; None if that is nothing, and it is a bug."""
    # NumPy's and JAX's ways to say it; an estimate may be short, or others may fill the memory
    if isinstance(reason, MemoryError) or "RESOURCE_EXHAUSTED" in str(reason):
        first = (str(reason).strip().splitlines() or [""])[0]
        return ConfigError(
            f"the memory is full: {first}",
            hint="lower batch_size, objective.samples or model.hidden_size",
        )
    if isinstance(reason, OSError) and reason.errno in FEW_FILES:
        return ConfigError(
            f"{reason.filename or 'vaectl'}: {reason.strerror}", hint=surroundings.MORE_FILES
        )
    return reason if isinstance(reason, VaectlError) else None


def _check_text(arguments: list[str]) -> None:
    """Refuse bytes that are no text: config.yaml, run.json and titles could not hold them."""
    try:
        "".join(arguments).encode()
    except UnicodeEncodeError:
        raise ConfigError(
            "an argument is not UTF-8 text", hint="give the file another name"
        ) from None
