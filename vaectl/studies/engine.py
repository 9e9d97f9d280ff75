"""The engine of studies: it sends missing trials to a pool, and seals trials that end."""

from __future__ import annotations

import math
import time
from collections import OrderedDict, defaultdict, deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice, takewhile
from typing import final

from vaectl.base import spent
from vaectl.base.files import Folder
from vaectl.config.schema import Config
from vaectl.executors.base import Foreseeing, Lost, Message, Pool
from vaectl.experiment import Stopping, Task
from vaectl.members import job as jobs
from vaectl.members.job import Done, Wanted
from vaectl.objectives.base import label as label_of
from vaectl.runs.metrics import Row
from vaectl.studies import trial_runs
from vaectl.studies.ended import Ended
from vaectl.studies.ledger import Ledger
from vaectl.studies.trial import Trial, alike
from vaectl.training.events import Note, Phase, Planned, Started, Stopped, Warned
from vaectl.training.fit import Epoch

TRIES = 3
"""The number of tries for a member whose worker ends before it has saved anything new."""

PATIENCE = 10.0
"""Seconds after which idle workers are reported."""

Steps = Iterator[list[Trial]]
"""Trials of one part of a study; the next list is requested when all trials before it have ended or
paused. Some of these may have been given up: see `Engine.lost`."""


@final
class Engine:
    """A study under way."""

    def __init__(
        self,
        folder: Folder,
        task: Task,
        ledger: Ledger,
        stopping: Stopping,
        workers: int | None = 1,
    ) -> None:
        """Prepare to train.

        Args:
            folder: of the study.
            task: the data, the device, and the watcher.
            ledger: where trials are sealed.
            stopping: tells whether a signal has asked to stop.
            workers: the number of members that train at once; None if unknown.
        """
        self.task = task
        self.watch = task.watch
        self.workers = workers
        self.lost: dict[Trial, str] = {}
        """Trials that were given up, because their workers ended; and why."""
        self.trained = 0.0
        """Seconds of the training steps of epochs that ended, here or elsewhere."""
        self._folder, self._ledger, self._stopping = folder, ledger, stopping
        self.paused: dict[Trial, Sequence[Row]] = {}
        """Trials that have paused, and their metrics so far."""
        self._tries: defaultdict[Trial, int] = defaultdict(int)
        self._begun: dict[Trial, int] = {}
        """The step at which each trial began the last time."""
        self._members = self._epochs = 0
        self._full = time.monotonic()
        """The last time when all workers were busy; inf after idle workers were reported."""
        self._others: Iterator[Steps] = iter(())
        """The parts that are not opened yet."""
        self._opened: list[_Part] = []
        self._ready: OrderedDict[_Part, None] = OrderedDict()
        """The parts that may have work, the next one first."""
        self._training: dict[str, tuple[_Part, Trial]] = {}
        """The trials under way, by the names of their members."""
        self._keys: dict[Config, list[str]] = {}
        """The keys that trials with these settings may have."""

    def key(self, trial: Trial) -> str:
        """Return the key of a trial in the ledger, perhaps the one that an older vaectl gave it."""
        keys, ledger = self._keys.get(trial.settings), self._ledger
        if keys is None:
            keys = self._keys[trial.settings] = trial.keys(self.task.dataset.fingerprint)
        known = (key for key in keys if key in ledger.ended or ledger.was_sealed(key))
        return next(known, keys[0])

    def has(self, trial: Trial) -> bool:
        """Tell whether a trial is sealed, even if its run is damaged or gone."""
        return self.key(trial) in self._ledger.ended

    def rows(self, trial: Trial) -> tuple[Sequence[Row], str]:
        """Return the metrics of a trial that ended or paused, and why it diverged."""
        if self.has(trial):
            ended = self.ended(trial)
            return ended.rows, ended.error
        return self.paused[trial.whole], ""

    def ended(self, trial: Trial) -> Ended:
        """Return the result of a trial that ended."""
        return self._ledger.ended[self.key(trial)]

    def plan(self, members: int, epochs: int) -> None:
        """Report a change of the planned members and epochs; negative numbers reduce them."""
        self._members += members
        self._epochs += epochs
        self.watch(Planned(self._members, self._epochs))

    def run(self, pool: Pool, parts: Iterable[Steps]) -> list[Trial]:
        """Train the missing trials; return all trials, including those that were given up.

        A part goes on until it waits for running trials; then the next part has its turn. So a
        single worker finishes a part before it begins another.
        """
        self._others = iter(parts)
        while True:
            while pool.room and (part := self._next_part()):
                self._leave_if_asked()
                self._begin(pool, part)
            self._tell_idle(pool.room, len(self._training))
            if not self._training:
                self._leave_if_asked()
                return [trial for part in self._opened for trial in part.trials]
            self._heed(pool.receive())

    def _next_part(self) -> _Part | None:
        """Return the first part that has trials to train; open another one if none has."""
        while self._ready:
            part = next(iter(self._ready))
            if self._has_work(part):
                return part
            del self._ready[part]
        for steps in self._others:
            part = _Part(steps)
            self._opened.append(part)
            if self._has_work(part):
                self._ready[part] = None
                return part
        return None

    def _begin(self, pool: Pool, part: _Part) -> None:
        """Send a job of a part to the pool, and tell the pool what comes next if it is full."""
        chosen = _alike(part.missing, pool.most)
        for trial in chosen:
            part.missing.popleft()
            self._tell_why(trial)
        part.training += len(chosen)
        busy = len(self._training)
        self._training |= {member(trial): (part, trial) for trial in chosen}
        # else one of two would never end
        assert len(self._training) == busy + len(chosen)  # noqa: S101
        if pool.most > 1:
            more = f" and {len(chosen) - 1} more" * (len(chosen) > 1)
            self.watch(Phase(f"training {chosen[0].run_name}{more}"))
        pool.submit([_wanted(trial) for trial in chosen])
        if isinstance(pool, Foreseeing) and not pool.room and (coming := self._next_part()):
            pool.expect(_wanted(coming.missing[0]))

    def _heed(self, message: Message | None) -> None:
        match message:
            case Done():
                _, trial = self._left(message.member)
                if message.paused:
                    self._pause(trial, message)
                else:
                    self._end(trial, message)
            case Lost(members, why):
                for name in members:
                    part, trial = self._left(name)
                    if self._is_tried_again(trial, why):
                        part.missing.append(trial)
            case None:  # lets watchers check the time
                self.plan(0, 0)
            case _:
                if isinstance(message, Started):
                    self._note_start(self._training[message.member][1], message.step)
                if isinstance(message, Epoch):
                    self.trained += message.train_seconds
                self.watch(message)

    def _left(self, name: str) -> tuple[_Part, Trial]:
        """Note that a trial trains no more, and that its part is next; return both."""
        part, trial = self._training.pop(name)
        part.training -= 1
        self._ready[part] = None
        self._ready.move_to_end(part, last=False)
        return part, trial

    def _tell_idle(self, idle: int, busy: int) -> None:
        """Report once that workers have had nothing to do for a while."""
        now = time.monotonic()
        if not idle or not busy:
            self._full = now
        elif now > self._full + PATIENCE:
            self._full = math.inf
            told = f"{idle} worker{'s are' if idle > 1 else ' is'} idle"
            self.watch(Note(f"{told}: nothing can begin until others have ended; {busy} train"))

    def _has_work(self, part: _Part) -> bool:
        """Tell whether a part has trials to train; if it waits for none, ask it for more."""
        while not part.missing and not part.training:
            wanted = next(part.steps, None)
            if wanted is None:
                return False
            part.trials += wanted
            for trial in wanted:
                if self.is_done(trial):
                    epochs = trial.until or trial.settings.epochs
                    self.watch(Stopped(member(trial), "finished", epochs=epochs))
                else:
                    part.missing.append(trial)
        return bool(part.missing)

    def _note_start(self, trial: Trial, step: int) -> None:
        """Count tries anew for a trial that has saved more than when it was begun last."""
        if step > self._begun.get(trial, 0):
            self._tries[trial] = 0
        self._begun[trial] = step

    def _is_tried_again(self, trial: Trial, why: str) -> bool:
        """Tell whether a trial whose worker ended is trained again."""
        self._tries[trial] += 1
        if self._tries[trial] < TRIES:
            self.watch(Warned(f"{trial}: {why}; it is tried again"))
            return True
        self.lost[trial.whole] = f"its worker ended {TRIES} times: {why}"
        self.watch(Stopped(member(trial), "failed", why, trial.settings.epochs))
        return False

    def _pause(self, trial: Trial, done: Done) -> None:
        """Keep the metrics of a trial that goes on later, or not at all."""
        self.paused[trial.whole] = done.rows
        quantity = trial.settings.objective.chosen.best
        best = max(row.terms[quantity] for row in done.rows[1::2])
        told = f"best validation {label_of(quantity)} {best:.2f}"
        self.watch(Note(f"{trial}: {told} until epoch {trial.until}"))

    @spent.on("saving")
    def _end(self, trial: Trial, done: Done) -> None:
        """Seal a trial that ended."""
        settings = trial.settings
        ended = Ended(
            key=self.key(trial),
            number=self._ledger.next_number,
            label=trial.label,
            stage=trial.stage,
            optimizer=settings.optimizer.name,
            learning_rate=trial.learning_rate,
            seed=settings.seed,
            error=done.error,
            quantity=settings.objective.chosen.best,
            rows=list(done.rows),
            files=dict(done.files),
        )
        self._ledger.add(ended)
        self.paused.pop(trial.whole, None)
        if trial.stage == "result":
            jobs.forget_curve(self._folder, trial.run_name)
        quantity = label_of(ended.quantity)
        came_to = done.error or f"best validation {quantity} {ended.outcome.best:.2f}"
        self.watch(Note(f"{trial}: {came_to}"))

    def is_done(self, trial: Trial) -> bool:
        """Tell whether a trial is sealed, and its run is there if it leaves one; or has paused.

        A sealed trial under its key that does not belong to it is discarded.
        """
        key = self.key(trial)
        ended = self._ledger.ended.get(key)
        if ended is None:
            return self._has_paused(trial)
        settings = trial.settings
        asked = trial.stage, settings.optimizer.name, trial.learning_rate, settings.seed
        told = ended.stage, ended.optimizer, ended.learning_rate, ended.seed
        whole = ended.epochs < settings.epochs if ended.error else ended.epochs == settings.epochs
        if asked != told or not whole:
            self._ledger.discard(key, f"not of {trial}")
            return False
        if trial.stage == "tuning":
            return True
        # under another label it left another run
        run = self._folder.folder(trial.run_name)
        return ended.label == trial.label and trial_runs.is_there(run, ended)

    def _has_paused(self, trial: Trial) -> bool:
        """Tell whether a trial has trained up to its pause, perhaps in an earlier command."""
        if not trial.until:
            return False
        if trial.whole not in self.paused and (
            rows := jobs.paused(_wanted(trial), self.task, self._folder)
        ):
            self.paused[trial.whole] = rows
        return len(self.paused.get(trial.whole, ())) >= 2 * trial.until

    def _tell_why(self, trial: Trial) -> None:
        """Warn that a trial is trained again because a file of it is damaged or gone."""
        key, run = self.key(trial), self._folder.path / trial.run_name
        ended, file = self._ledger.ended.get(key), self._ledger.file(key)
        if self._ledger.is_gone(key):
            what = "damaged or changed" if file.exists() else "gone"
            self.watch(Warned(f"{file}: {what}: {trial} is trained again"))
        if ended is not None and ended.label == trial.label and not run.exists():
            self.watch(Warned(f"{run}: gone: {trial} is trained again"))

    def _leave_if_asked(self) -> None:
        if self._stopping():
            raise KeyboardInterrupt  # the first signal only asked to stop


def member(trial: Trial) -> str:
    """Return a short name that tells a trial from all others."""
    of_tuning = f" at {trial.chosen}".replace("learning rate ", "") if trial.values else ""
    return trial.run_name + of_tuning * (trial.stage == "tuning")


def _wanted(trial: Trial) -> Wanted:
    run = trial.run_name if trial.stage == "result" else None
    return Wanted(member(trial), trial.settings, run, trial.until, trial.traced)


def _alike(trials: Sequence[Trial], most: int) -> list[Trial]:
    """Return the first trials that share one compiled program, at most `most`."""
    first = alike(trials[0])
    return list(takewhile(lambda trial: alike(trial) == first, islice(trials, most)))


@dataclass(eq=False)
class _Part:
    """A part of the study under way."""

    steps: Steps
    trials: list[Trial] = field(default_factory=list)
    """All trials that it has asked for."""
    missing: deque[Trial] = field(default_factory=deque)
    """The trials to train."""
    training: int = 0
    """The number of its trials under way."""
