"""The time of a training step of each optimizer, measured in turns, and how quiet that was.

Members train one after another, perhaps on several machines, while other programs come and go: the
times of their epochs do not compare. So a step of each optimizer is timed afterwards, all of them
within each of several rounds, and a ratio is the median of the rounds' ratios.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Self

import jax
import numpy as np
from pydantic import Field, ValidationError

from vaectl.base import spent
from vaectl.base.files import Folder
from vaectl.base.load import Load
from vaectl.config.schema import Config
from vaectl.evaluation.means import Images
from vaectl.experiment import Task
from vaectl.runs import environment
from vaectl.runs.record import Part
from vaectl.studies import identity
from vaectl.studies.ledger import write
from vaectl.training import compiled
from vaectl.training.events import Phase
from vaectl.training.fit import Stream
from vaectl.training.program import Member, Program, TrainState

FILE = "times.json"
ROUNDS = 7
MOMENT = 0.3
"""The approximate seconds of an optimizer in a round: whole epochs, or the first steps of one."""
_MOST_EPOCHS = 20
"""The most epochs of a round."""
LOADED = 0.1
"""The share of the cores that others use, or the spread of the times, above which the machine is
not quiet."""
_MOST_BYTES = 2**20


class Times(Part):
    """The times of steps, as times.json holds them."""

    format_version: int = 1
    measured: str
    """The hash of what was timed."""
    device: str
    seconds: dict[str, list[float]] = Field(min_length=1)
    """Seconds of a step in each round, by optimizer."""
    others: float | None
    """The share of this process's cores that other programs used meanwhile; None: unknown."""

    @property
    def spread(self) -> float:
        """The relative interquartile range of an optimizer's times, as a mean over optimizers."""
        rows = [np.quantile(times, (0.25, 0.5, 0.75)) for times in self.seconds.values()]
        return float(np.mean([(high - low) / middle for low, middle, high in rows]))

    @property
    def loaded(self) -> str:
        """Return the reason why these times cannot be ranked; empty if they can."""
        if self.others is not None and self.others > LOADED:
            return f"other programs used {self.others:.0%} of the cores while steps were timed"
        if self.spread > LOADED:
            return f"the times of steps differed by {self.spread:.0%} from round to round"
        return ""

    def step(self, label: str) -> float:
        """Return the median seconds of a step."""
        return float(np.median(self.seconds[label]))

    def ratio(self, label: str, to: str) -> float:
        """Return the median ratio of the times of two optimizers' steps."""
        return float(np.median(np.divide(self.seconds[label], self.seconds[to])))

    @property
    def fastest(self) -> str:
        """The optimizer against which no ratio is below 1.

        It need not have the smallest median. If there is none, because a ratio of medians does not
        order all of them, it is the one whose smallest ratio is the nearest to 1.
        """
        return max(self.seconds, key=lambda to: min(self.ratio(each, to) for each in self.seconds))

    @classmethod
    def read(cls, folder: Folder) -> Self | None:
        """Return the times in a folder; None if there are none, or what is there is broken."""
        try:
            return cls.model_validate_json(folder.read(FILE, _MOST_BYTES))
        except (OSError, ValidationError):
            return None


@spent.on("timing of steps", whole=True)
def measure(
    experiments: Mapping[str, Config], task: Task, folder: Folder, stopping: Callable[[], bool]
) -> Times | None:
    """Time a step of each optimizer, unless that was done; write and return the times.

    Times that were taken while the machine was loaded are taken again, and replaced if it is quiet.

    Args:
        experiments: the experiment of each optimizer, by label.
        task: the data and the devices.
        folder: the comparison's directory.
        stopping: tells whether a signal has asked to stop.

    Raises:
        KeyboardInterrupt: asked to stop.
        RunError: the times cannot be written.
    """
    device = str(task.place.get("processor", task.place.get("kind", "")))
    keys = {
        label: identity.key(one, task.dataset.fingerprint) for label, one in experiments.items()
    }
    what = [keys, device, environment.versions()]
    measured = _hash([*what, task.place.get("cpu_threads")])
    known = Times.read(folder)
    same = known is not None and known.measured in (measured, _hash(what))  # as of older versions
    if not experiments or (known and same and not known.loaded):
        return known
    task.watch(Phase("timing a step of each optimizer, in turns"))
    if task.program.mesh is None:  # each device has members of its own
        task = task._replace(devices=task.devices[:1])
    seconds: dict[str, list[float]] = {label: [] for label in experiments}
    with jax.default_device(task.device):
        images, _ = task.images()
        steppers = {}
        for label, one in experiments.items():
            _leave_if(stopping)
            steppers[label] = _Stepper(task._replace(settings=one), images)
        load = Load()
        labels = [*steppers]
        for number in range(ROUNDS):
            # each round begins with another optimizer, since the one before influences the next
            # one's time
            first = number * len(labels) // ROUNDS
            for label in (*labels[first:], *labels[:first]):
                _leave_if(stopping)
                seconds[label].append(steppers[label]())
        others = load.of_others()
    found = Times(measured=measured, device=device, seconds=seconds, others=others)
    if same and found.loaded:
        return known
    write(folder, FILE, found.model_dump_json(indent=2) + "\n")
    return found


def _hash(what: object) -> str:
    return hashlib.sha256(json.dumps(what).encode()).hexdigest()[:16]


def _leave_if(stopping: Callable[[], bool]) -> None:
    if stopping():
        raise KeyboardInterrupt


class _Stepper:
    """A training that begins anew with each call, which returns the seconds of a step."""

    def __init__(self, task: Task, images: Images) -> None:
        self._program, self._member = program, member = task.program, task.member
        self._steps, self._epochs = 1, 1
        self._train: Callable[[TrainState, int, int], tuple[TrainState, object]]
        if isinstance(images, jax.Array):
            self._train = partial(_train, program, member, images)
            most = program.steps_per_epoch
        else:
            stream = Stream(program, member, images)
            self._train, most = stream.train, stream.steps
        self()  # compiles
        taken = self()
        while taken < MOMENT / 8 and self._steps < most:  # a call itself takes some time
            self._steps = min(4 * self._steps, most)
            taken = self._steps * self()
        wanted = int(MOMENT / taken * self._steps)
        self._steps = min(max(wanted, 1), most)
        self._epochs = min(max(wanted // self._steps, 1), _MOST_EPOCHS)

    def __call__(self) -> float:
        """Train for the first steps of an epoch, or for all steps of some.

        It begins anew each time, so that one state at a time is in memory.
        """
        state = compiled.init(self._program, self._member)
        jax.block_until_ready(state)  # type: ignore[no-untyped-call]
        start = time.perf_counter()
        for epoch in range(self._epochs):
            first = epoch * self._program.steps_per_epoch
            state, _ = self._train(state, first, first + self._steps)
        jax.block_until_ready(state)  # type: ignore[no-untyped-call]
        return (time.perf_counter() - start) / (self._epochs * self._steps)


def _train(
    program: Program, member: Member, images: jax.Array, state: TrainState, first: int, stop: int
) -> tuple[TrainState, object]:
    found: tuple[TrainState, object] = compiled.train_steps(
        program, member, state, images, first, stop
    )
    return found
