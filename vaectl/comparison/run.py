"""Run a comparison: the trials that are missing, then the test split, once.

runs/<name>/
  comparison.yaml    the resolved configuration; `vaectl compare-optimizers` on it continues
  trials/            every trial, sealed; see `vaectl.comparison.ledger`
  trials.csv         one row per trial, for people
  curves.csv         one row per trial, epoch and split, for people
  <label>-s<seed>/   an ordinary run per optimizer and seed of the result
  summary.json       statistics
  figures/           curves and statistics, drawn
  report.html        all of it on one page
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Generator, Iterator, Sequence
from pathlib import Path
from typing import final

import jax

from vaectl import data
from vaectl.base import devices
from vaectl.base.devices import DeviceKind
from vaectl.base.errors import InterruptedRunError, RunError
from vaectl.base.files import Folder
from vaectl.base.interrupts import asked_to_stop
from vaectl.comparison import directory, members, plan, unsealed
from vaectl.comparison.ended import Ended
from vaectl.comparison.ledger import Ledger
from vaectl.comparison.plan import Comparison, Trial, trials
from vaectl.comparison.result import Finished, Result
from vaectl.comparison.testing import Tests
from vaectl.config.meaning import notes
from vaectl.config.schema import Config
from vaectl.executors import Executor, default
from vaectl.executors.base import Lost, Pool, Surroundings
from vaectl.experiment import Stopping, Task
from vaectl.members.job import Done, Wanted
from vaectl.objectives.base import label as label_of
from vaectl.runs import environment
from vaectl.runs import resume as resumption
from vaectl.runs.checkpoints import check_place
from vaectl.runs.directory import check_name
from vaectl.runs.record import Device
from vaectl.sinks.base import Sink
from vaectl.training import footprint
from vaectl.training.events import Note, Phase, Planned, Stopped, Warned, Watch, ignore
from vaectl.training.program import Program

TRIES = 3
"""How often a member is trained whose worker ends."""


def run(
    settings: Comparison,
    *,
    runs_dir: Path,
    name: str | None = None,
    force: bool = False,
    device_kind: DeviceKind = "auto",
    executor: Executor | None = None,
    sinks: Sequence[Sink] = (),
    watch: Watch = ignore,
) -> Result:
    """Train all members that have not been trained, and evaluate the best models.

    Args:
        settings: what is compared.
        runs_dir: where the comparison's directory goes.
        name: of the directory; None for one made from the settings.
        force: whether a comparison of that name is begun again.
        device_kind: `auto`, `cpu` or `gpu`.
        executor: where members train; None for the default.
        sinks: follow the members of the result.
        watch: told of what goes on.

    Raises:
        ConfigError: no such device, more than its memory holds, an unusable name, or that of a
            comparison by other settings.
        DataError: the data set is missing or broken.
        RunError: the directory cannot be written, or another process writes in it.
        InterruptedRunError: SIGINT or SIGTERM; the same command continues.
    """
    check_name(runs_dir / "-", name, force=False)  # only the name: what has it is judged below
    path = runs_dir / (name or directory.default_name(settings))
    check_place(path, to_save=True)
    directory.check(settings, path, force=force)
    executor = executor or default()
    task = _task(settings, device_kind, executor, watch)

    def tell(text: str) -> None:
        watch(Warned(text))

    with asked_to_stop() as stopping, directory.locked(path, force=force) as left_alone:
        for left in left_alone:
            tell(f"{left}: not vaectl's, and left alone")
        if not force:
            directory.check(settings, path, force=False)  # another process may have been here
        directory.write_settings(path, settings)  # first: by this it is a comparison
        folder = Folder(path)
        left_out = unsealed.seal(folder, tell)
        ledger = Ledger(folder, tell, left_out)
        ledger.check_data(settings.base.data.source, task.dataset)
        running = _Running(folder, settings, task, ledger, stopping)
        try:
            surroundings = Surroundings(task, folder, sinks, stopping)
            with executor.open(surroundings) as pool:
                for difference in _differences(ledger, pool.place):
                    tell(f"since trials that are there, {difference}")
                planned = running.run(pool)
            tests = Tests(
                folder,
                ledger,
                watch,
                images=len(task.dataset.test.images),
                importance_samples=settings.importance_samples,
            )
            found = []
            with jax.default_device(task.device):
                for trial in planned:
                    _leave_if_asked(stopping)
                    ended = ledger.ended[running.key(trial)]
                    found.append(Finished(trial, ended, tests.of(trial, ended)))
        except KeyboardInterrupt:
            raise InterruptedRunError(
                f"interrupted; trials that are done: {len(ledger.ended)}",
                hint="the same command continues after them, and with what was under way from its "
                "last checkpoint",
            ) from None
        ledger.sync()
        return Result(path, settings, found, tests.problems)


def _task(settings: Comparison, device_kind: DeviceKind, executor: Executor, watch: Watch) -> Task:
    """Choose the device and read the data; check that every entry fits."""
    device = devices.select(device_kind)
    executor.check(device)
    watch(Phase(f"reading {settings.base.data.source}"))
    dataset = data.load(settings.base.data, tell=lambda text: watch(Phase(text)))
    held_out = len(dataset.validation.images)
    programs = {_program(one, dataset) for one in settings.entries.values()}
    for each in programs:
        each.check_steps()
    with jax.default_device(device):  # as in training: what is traced here is not traced again
        # each is checked, whatever another one needs
        streamed = {
            footprint.check_training(
                each, held_out, device, executor.processes, on_disk=dataset.on_disk
            )
            for each in programs
        }
    for note in (*dataset.notes, *notes(settings.base)):
        watch(Note(f"note: {note}"))
    return Task(settings.base, dataset, device, any(streamed), watch)


@final
class _Running:
    """A comparison under way."""

    def __init__(
        self,
        folder: Folder,
        settings: Comparison,
        task: Task,
        ledger: Ledger,
        stopping: Stopping,
    ) -> None:
        self._folder, self._settings, self._ledger = folder, settings, ledger
        self._dataset, self._watch, self._stopping = task.dataset, task.watch, stopping
        of_each = len(settings.seeds) + (settings.tuning.members if settings.tuning else 0)
        self._members = of_each * len(settings.entries)
        self._lost: defaultdict[Trial, list[str]] = defaultdict(list)
        """Why the workers of a trial ended before it did, each time."""

    def key(self, trial: Trial) -> str:
        """Return the key of a trial in the ledger, perhaps the one that an older vaectl gave it."""
        keys, ledger = trial.keys(self._dataset.fingerprint), self._ledger
        known = (key for key in keys if key in ledger.ended or ledger.was_sealed(key))
        return next(known, keys[0])

    def run(self, pool: Pool) -> list[Trial]:
        """Run what is missing; return all trials that ended, those that tuning added among them.

        An entry of the comparison goes on until it waits for trials that are under way; then the
        next one has its turn. So one worker does all of an entry before it begins another.
        """
        self._plan()
        entries = [_Entry(self._steps(*entry)) for entry in self._settings.entries.items()]
        training: dict[str, tuple[_Entry, Trial]] = {}
        while True:
            while pool.room and (entry := next(filter(self._has_work, entries), None)):
                _leave_if_asked(self._stopping)
                chosen, entry.missing = entry.missing[: pool.most], entry.missing[pool.most :]
                entry.training |= {*chosen}
                training |= {_member(trial): (entry, trial) for trial in chosen}
                self._submit(pool, chosen)
            if not training:
                _leave_if_asked(self._stopping)
                self._refuse_lost()
                return [trial for entry in entries for trial in entry.trials]
            message = pool.receive()
            match message:
                case Done():
                    entry, trial = training.pop(message.member)
                    entry.training.remove(trial)
                    self._end(trial, message)
                case Lost(members, why):
                    for name in members:
                        entry, trial = training.pop(name)
                        entry.training.remove(trial)
                        if self._is_tried_again(trial, why):
                            entry.missing.append(trial)
                        else:
                            entry.stuck = True
                case None:
                    pass
                case _:
                    self._watch(message)

    def _has_work(self, entry: _Entry) -> bool:
        """Tell whether an entry has trials to train; if it waits for none, ask it for more."""
        while not entry.missing and not entry.training and not entry.stuck:
            wanted = next(entry.steps, None)
            if wanted is None:
                return False
            entry.trials += wanted
            for trial in wanted:
                if self._done(trial):
                    self._watch(Stopped(_member(trial), "finished"))
                else:
                    entry.missing.append(trial)
        return bool(entry.missing)

    def _steps(self, label: str, settings: Config) -> Iterator[list[Trial]]:
        """Yield the trials of an entry; each list when all before it have ended."""
        rates = [settings.optimizer.chosen.learning_rate]
        if self._settings.tuning:
            scores = yield from self._tuned(label, settings, self._settings.tuning)
            rates = plan.best_rate(scores)
        if not rates:  # no learning rate trains
            self._plan(-len(self._settings.seeds))
        yield trials(label, "result", settings, rates, self._settings.seeds)

    def _tuned(
        self, label: str, settings: Config, tuning: plan.Tuning
    ) -> Generator[list[Trial], None, dict[float, float]]:
        """Try learning rates until the best of them lies between two others; return all scores."""
        rates = first = tuning.rates(settings.optimizer.chosen.learning_rate)
        tried: list[Trial] = []
        while True:
            added = trials(label, "tuning", settings, rates, tuning.seeds)
            known = all(map(self._done, added))
            yield added
            tried += added
            scores = plan.scores([self._ended(trial).outcome for trial in tried])
            wanted = tuning.grown(scores)
            rates = wanted[: tuning.growth - (len(scores) - len(first))]
            if not wanted:
                return scores
            best = plan.best_rate(scores)
            why = f"{best[0]:g} is best, at its edge" if best else "all of it diverged"
            more = " and ".join(f"{rate:g}" for rate in rates)
            grows = f"grows by {more}" if more else "has grown by all that tuning.growth allows"
            if not known:
                self._watch(Note(f"{label}: the grid {grows}: {why}"))
            if not rates:
                return scores
            self._plan(len(rates) * len(tuning.seeds))

    def _submit(self, pool: Pool, chosen: Sequence[Trial]) -> None:
        for trial in chosen:
            self._tell_why(trial)
        if pool.most > 1:
            self._watch(Phase(f"{chosen[0].label}: {len(chosen)} member{'s' * (len(chosen) > 1)}"))
        pool.submit([_wanted(trial) for trial in chosen])

    def _is_tried_again(self, trial: Trial, why: str) -> bool:
        """Tell whether a trial whose worker ended is trained again."""
        self._lost[trial].append(why)
        if len(self._lost[trial]) < TRIES:
            self._watch(Warned(f"{trial}: {why}; it is tried again"))
            return True
        self._watch(Stopped(_member(trial), "failed", why))
        return False

    def _refuse_lost(self) -> None:
        """Refuse to go on without trials that ended their workers: what is paired needs them.

        Raises:
            RunError: there are such trials; all others are done.
        """
        lost = [f"{t}: its worker ended {len(w)} times: {w[-1]}" for t, w in self._lost.items()]
        if lost:
            raise RunError(
                "\n".join(lost),
                hint="all other trials are done; the same command tries these again, or goes on "
                "without their optimizer or seed if you leave it out",
            )

    def _end(self, trial: Trial, done: Done) -> None:
        """Seal a trial that ended."""
        self._lost.pop(trial, None)
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
        quantity = label_of(ended.quantity)
        came_to = done.error or f"best validation {quantity} {ended.outcome.best:.2f}"
        self._watch(Note(f"{trial}: {came_to}"))

    def _ended(self, trial: Trial) -> Ended:
        return self._ledger.ended[self.key(trial)]

    def _plan(self, more: int = 0) -> None:
        """Tell how many members there are, after so many more."""
        self._members += more
        self._watch(Planned(self._members, self._settings.base.epochs))

    def _done(self, trial: Trial) -> bool:
        """Tell whether a trial is sealed, and its run is there if it leaves one.

        What is sealed under its key, but is not of this trial, is discarded.
        """
        key = self.key(trial)
        ended = self._ledger.ended.get(key)
        if ended is None:
            return False
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
        return ended.label == trial.label and members.is_there(run, ended)

    def _tell_why(self, trial: Trial) -> None:
        """Tell of a trial that is trained again because something of it is gone."""
        key, run = self.key(trial), self._folder.path / trial.run_name
        ended, file = self._ledger.ended.get(key), self._ledger.file(key)
        if ended is None and self._ledger.was_sealed(key):
            what = "damaged or changed" if file.exists() else "gone"
            self._watch(Warned(f"{file}: {what}: {trial} is trained again"))
        if ended is not None and ended.label == trial.label and not run.exists():
            self._watch(Warned(f"{run}: gone: {trial} is trained again"))


def _leave_if_asked(stopping: Stopping) -> None:
    if stopping():
        raise KeyboardInterrupt  # the first signal only asked to stop


def _differences(ledger: Ledger, place: Device) -> list[str]:
    """Say what differs from when the trials that are there ran, and may change last bits."""
    records = [trial.record for trial in ledger.ended.values() if trial.record]
    versions = environment.versions()
    found = [each for r in records for each in resumption.differences(r, versions, place)]
    return list(dict.fromkeys(found))


def _member(trial: Trial) -> str:
    """Return a short name that tells a trial from all others."""
    of_tuning = f" at {trial.learning_rate:g}" if trial.stage == "tuning" else ""
    return trial.run_name + of_tuning


def _wanted(trial: Trial) -> Wanted:
    run = trial.run_name if trial.stage == "result" else None
    return Wanted(_member(trial), trial.settings, run)


def _program(settings: Config, dataset: data.Dataset) -> Program:
    return Program.of(settings, images=len(dataset.train.images), image_shape=dataset.image_shape)


@final
class _Entry:
    """An entry of the comparison under way."""

    def __init__(self, steps: Iterator[list[Trial]]) -> None:
        self.steps = steps
        self.trials: list[Trial] = []
        """All trials that it has asked for."""
        self.missing: list[Trial] = []
        """Those to train."""
        self.training: set[Trial] = set()
        """Those under way."""
        self.stuck = False
        """True if a trial that it waits for was given up, because its workers ended."""
