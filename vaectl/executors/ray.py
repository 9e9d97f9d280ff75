"""The executor `ray`: workers on the machines of a Ray cluster, or of a new one on this machine.

A worker is a process that a Ray actor starts and passes messages to. Ray only places actors and
tells when one has died; it restarts nothing, since the study itself counts tries. When an
actor dies, or the driver does, the process behind it saves its member, and ends.
"""

from __future__ import annotations

import logging
import os
import re
import secrets
import socket
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from typing import Any, ClassVar, final

import jax
from pydantic import Field

from vaectl.base import cores as own_cores
from vaectl.base import far, plugins, spawn
from vaectl.base.errors import ConfigError, RunError
from vaectl.base.patience import within
from vaectl.executors._pool import GRACE, Hand, Pool
from vaectl.executors.base import Executor, Surroundings
from vaectl.members import worker
from vaectl.runs import environment

ANSWER = 3.0
"""Seconds in which a machine must accept a connection."""
CONNECT = 5.0
"""Seconds in which a cluster must admit this process."""
CANCELLED = "the cluster cancelled it before it began; its machine may be gone"
MOST_CANCELLED = 3
"""The number of cancelled workers, before any has begun, from which the cause is reported."""
_BEGUN = "a cluster of vaectl: "
_HOLD = f"""
import logging, os, sys, ray
ray.init(address="local", num_cpus=int(sys.argv[1]), include_dashboard=False, log_to_driver=False,
         logging_level=logging.ERROR)
print({_BEGUN!r} + ray.get_runtime_context().gcs_address, flush=True)
for number in (1, 2):
    os.dup2(os.open(os.devnull, os.O_WRONLY), number)
sys.stdin.read()
ray.shutdown()
"""
"""A program that keeps a new cluster running until its input ends."""
_KEPT = {"RAY_kill_child_processes_on_worker_exit": "0"}
"""Lets the process behind a dying actor save its member."""


@final
class Ray(Executor, name="ray"):
    """Train on a Ray cluster, HOST:PORT or auto; without an address on a new one of this machine.

    Each worker takes `cores` CPU cores, and trains one member after another.
    """

    needs: ClassVar[tuple[str, ...]] = ("ray",)
    argument: ClassVar[str] = "address"

    address: str = Field("", pattern=r"^(|auto|[^\s/,]+:\d{1,5})$")
    """The HOST:PORT of a cluster, or auto for the cluster of this machine; empty for a new one."""
    cores: int = Field(1, ge=1, le=1024)
    """CPU cores, and threads, of each worker."""
    workers: int | None = Field(None, ge=1, le=10_000)
    """The number of workers; null: as many as the cluster has cores for."""

    @property
    def processes(self) -> int:
        """The number of workers on this machine: all those of a new cluster."""
        most = max(len(own_cores.usable()) // self.cores, 1)
        return 1 if self.address else min(self.workers or most, most)

    @property
    def at_once(self) -> int | None:
        """The number of workers; None if only the cluster knows."""
        return self.workers if self.address else self.processes

    def check(self, device: jax.Device) -> None:
        """Refuse a GPU, a cluster that cannot be reached, and one that cannot start here.

        Raises:
            ConfigError: Ray is not installed, the device is a GPU, the cluster does not answer, or
                this machine has too few cores or no CPU affinity.
        """
        self.check_installed()
        self._check_cpu(device)
        if ":" in self.address:
            try:
                _knock(self.address)
            except (OSError, OverflowError) as error:
                raise ConfigError(
                    f"--executor ray:{self.address}: the cluster does not answer: {error}",
                    hint="ray status shows the address of a cluster; ray start --head starts one",
                ) from None
        elif not self.address:
            own_cores.check("--executor ray")
            most = len(own_cores.usable())
            if self.cores > most:
                raise ConfigError(
                    f"--executor ray: a worker takes {self.cores} cores, and this process may use "
                    f"{most}",
                    hint="ask for fewer with cores=N, or name the address of a cluster",
                )

    @contextmanager
    def open(self, surroundings: Surroundings) -> Iterator[Pool]:
        """Open a pool; a worker is started when there is a job for it."""
        task, folder, sinks, _ = surroundings
        with self._cluster() as ray, worker.facts(task, folder, sinks) as facts:
            call = spawn.packed(spawn.call(worker.work, facts))
            versions = {**environment.versions(), **plugins.packages()}
            order = far.Order(versions, self.cores, call)
            ray.cloudpickle.register_pickle_by_value(far)
            admission = _Admission(ray)
            actor = ray.remote(far.Relay).options(
                num_cpus=self.cores,
                max_restarts=0,
                max_task_retries=0,
                max_concurrency=2,  # one call waits for messages, while another sends one
                runtime_env={"env_vars": _KEPT},
            )
            with closing(
                Pool(
                    surroundings,
                    self.cores,
                    _Room(ray, self.cores, self.workers),
                    lambda: _Actor(ray, actor.remote(*order), admission),
                )
            ) as pool:
                yield pool

    @contextmanager
    def _cluster(self) -> Iterator[Any]:
        """Connect to the cluster, or start one, which ends when the context is left.

        Raises:
            ConfigError: the cluster refuses, or has no machine for a worker.
        """
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        if not self.address and "RAY_AUTH_MODE" not in os.environ:
            # the new cluster is for this process alone; before Ray reads them
            os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
        import ray

        # Ray writes what it knows of dead workers to stderr, whatever `log_to_driver` says
        ray._private.worker._worker_logs_enabled = False
        if ray.is_initialized():  # a program that uses vaectl as a library has connected already
            yield ray
            return
        with ExitStack() as started:
            address = self.address or started.enter_context(_new_cluster())
            yield started.enter_context(self._connected(ray, address))

    @contextmanager
    def _connected(self, ray: Any, address: str) -> Iterator[Any]:
        options: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
        logging.getLogger("ray").setLevel(logging.ERROR)
        try:
            within(CONNECT, lambda: ray.init(address=address, **options))
            if not _Room(ray, self.cores, None)():
                raise ConfigError(
                    f"--executor ray:{self.address}: no machine of the cluster has {self.cores} "
                    "CPU cores",
                    hint="ask for fewer with cores=N",
                )
        except ConfigError:
            ray.shutdown()
            raise
        except Exception as error:
            with suppress(Exception):
                ray.shutdown()
            raise self._refused(error) from None
        try:
            yield ray
        finally:
            ray.shutdown()  # a cluster that this process did not start goes on

    def _refused(self, error: Exception) -> ConfigError:
        text = " ".join(str(error).split())
        hint = (
            "ray status shows whether the cluster is well; if it asks for a token, set "
            "RAY_AUTH_MODE=token, and RAY_AUTH_TOKEN or RAY_AUTH_TOKEN_PATH"
        )
        if "Version mismatch" in text:
            hint = "use the Python and the Ray of the cluster"
        where = f"--executor ray{':' * bool(self.address)}{self.address}"
        return ConfigError(f"{where}: {text[:500]}", hint=hint)


def _knock(address: str) -> None:
    """Look whether somebody answers at HOST:PORT."""
    host, _, port = address.rpartition(":")
    socket.create_connection((host.strip("[]"), int(port)), ANSWER).close()


@contextmanager
def _new_cluster() -> Iterator[str]:
    """Start a cluster on this machine, and yield its address; it ends when the context is left.

    A process of its own holds it, which ends it when this one is gone, killed or not.
    """
    cores = len(own_cores.usable())
    with subprocess.Popen(  # noqa: S603  # a fixed command
        [sys.executable, "-P", "-c", _HOLD, str(cores)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,  # Ctrl-C is for this process
        text=True,
    ) as holder:
        assert holder.stdin  # noqa: S101  # they are pipes
        assert holder.stdout  # noqa: S101
        try:
            said = []
            for line in holder.stdout:
                said.append(line.strip())
                if line.startswith(_BEGUN):
                    yield line.removeprefix(_BEGUN).strip()
                    return
            raise ConfigError(
                f"--executor ray: Ray does not start here: {' '.join(said)[-500:]}",
                hint="does ray start --head work? --executor processes:N needs no Ray",
            )
        finally:
            holder.stdin.close()
            try:
                holder.wait(GRACE * 4)
            except subprocess.TimeoutExpired:
                holder.kill()


@final
class _Room:
    """The number of workers that the cluster has cores for, as machines come and go."""

    def __init__(self, ray: Any, cores: int, most: int | None) -> None:
        self._ray, self._cores, self._most = ray, cores, most
        self._asked, self._found = 0.0, 0

    def __call__(self) -> int:
        if time.monotonic() > self._asked + 1:
            self._check()
            cores = [n["Resources"].get("CPU", 0) for n in self._ray.nodes() if n["Alive"]]
            self._found = int(sum(each // self._cores for each in cores))
            self._asked = time.monotonic()
        return min(self._found, self._most or self._found)

    def _check(self) -> None:
        """Look whether the cluster is there, before Ray waits for it and ends this process."""
        address = self._ray.get_runtime_context().gcs_address
        try:
            _knock(address)
        except OSError as error:
            raise RunError(
                f"the Ray cluster at {address} is gone: {error}",
                hint="what was done is kept; the same command goes on with another --executor, or "
                "once there is a cluster",
            ) from None


@final
class _Admission:
    """Detects that the cluster never lets workers of this command begin."""

    def __init__(self, ray: Any) -> None:
        self._ray = ray
        self._cancelled = 0
        self.begun = False
        """True once one has begun."""

    def refuse(self) -> None:
        """Count a worker that was cancelled before it began, perhaps because its machine is gone.

        Raises:
            ConfigError: none ever begins, and no machine has gone.
        """
        self._cancelled += 1
        if self.begun or self._cancelled < MOST_CANCELLED:
            return
        if all(node["Alive"] for node in self._ray.nodes()):
            raise ConfigError(
                "--executor ray: the cluster cancels workers before they begin, perhaps because "
                "its authentication differs from that of this command",
                hint="set RAY_AUTH_MODE to that of the cluster, token or disabled, and "
                "RAY_AUTH_TOKEN to its token",
            )


@final
class _Actor(Hand):
    """An actor, which passes messages to a process of its machine."""

    def __init__(self, ray: Any, actor: Any, admission: _Admission) -> None:
        self._ray, self._actor, self._admission = ray, actor, admission
        self._messages: deque[bytes] = deque()
        self._how = ""
        self._ended = False

    def send(self, message: bytes) -> None:
        self._actor.send.remote(message)

    def receive(self) -> bytes:
        if not self._messages:
            try:
                found, self._how = self._ray.get(self._actor.receive.remote())
            except self._ray.exceptions.RayError as error:
                self._how = _reason(error)
                if self._how == CANCELLED and not self._ended:  # else by this process
                    self._admission.refuse()
                raise EOFError from None
            self._admission.begun = True
            if not found:
                raise EOFError
            self._messages += found
        return self._messages.popleft()

    def end(self) -> None:
        self._ended = True
        with suppress(Exception):  # Ray may be gone as well
            self._ray.kill(self._actor)

    def how(self) -> str:
        return self._how


def _reason(error: Exception) -> str:
    """Shorten what Ray says of an actor that died."""
    text = " ".join(str(error).split())
    if "cancelled before it started" in text:
        return CANCELLED
    if "is temporarily unavailable" in text:
        return "its actor does not answer; its machine may be gone"
    why = re.search(r"its (node has died|worker process has died|owner has died)|was killed", text)
    detail = re.search(r"exit detail: (.{0,120}?)[.(]", text)
    where = re.search(r" ip: (\S+)", text)
    said = [why[0] if why else text[:200], *([detail[1]] if detail else [])]
    return ": ".join(["its actor died" + (f" on {where[1]}" if where else ""), *said])
