"""Processes that compute for this one, each with CPU cores of its own.

A process begins anew, without what this one has imported: it takes its cores before a library
counts them, loads the files of `--plugin`, and only then imports the function that it runs.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Set
from multiprocessing import get_context
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path

from vaectl.base import plugins
from vaectl.base.interrupts import SIGNALS


def start(
    function: Callable[..., None], *arguments: object, cores: Set[int]
) -> tuple[BaseProcess, Connection]:
    """Start a process that calls `function(connection, *arguments)`.

    It ignores SIGINT and SIGTERM. A terminal sends them to this process as well, which decides.

    Args:
        function: of a module, so that it can be imported.
        arguments: anything that can be pickled.
        cores: numbers of CPU cores, which are all that the process may use.

    Returns:
        The process, and this end of the pipe to it.
    """
    context = get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(
        target=_begin, args=(theirs, frozenset(cores), plugins.files()), daemon=True
    )
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)  # the new process begins with it
    try:
        process.start()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    theirs.close()
    ours.send((function, arguments))
    return process, ours


def _begin(connection: Connection, cores: Set[int], files: list[Path]) -> None:
    os.sched_setaffinity(0, cores)
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
    for file in files:
        plugins.load_file(file)
    function, arguments = connection.recv()
    function(connection, *arguments)
