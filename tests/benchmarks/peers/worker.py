"""A peer in a process of its own, which trains one epoch whenever it is asked to.

A peer is a module of this package with one function, `train(settings, dataset)`, that yields each
epoch as it ends. It trains when the next one is asked for and waits otherwise, so that peers take
turns and never run at the same time.
"""

import contextlib
import importlib
import multiprocessing
import os
import time
from collections.abc import Callable, Iterator, Mapping
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

from vaectl import config, data
from vaectl.base.errors import VaectlError
from vaectl.config import reading

QUIET = 0.05
"""The part of the cores' time up to which other programs do not count."""


PLACE = "PEERS_DEVICE"
"""The variable of the environment that says where peers compute: cpu or gpu."""


class Epoch(NamedTuple):
    """What a peer tells of an epoch."""

    seconds: float
    """Of training alone."""
    elbo: float
    """Of the validation split after it, 1 sample, in nats per image."""


class Turn(NamedTuple):
    """An epoch, and whether it had the cores to itself."""

    epoch: Epoch
    quiet: bool


@contextlib.contextmanager
def started(
    peer: str, settings: config.Config, dataset: data.Dataset
) -> Iterator[Callable[[], Turn]]:
    """Start a peer, and give the function that asks it for its next epoch."""
    # spawned, not forked: thread pools do not survive a fork
    context = multiprocessing.get_context("spawn")
    pipe, other_end = context.Pipe()
    # as a mapping: the classes of its sections are made anew in each process
    arguments = peer, settings.model_dump(), dataset, other_end
    process = context.Process(target=_work, args=arguments, daemon=True)
    process.start()
    other_end.close()  # else a dead peer would be waited for

    def turn() -> Turn:
        try:
            pipe.send(None)
            answer: Turn = pipe.recv()
            return answer
        except (EOFError, OSError):
            raise VaectlError(f"{peer} ended; leave it out by --only", hint="") from None

    try:
        yield turn
    finally:
        pipe.close()
        process.join()


def _work(peer: str, values: Mapping[str, Any], dataset: data.Dataset, pipe: Connection) -> None:
    settings = reading.of_mapping(values)
    epochs = importlib.import_module(f"{__package__}.{peer}").train(settings, dataset)
    cores = os.sched_getaffinity(0)
    with contextlib.suppress(EOFError):  # nobody asks any more
        while True:
            pipe.recv()
            start, own, all_programs = time.perf_counter(), time.process_time(), _used(cores)
            epoch = next(epochs)
            others = _used(cores) - all_programs - (time.process_time() - own)
            available = len(cores) * (time.perf_counter() - start)
            pipe.send(Turn(epoch, quiet=others < QUIET * available))


def _used(cores: set[int]) -> float:
    """Seconds for which any program has used these cores, or a hypervisor has taken them."""
    ticks = 0
    for line in Path("/proc/stat").read_text().splitlines():
        name, *fields = line.split()
        if name.startswith("cpu") and name[3:].isdigit() and int(name[3:]) in cores:
            user, nice, system, _idle, _wait, *interrupts_and_stolen = map(int, fields[:8])
            ticks += user + nice + system + sum(interrupts_and_stolen)
    return ticks / os.sysconf("SC_CLK_TCK")
