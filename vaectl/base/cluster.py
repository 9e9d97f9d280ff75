"""Several processes, on one or more machines, that train one model together.

All of them compute the same steps. The first one leads: it reads the configuration, writes the run,
and says when to stop. The others follow: they take what to train from it, and write nothing. JAX
connects them; every message between them is an array that the first process sends.
"""

from __future__ import annotations

import atexit
import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import jax
import numpy as np

from vaectl.base import devices
from vaectl.base.errors import ConfigError, RunError, first_line
from vaectl.base.patience import within
from vaectl.base.wanted import Cluster

PATIENCE = 300
"""Seconds to wait until all processes have connected."""
SILENCE = 30
"""Seconds after which a process that does not answer counts as ended."""
THE_END = 0
"""The number that the first process sends to end the others while they wait for a number."""

_members: list[int] = []
"""The number of processes that train together, within `joined`; else empty."""


class Ended(Exception):  # noqa: N818  # it is no error
    """The first process has ended the training."""


@contextmanager
def joined(cluster: Cluster, device: str) -> Iterator[None]:
    """Join the processes for the duration of a context; the first one ends the others at its end.

    A process that fails leaves at once, so that the others do not wait for it.

    Args:
        cluster: where the processes meet.
        device: what each of them has; see `vaectl.base.devices.several`.

    Raises:
        ConfigError: they do not meet, or JAX finds no cluster or no such device.
        RunError: one of them has ended.
    """
    with _stdout_for_results():
        _meet(cluster)
        try:
            devices.several(device)
            _members.append(jax.process_count())
            _of_first(np.zeros((), np.int32))  # connects them, while all of them are there
            yield
            _part()
        except jax.errors.JaxRuntimeError as error:
            if "RESOURCE_EXHAUSTED" in str(error):
                _leave_at_exit(ConfigError.exit_code)
                raise
            _leave_at_exit(RunError.exit_code)
            raise RunError(
                f"one of the processes that train together has ended: {first_line(error)}",
                hint="see its messages; vaectl train --resume goes on from the last checkpoint",
            ) from error
        except BaseException as error:
            code = getattr(error, "exit_code", 1)
            if leads():
                _part(code)
            else:
                _leave_at_exit(code)
            raise
        finally:
            _members.clear()


def _leave_at_exit(code: int) -> None:
    """Exit before JAX waits for processes that have ended, which would abort this one."""

    def leave() -> None:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)

    atexit.register(leave)


def _part(code: int = 0) -> None:
    """End the others, if this is the first process, and leave them; exit with `code`."""
    try:
        if leads():
            _of_first(np.asarray(THE_END, np.int32))
        jax.distributed.shutdown()  # type: ignore[no-untyped-call]
    except jax.errors.JaxRuntimeError:  # all is done, and another one is gone
        _leave_at_exit(code)


def leads() -> bool:
    """Tell whether this process writes the run; a single process does."""
    return int(jax.process_index()) == 0


def is_alone() -> bool:
    """Tell whether no other process trains with this one."""
    return _members in ([], [1])


def tell(message: dict[str, Any]) -> None:
    """Send a message to the other processes; do nothing if there are none."""
    if not is_alone():
        content = np.frombuffer(json.dumps(message).encode(), np.uint8)
        agreed(len(content))
        _of_first(content)


def told() -> dict[str, Any]:
    """Wait for a message of the first process.

    Raises:
        Ended: the first process has ended the training.
    """
    content = _of_first(np.zeros(agreed(THE_END), np.uint8))
    message: dict[str, Any] = json.loads(content.tobytes())
    return message


@contextmanager
def prepared() -> Iterator[None]:
    """Prepare to train within this context, and wait at its end until all processes have.

    Otherwise the others would notice a failure only in the first step, and JAX may abort them while
    they compile it.

    Raises:
        RunError: another process failed to prepare.
    """
    try:
        yield
    except BaseException:
        _all_can(can=False)
        raise
    if not _all_can(can=True):
        raise RunError(
            "one of the processes that train together has ended", hint="see its messages"
        )


def _all_can(*, can: bool) -> bool:
    from jax.experimental import multihost_utils

    return is_alone() or bool(np.all(multihost_utils.process_allgather(np.asarray(can))))


def agreed(number: int) -> int:
    """Return the number that the first process passes; it is never 0.

    Raises:
        Ended: it has ended the training.
    """
    if is_alone():
        return number
    found = int(_of_first(np.asarray(number, np.int32)))
    if found == THE_END:
        raise Ended
    return found


def of_first(tree: Any) -> Any:
    """Return the arrays of the first process in host memory; a single process returns its own."""
    return tree if is_alone() else jax.tree.map(lambda leaf: _of_first(np.asarray(leaf)), tree)


def _of_first(array: np.ndarray) -> np.ndarray:
    from jax.experimental import multihost_utils

    return np.asarray(multihost_utils.broadcast_one_to_all(array))


def _meet(cluster: Cluster) -> None:
    """Wait for the others; signals end this process meanwhile."""
    # vaectl itself heeds SIGTERM, and saves
    jax.config.update("jax_enable_preemption_service", False)  # type: ignore[no-untyped-call]
    where = cluster.address or "the address that JAX was given"
    try:
        within(
            PATIENCE,
            lambda: jax.distributed.initialize(
                *cluster,
                # after that it aborts the process
                initialization_timeout=2 * PATIENCE,
                heartbeat_timeout_seconds=SILENCE,
                shutdown_timeout_seconds=SILENCE,
            ),
        )
    except TimeoutError:
        _leave_at_exit(ConfigError.exit_code)
        raise ConfigError(
            f"--cluster: not all processes came to {where} within {PATIENCE} s",
            hint="use the same HOST:PORT and PROCESSES in all, and the numbers 0 to PROCESSES - 1",
        ) from None
    except (ValueError, RuntimeError) as error:
        if cluster.address is None:
            raise ConfigError(
                "--cluster auto: JAX finds no Slurm, MPI or Kubernetes here",
                hint="--cluster HOST:PORT,PROCESSES,NUMBER in each process",
            ) from None
        raise ConfigError(
            f"--cluster: the processes do not meet at {where}: {first_line(error)}",
            hint="choose another port, or another HOST of the first process",
        ) from None


@contextmanager
def _stdout_for_results() -> Iterator[None]:
    """Send to stderr what JAX's libraries print to stdout."""
    sys.stdout.flush()
    real = os.dup(1)
    os.dup2(2, 1)
    printed, sys.stdout = sys.stdout, os.fdopen(real, "w", encoding="utf-8", closefd=False)
    try:
        yield
    finally:
        sys.stdout.flush()
        sys.stdout = printed
        os.dup2(real, 1)
        os.close(real)
