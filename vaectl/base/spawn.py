"""Processes that compute for this one, each with CPU cores of its own.

A process starts without the modules of this one: it takes its cores before a library counts them,
loads the files of `--plugin`, and only then imports the function that it runs.
"""

from __future__ import annotations

import os
import signal
import traceback
from collections.abc import Callable, Iterator, Set
from contextlib import ExitStack, contextmanager, suppress
from multiprocessing import get_context
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from multiprocessing.reduction import ForkingPickler
from pathlib import Path
from tempfile import gettempdir
from typing import Any, NamedTuple

from filelock import FileLock, Timeout

from vaectl.base import cores as own_cores
from vaectl.base import plugins, surroundings
from vaectl.base.errors import ConfigError, VaectlError
from vaectl.base.interrupts import SIGNALS


class Call(NamedTuple):
    """A call of a function by another process, of this machine or of another one."""

    content: bytes
    """The function and its arguments, which may need the files."""
    files: list[plugins.File]
    variables: dict[str, str]
    """Variables of the environment that may change the last bits of results."""
    directory: str
    """The current directory."""


def call(function: Callable[..., None], *arguments: object) -> Call:
    """Describe a call of `function(connection, *arguments)`.

    Args:
        function: defined in a module, so that the other process can import it.
        arguments: anything that can be pickled.
    """
    variables = {k: v for k, v in os.environ.items() if surroundings.is_recorded(k)}
    return Call(packed((function, arguments)), plugins.files(), variables, os.fspath(Path.cwd()))


def packed(message: object) -> bytes:
    """Return a message as bytes, as a pipe between processes carries it."""
    return bytes(ForkingPickler.dumps(message))


def unpacked(content: bytes) -> Any:
    """Return the message that a process of ours has packed."""
    return ForkingPickler.loads(content)


def start(what: Call, cores: Set[int]) -> tuple[BaseProcess, Connection]:
    """Start a process.

    It ignores SIGINT, SIGTERM and SIGHUP. A terminal also sends them to this process, which then
    decides when to stop the other one.

    Args:
        what: the call.
        cores: the numbers of the CPU cores that the process may use.

    Returns:
        The process, and this end of the pipe to it.
    """
    context = get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_begin, args=(theirs, frozenset(cores), what), daemon=True)
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)  # the new process begins with it
    try:
        process.start()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    theirs.close()
    return process, ours


def how_it_ended(process: BaseProcess) -> str:
    """Say how a process ended."""
    code = process.exitcode
    if code is not None and code < 0:
        return f"killed by {signal.Signals(-code).name}"
    return f"exit code {code}"


def failure(error: BaseException) -> dict[str, str]:
    """Describe an error in plain text, for another process."""
    if isinstance(error, VaectlError):
        return {"kind": type(error).__name__, "message": error.message, "hint": error.hint}
    text = "".join(traceback.format_exception(error))
    return {"kind": "", "message": text, "hint": ""}


@contextmanager
def claimed(count: int) -> Iterator[set[int]]:
    """Take CPU cores of this machine that no other worker of this user has taken.

    If all are taken, for example by another study, they are shared.

    Raises:
        ConfigError: this process may use fewer, or this system cannot keep a process to some.
    """
    own_cores.check("a worker")
    usable = sorted(own_cores.usable())
    if count > len(usable):
        raise ConfigError(
            f"a worker takes {count} cores, and may use {len(usable)} on this machine",
            hint="ask for fewer with cores=N",
        )
    folder = Path(gettempdir()) / f"vaectl-cores-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    cores: set[int] = set()
    with ExitStack() as held:
        for core in usable:
            if len(cores) < count:
                with suppress(Timeout):
                    held.enter_context(FileLock(folder / f"{core}.lock", timeout=0))
                    cores.add(core)
        rest = [core for core in usable if core not in cores]
        yield cores | {*rest[: count - len(cores)]}


def _begin(connection: Connection, cores: Set[int], what: Call) -> None:
    os.setsid()  # a signal to the parent's group, as Ray sends it, must not end this one
    own_cores.take(cores)
    for number in (*SIGNALS, signal.SIGUSR2):  # SIGUSR2: the time of a job is nearly over
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
    with suppress(OSError):  # another machine may not have it
        os.chdir(what.directory)
    surroundings.settle()
    for name in filter(surroundings.is_recorded, [*os.environ]):
        del os.environ[name]
    os.environ.update(what.variables)
    try:
        for file in what.files:
            plugins.load(file)
    except VaectlError as error:
        with suppress(OSError):
            connection.send(failure(error))
        return
    function, arguments = unpacked(what.content)
    function(connection, *arguments)
