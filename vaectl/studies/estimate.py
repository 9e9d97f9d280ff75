"""The cost of trials: members, epochs, time by a short calibration, and disk."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import NamedTuple

import jax
import jax.numpy as jnp

from vaectl.base import spent
from vaectl.base.errors import DivergedError
from vaectl.base.memory import text as size_of
from vaectl.base.plural import plural
from vaectl.config.schema import Config
from vaectl.experiment import Task
from vaectl.studies.trial import Trial, programs
from vaectl.training import compiled, fit, footprint
from vaectl.training.fit import Chunk

CALIBRATED = 3
"""The most programs that are run for a moment."""
MOMENT = 0.5
"""Seconds of training after which the pace of a program is known."""
OF_MEMBER = 0.3
"""Seconds to begin, to save and to end a member, about."""
NEEDED = 3
"""States that a run keeps, about: its latest, its best, and spares of them."""


class Estimate(NamedTuple):
    """The work that is left of a study."""

    members: int
    programs: int
    epochs: int
    """The epochs of all members together."""
    seconds: float
    """The estimated time, if each worker is as fast as this process in the calibration."""
    disk: int
    """Bytes of their checkpoints."""
    workers: int | None = 1
    """The number of members that train at once; None if unknown, and then counted as 1."""

    def __str__(self) -> str:
        return (
            f"{self.epochs:,} epochs, {plural(self.programs, 'program')} to compile; about "
            f"{_span(self.seconds)} {_where(self.workers)}, {size_of(self.disk)} of checkpoints"
        )


def estimate(
    trials: Sequence[Trial],
    task: Task,
    epochs: int,
    workers: int | None = 1,
    *,
    runs: int | None = None,
) -> Estimate:
    """Estimate what trials take.

    A few of their programs, evenly spaced, train for a moment; the others are taken to be as fast
    on average. If this process trains later, no time is lost: the compiled programs are used again.

    Args:
        trials: those that are still to be trained.
        task: the data and the device.
        epochs: of all of them together.
        workers: the number of members that train at once; None if unknown.
        runs: the number of them that leave a run; None: all.
    """
    groups = programs(trials)
    count = min(len(groups), CALIBRATED)
    chosen = [groups[i * len(groups) // count][0] for i in range(count)]
    paces = [_pace(task._replace(settings=trial.settings, traced=trial.traced)) for trial in chosen]
    states = sum(_states(trial.settings) for trial in trials)
    of_epoch, of_start, of_state = (sum(part) / count for part in zip(*paces, strict=True))
    return Estimate(
        members=len(trials),
        programs=len(groups),
        epochs=epochs,
        seconds=(epochs * of_epoch + len(groups) * of_start + len(trials) * OF_MEMBER)
        / max(min(workers or 1, len(trials)), 1),
        workers=workers,
        disk=round(of_state * states / len(trials) * (len(trials) if runs is None else runs)),
    )


def _states(settings: Config) -> int:
    """Return the number of states that a run keeps, about."""
    saves = math.ceil(settings.epochs / settings.checkpoint.every)
    states = saves + (saves > 1)  # with a best one between two saves
    return states if settings.checkpoint.keep == "all" else min(states, NEEDED)


def _pace(task: Task) -> tuple[float, float, float]:
    """Return the seconds of an epoch and of compilation, and the bytes of a state."""
    task = task.alone
    program = task.program
    # a learning rate of zero is the same program, and hardly diverges
    member = task.member._replace(learning_rate=jnp.zeros_like(task.member.learning_rate))
    began, trained, of_epoch = time.perf_counter(), 0.0, 0.0
    with jax.default_device(task.device), suppress(DivergedError):
        images, validation = task.images()
        state = compiled.init(program, member)
        fit.compile_ahead(program, member, images, validation)
        events = fit.fit(program, member, fit.Saved(state), images, validation)
        with spent.on("timing of steps", whole=True):
            for number, event in enumerate(events):
                if isinstance(event, Chunk):
                    of_epoch = event.seconds * program.steps_per_epoch / event.beyond
                    if number and event.seconds >= MOMENT:
                        break
                    continue
                taken = event.train_seconds + event.validation_seconds
                trained += taken
                # the first one starts much that stays
                of_epoch = min(of_epoch, taken) if number > 1 else taken
                if number and trained >= MOMENT:
                    break
    size = footprint.of_arrays(compiled.shapes(program, member))
    return of_epoch, max(time.perf_counter() - began - trained, 0.0), float(size)


def _where(workers: int | None) -> str:
    if workers == 1:
        return "in this process alone"
    who = f"for {workers:,} workers, each" if workers else "for one worker that is"
    return f"{who} as fast as this process alone"


def _span(seconds: float) -> str:
    for unit, length in (("days", 86400.0), ("h", 3600.0), ("min", 60.0)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{max(seconds, 1):.0f} s"
