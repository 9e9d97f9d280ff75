"""The command line: each command parses its arguments, calls one function, and prints."""

import errno
import io
import os
import sys

from vaectl.base import surroundings
from vaectl.base.errors import ConfigError, VaectlError, first_line
from vaectl.base.terminal import say

# importing registers commands, in the order of the help
# isort: off
from vaectl.cli import train, demo, compare, sweep, look, evaluate, verify  # noqa: F401
from vaectl.cli import diagnose, explore, export, import_, runs, config, data  # noqa: F401
from vaectl.cli import export_log, bench  # noqa: F401

# isort: on
from vaectl.cli.app import Tracebacks, app

CLOSED_PIPE = 141
"""The exit code of a command that SIGPIPE ended."""
LOST = (errno.EPIPE, errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)
"""Errors of writing to stdout."""
FEW_FILES = (errno.EMFILE, errno.ENFILE)
"""Errors of opening too many files, in this process or in the system."""


def main() -> None:
    """Run the command line, and turn errors into messages and exit codes."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a file name may not be text
    try:
        try:
            _run()
        finally:
            print(end="", flush=True)  # a closed pipe is an error here, not at Python's exit
    except (OSError, SystemExit) as error:
        # Typer and Rich turn a closed pipe into an exit with code 1
        cause = error.__context__ if isinstance(error, SystemExit) else error
        if not isinstance(cause, OSError) or cause.filename or cause.errno not in LOST:
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        if cause.errno == errno.EPIPE:
            sys.exit(CLOSED_PIPE)  # the reader, such as `head`, has stopped reading
        sys.exit(f"error: stdout: cannot be written: {cause.strerror}")


def _run() -> None:
    try:
        surroundings.check_files()
        _check_text(sys.argv)
        app(prog_name="vaectl")
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
    """Convert an exception into an error that the user can fix; return None for a bug."""
    # NumPy and JAX raise these if an estimate was too low, or other programs fill the memory
    if isinstance(reason, MemoryError) or "RESOURCE_EXHAUSTED" in str(reason):
        return ConfigError(
            f"the memory is full: {first_line(reason)}",
            hint="lower batch_size, objective.samples or model.hidden_size",
        )
    if "UNIMPLEMENTED" in str(reason) and "BF16" in str(reason):
        return ConfigError(
            "XLA lacks a product in bfloat16 that this model needs on this device",
            hint="--set model.precision=float32",
        )
    if isinstance(reason, OSError) and reason.errno in FEW_FILES:
        return ConfigError(
            f"{reason.filename or 'vaectl'}: {reason.strerror}", hint=surroundings.MORE_FILES
        )
    return reason if isinstance(reason, VaectlError) else None


def _check_text(arguments: list[str]) -> None:
    """Refuse arguments that are not text, which config.yaml and run.json cannot contain."""
    try:
        "".join(arguments).encode()
    except UnicodeEncodeError:
        raise ConfigError("an argument is not UTF-8 text", hint="rename the file") from None
