"""Start a worker on another machine, and pass messages on between it and the driver.

The source of this module is sent to that machine, which may have another vaectl or none. So it
imports nothing of vaectl before it has compared the versions.
"""

from __future__ import annotations

import os
import platform
import signal
import socket
import sys
import threading
from contextlib import ExitStack, suppress
from importlib import metadata
from multiprocessing.connection import Client
from multiprocessing.reduction import ForkingPickler
from typing import Any, NamedTuple


class Order(NamedTuple):
    """A request for a worker on another machine."""

    versions: dict[str, str]
    """The versions of this machine, which the other one must have too: `vaectl`, `python`,
    packages."""
    cores: int
    call: bytes
    """A packed `vaectl.base.spawn.Call`."""


def differences(versions: dict[str, str]) -> list[str]:
    """List the packages of which this machine has another version."""
    found = {"python": platform.python_version(), "vaectl": _version_of_vaectl()}
    found |= {name: _version(name) for name in versions if name not in found}
    return [
        f"{name} {found[name]} instead of {version}"
        for name, version in versions.items()
        if found[name] != version
    ]


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "none"


def _version_of_vaectl() -> str:
    try:
        from vaectl.version import VERSION
    except ImportError:
        return "none"
    return VERSION


class Relay:
    """A worker's process on this machine, and the pipe to it."""

    def __init__(self, versions: dict[str, str], cores: int, call: bytes) -> None:
        self._open = ExitStack()
        self._process: Any = None
        self._waiting: list[bytes] = []
        try:
            self._start(versions, cores, call)
        except Exception as error:
            kind, hint = "ConfigError", getattr(error, "hint", "")
            failed = {"kind": kind if hint else "", "message": str(error), "hint": hint}
            self._waiting.append(bytes(ForkingPickler.dumps(failed)))

    def _start(self, versions: dict[str, str], cores: int, call: bytes) -> None:
        if other := differences(versions):
            failed = {
                "kind": "ConfigError",
                "message": f"the worker on {platform.node()} has {', '.join(other)}",
                "hint": "install the same versions there as here: results depend on them",
            }
            self._waiting.append(bytes(ForkingPickler.dumps(failed)))
            return
        main = vars(sys.modules["__main__"])
        if str(main.get("__file__")).endswith("default_worker.py"):
            del main["__file__"]  # a new process would load this file again, and with it all of Ray
        from vaectl.base import spawn

        taken = self._open.enter_context(spawn.claimed(cores))
        self._process, self._pipe = spawn.start(spawn.unpacked(call), taken)

    def send(self, message: bytes) -> None:
        """Pass a message on to the worker, if it has not ended."""
        if self._process:
            with suppress(OSError):
                self._pipe.send_bytes(message)

    def receive(self) -> tuple[list[bytes], str]:
        """Wait for messages; if there are none, the worker has ended, and the text says how."""
        found, self._waiting = self._waiting, []
        if found or not self._process:
            return found, "it was refused"
        with suppress(EOFError, OSError):
            found.append(self._pipe.recv_bytes())
            while self._pipe.poll():
                found.append(self._pipe.recv_bytes())
        if found:
            return found, ""
        from vaectl.base import spawn

        self._process.join()
        self._open.close()
        return found, spawn.how_it_ended(self._process)


def keep_alive(line: Any) -> None:
    """Let the system detect that the machine at the other end of a connection is gone."""
    with socket.socket(fileno=os.dup(line.fileno())) as end:
        end.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, seconds in (("TCP_KEEPIDLE", 60), ("TCP_KEEPINTVL", 10), ("TCP_KEEPCNT", 6)):
            if hasattr(socket, name):
                end.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), seconds)


def hang_up(line: Any) -> None:
    """End a connection, also for a thread that waits for a message."""
    with suppress(OSError), socket.socket(fileno=os.dup(line.fileno())) as end:
        end.shutdown(socket.SHUT_RDWR)


def call_back(address: tuple[str, int], key: bytes, number: int, order: Order) -> str:
    """Serve a driver that waits for a connection; return how the worker ended."""
    with Client(address, authkey=key) as line, ExitStack() as ended:
        ended.callback(hang_up, line)
        keep_alive(line)
        line.send(number)
        relay = Relay(*order)
        stop = bytes(ForkingPickler.dumps(None))

        def listen() -> None:
            with suppress(EOFError, OSError):
                while True:
                    relay.send(line.recv_bytes())
            relay.send(stop)  # the driver is gone: what trains is saved

        threading.Thread(target=listen, daemon=True).start()
        if threading.current_thread() is threading.main_thread():
            for name in (signal.SIGUSR2, signal.SIGTERM, signal.SIGINT):  # its time is nearly over
                signal.signal(name, lambda *_: relay.send(stop))
        while True:
            messages, how = relay.receive()
            if not messages:
                return f"{how} on {platform.node()} (process {os.getpid()})"
            with suppress(OSError):
                for message in messages:
                    line.send_bytes(message)
